"""Timing: Visibility and Chunk as they are set, or as the server advises for the network and the latency budget."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from backline_protos.v1 import backline_pb2 as pb
from tests.plugin.answers import Answers, ready, serving
from tests.plugin.drive import (
    AS_SET,
    AUTO,
    BUDGET_TOO_SMALL,
    CHUNK,
    DEFAULT,
    PLAYING,
    ROLLING,
    TIMING,
    VISIBILITY,
    Drive,
    driver,
)
from tests.plugin.server_process import in_time, server_process
from tests.support.network import Network, Weather

RATE, BLOCK = 48_000, 512
PACK = pb.Pack(
    name="passthrough",
    ports=[pb.OutputPort(name="main", channels=2)],
    chunk_quantum_seconds=0.01,
    default_chunk_seconds=0.1,
    maximum_chunk_seconds=1.0,
    minimum_visibility_seconds=-1.0,
)
ADVICE = pb.Advice(
    verdict=pb.VERDICT_SAFE, chunk_seconds=0.04, visibility_seconds=-0.25, latency_seconds=0.2, reason="network 80 ms"
)


def stays(requests: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
    yield ready()
    for _ in requests:
        pass


def await_status(drive: Drive, status: int, seconds: float) -> None:
    assert int(drive.say("await", status, seconds, BLOCK)) >= 0, drive.message()


def opened(drive: Drive, answers: Answers, sessions: int) -> None:
    """Plays until that many sessions have been asked for, and some more."""
    for _ in range(50):
        drive.run(RATE // 5, BLOCK, 1)
        if len(answers.openings) >= sessions:
            drive.run(RATE // 2, BLOCK, 1)
            return
    raise AssertionError(drive.message())


def asked_for(answers: Answers) -> list[tuple[float, float]]:
    return [(round(each.chunk_seconds, 6), round(each.visibility_seconds, 6)) for each in answers.openings]


def test_auto_plays_as_the_server_advises_and_what_is_set_counts_no_more(built: Path, tmp_path: Path) -> None:
    answers = Answers(stays, PACK, ADVICE)
    with (
        serving(answers) as address,
        Network(address, Weather(round_trip=0.08)) as network,
        driver(built, tmp_path, network.address) as drive,
    ):
        drive.say("set", TIMING, AUTO)
        drive.say("roll", ROLLING)
        drive.activate(RATE, BLOCK, seconds=0.6)
        opened(drive, answers, 1)
        (request,) = answers.asked
        assert request.open.pack == "passthrough"
        assert 0.08 <= request.round_trip_seconds < 0.5
        assert request.latency_seconds == pytest.approx(0.6, abs=0.001)
        assert request.tempo > 0, "it plays ahead by whole beats"
        assert "Timing auto chose chunks of 0.040 s" in drive.message()
        assert "safe (network 80 ms)" in drive.message()
        drive.say("set", VISIBILITY, -0.5)
        drive.say("set", CHUNK, 0.02)
        drive.run(RATE, BLOCK, 1)
        assert asked_for(answers) == [(0.04, -0.25)]
        drive.say("set", TIMING, AS_SET)
        drive.run(RATE, BLOCK, 1)
        opened(drive, answers, 2)
        assert asked_for(answers) == [(0.04, -0.25), (0.02, -0.5)]
        assert "auto" not in drive.message()


def test_a_bounce_plays_by_what_was_heard_and_asks_only_where_nothing_was(built: Path, tmp_path: Path) -> None:
    answers = Answers(stays, PACK, ADVICE)
    with serving(answers) as address, driver(built, tmp_path, address) as drive:
        drive.say("set", TIMING, AUTO)
        drive.activate(RATE, BLOCK, seconds=0.6)
        await_status(drive, PLAYING, 10)
        drive.say("deactivate")
        drive.say("offline", 1)
        drive.activate(RATE, BLOCK, seconds=0.6)
        drive.say("await", PLAYING, 2, BLOCK)
        assert asked_for(answers) == [(0.04, -0.25)] * 2
        assert len(answers.asked) == 1
        drive.say("deactivate")
        drive.activate(RATE, BLOCK, seconds=0.8)  # which nobody has heard
        drive.say("await", PLAYING, 2, BLOCK)
        assert asked_for(answers)[2:] == [(0.04, -0.25)]
        assert len(answers.asked) == 2


def test_a_server_that_cannot_advise_plays_as_it_is_set(built: Path, tmp_path: Path) -> None:
    answers = Answers(stays, PACK)
    with serving(answers) as address, driver(built, tmp_path, address) as drive:
        drive.say("set", TIMING, AUTO)
        drive.say("set", CHUNK, 0.02)
        drive.activate(RATE, BLOCK, seconds=0.6)
        await_status(drive, PLAYING, 10)
        assert asked_for(answers) == [(0.02, 0.0)]
        assert "auto" not in drive.message()


def test_where_nothing_keeps_time_it_says_so_in_brief(built: Path, tmp_path: Path) -> None:
    hopeless = pb.Advice(verdict=pb.VERDICT_INFEASIBLE, chunk_seconds=0.1, reason="a chunk's compute 190 ms")
    answers = Answers(stays, PACK, hopeless)
    with serving(answers) as address, driver(built, tmp_path, address) as drive:
        drive.say("set", TIMING, AUTO)
        drive.activate(RATE, BLOCK, seconds=0.6)
        await_status(drive, PLAYING, 10)
        assert drive.say("brief").startswith("use a nearer or faster server, or a smaller pack")
        assert "infeasible (a chunk's compute 190 ms)" in drive.message()


@pytest.mark.slow
def test_who_is_refused_for_want_of_a_place_asks_once_for_advice(built: Path, tmp_path: Path) -> None:
    def full(_: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "all places are taken")
        yield b""

    answers = Answers(full, PACK, ADVICE)
    with serving(answers) as address, driver(built, tmp_path, address) as drive:
        drive.say("set", TIMING, AUTO)
        drive.say("roll", ROLLING)
        drive.activate(RATE, seconds=0.5)
        drive.run(9 * RATE, BLOCK, 1)
        assert len(answers.streams) == 2
        assert len(answers.asked) == 1


@pytest.mark.slow
@pytest.mark.paced
def test_the_band_plays_in_time_where_its_own_timing_needs_more_than_the_budget(built: Path, tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/socket"
    with (
        server_process(address, ["default"]) as process,
        in_time(process),
        driver(built, tmp_path, address) as drive,
    ):
        drive.say("set", TIMING, AS_SET)
        drive.say("roll", ROLLING)
        drive.activate(RATE, BLOCK, seconds=1.5, pack=DEFAULT)
        await_status(drive, BUDGET_TOO_SMALL, 30)
        drive.say("deactivate")
        drive.say("set", TIMING, AUTO)
        drive.activate(RATE, BLOCK, seconds=1.5, pack=DEFAULT)
        await_status(drive, PLAYING, 30)
        drive.run(4 * RATE, BLOCK, 1)
        missing = drive.missing()
        audio = drive.run(5 * RATE, BLOCK, 1)
        assert drive.status() == PLAYING, drive.message()
        assert drive.missing() == missing
        assert np.abs(audio[:, 4:]).max() > 0.01, "and it is heard"
