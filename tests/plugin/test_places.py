"""Places on the server go to the instances that play: the others leave theirs, and ask for none."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from backline.service.server import start_server
from backline_client import Client
from backline_protos.v1 import backline_pb2 as pb
from tests.plugin.answers import PASSTHROUGH, Answers, ready, serving
from tests.plugin.drive import (
    BYPASS,
    DEFAULT,
    IDLE,
    LATE,
    PLAYING,
    REFUSED,
    ROLLING,
    SEED,
    STOPPED,
    Drive,
    driver,
)
from tests.plugin.server_process import in_time, server_process

RATE, BLOCK = 48_000, 512


def await_status(drive: Drive, status: int, seconds: float) -> None:
    assert int(drive.say("await", status, seconds, BLOCK)) >= 0, drive.message()


def open_sessions(client: Client) -> int:
    return len(client.sessions())


# ---- who plays, and who does not ---------------------------------------------------------


@pytest.fixture
def one_place() -> Iterator[str]:
    """A server that has room for a single session."""
    with start_server(max_sessions=1, load=["passthrough"]) as server:
        yield server.address


@pytest.mark.slow
def test_a_place_is_left_by_who_stops_and_taken_by_who_plays(built: Path, tmp_path: Path, one_place: str) -> None:
    with ExitStack() as stack:
        drives = []
        for number in range(3):
            folder = tmp_path / str(number)
            folder.mkdir()
            drive = stack.enter_context(driver(built, folder, one_place))
            drive.say("sing", 0)
            drive.activate(RATE, seconds=0.5)
            drives.append(drive)
        hosts = Hosts(drives)
        stack.enter_context(hosts)
        hosts.let_live(3.0)
        assert [drive.status() for drive in drives] == [IDLE] * 3
        for number in (2, 0):
            hosts.play(number)
            hosts.let_live(1.0)
            assert drives[number].status() in (PLAYING, LATE), drives[number].message()
            hosts.stop(number)
            hosts.let_live(3.0)
            assert drives[number].status() == IDLE, drives[number].message()


class Hosts:
    """Hosts that all call their instances in real time, whether they play or stand still."""

    def __init__(self, drives: list[Drive]) -> None:
        self.drives = drives
        self._pool = ThreadPoolExecutor(len(drives))
        for drive in drives:
            drive.say("roll", STOPPED)

    def __enter__(self) -> Hosts:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def play(self, number: int) -> None:
        self.drives[number].say("roll", ROLLING)
        self.drives[number].say("sing", 1)

    def stop(self, number: int) -> None:
        self.drives[number].say("roll", STOPPED)
        self.drives[number].say("sing", 0)

    def let_live(self, seconds: float) -> list[Any]:
        """What each has heard and played meanwhile [sample, column]."""
        return list(self._pool.map(lambda drive: drive.run(round(seconds * RATE), BLOCK, 1), self.drives))


@pytest.mark.slow
def test_of_ten_instances_of_the_band_the_one_that_plays_is_heard_within_three_seconds(
    built: Path, tmp_path: Path
) -> None:
    address = f"unix:{tmp_path}/socket"
    with ExitStack() as stack:
        server = stack.enter_context(server_process(address, ["default"]))
        client = stack.enter_context(Client(address))
        stack.enter_context(in_time(server))
        drives = []
        for number in range(10):
            folder = tmp_path / str(number)
            folder.mkdir()
            drive = stack.enter_context(driver(built, folder, address))
            drive.say("set", SEED, 7)
            drive.say("sing", 0)
            drive.activate(RATE, BLOCK, seconds=2.9, pack=DEFAULT)
            drives.append(drive)
        hosts = stack.enter_context(Hosts(drives))
        hosts.let_live(5.0)
        assert open_sessions(client) == 0
        for number in (9, 0, 4):
            hosts.play(number)
            audio = hosts.let_live(5.0)[number]
            wet = np.flatnonzero((audio[:, 4:] != 0).any(axis=1))
            assert len(wet), drives[number].message()
            assert wet[0] <= 3 * RATE, (wet[0] / RATE, drives[number].message())
            assert open_sessions(client) == 1
            hosts.stop(number)
            hosts.let_live(3.0)


def test_bypassed_or_no_longer_called_an_instance_leaves_its_place(built: Path, tmp_path: Path, one_place: str) -> None:
    with driver(built, tmp_path, one_place) as drive, Client(one_place) as client:
        drive.activate(RATE, seconds=0.5)
        await_status(drive, PLAYING, 10)
        drive.say("set", BYPASS, 1)
        drive.run(3 * RATE, BLOCK, 1)
        assert open_sessions(client) == 0
        drive.say("set", BYPASS, 0)
        await_status(drive, PLAYING, 2)
        assert open_sessions(client) == 1
        until = time.monotonic() + 10
        while open_sessions(client):  # and no call meanwhile
            assert time.monotonic() < until
            time.sleep(0.1)
        assert drive.status() == IDLE
        await_status(drive, PLAYING, 2)


# ---- what a server may say ---------------------------------------------------------


@pytest.mark.slow
def test_who_waits_for_a_place_asks_seldom_and_at_once_on_play(built: Path, tmp_path: Path) -> None:
    def full(_: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "all places are taken")
        yield b""

    answers = Answers(full)
    with serving(answers) as address, driver(built, tmp_path, address) as drive:
        drive.say("roll", ROLLING)
        drive.activate(RATE, seconds=0.5)
        drive.run(9 * RATE, BLOCK, 1)
        assert drive.status() == REFUSED
        assert "all places are taken" in drive.message()
        # One with the play, one soon after, when others may have left, and then every half a minute.
        assert len(answers.streams) == 2, np.diff(answers.streams)
        assert answers.unary == 1, "what a pack is need not be asked again"
        drive.say("roll", STOPPED)
        drive.say("sing", 0)
        drive.run(5 * RATE // 2, BLOCK, 1)
        assert len(answers.streams) == 2, "who does not play asks for nothing"
        drive.say("roll", ROLLING)
        drive.run(RATE // 2, BLOCK, 1)
        assert len(answers.streams) == 3


def test_a_project_whose_pack_the_server_lacks_asks_seldom_and_at_once_for_another_text(
    built: Path, tmp_path: Path
) -> None:
    """Whatever is written in it: each text that a project brings is as new as one that somebody writes."""

    def nothing(_: Iterator[bytes], __: grpc.ServicerContext) -> Iterator[bytes]:
        yield from ()

    answers = Answers(nothing, pack=None)
    with serving(answers) as address, driver(built, tmp_path, address) as drive:
        drive.say("write", "prompt", "a rhodes")
        assert drive.say("reload") == ""
        drive.activate(RATE, seconds=0.5)
        drive.run(RATE, BLOCK, 1)
        assert answers.unary == 1
        assert drive.status() == REFUSED, drive.message()
        drive.say("write", "prompt", "drums")
        drive.run(RATE // 2, BLOCK, 1)
        assert answers.unary == 2
        assert not answers.streams


@pytest.mark.slow
def test_who_comes_back_has_the_seed_of_the_take(built: Path, tmp_path: Path) -> None:
    """Also where the seed was left to chance; another one is drawn with another activation."""

    def patient(requests: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
        yield ready()
        for _ in requests:
            pass

    answers = Answers(patient)
    with serving(answers) as address, driver(built, tmp_path, address) as drive:
        for _ in range(2):
            drive.say("roll", ROLLING)
            drive.say("sing", 1)
            drive.activate(RATE, seconds=0.5)
            drive.run(RATE // 2, BLOCK, 1)
            drive.say("roll", STOPPED)
            drive.say("sing", 0)
            drive.run(5 * RATE // 2, BLOCK, 1)
            assert drive.status() == IDLE
            drive.say("roll", ROLLING)
            drive.run(RATE // 2, BLOCK, 1)
            drive.say("deactivate")
    first, again, another, once_more = (opening.seed for opening in answers.openings)
    assert first == again
    assert another == once_more
    assert first != another


def test_a_session_that_the_server_ends_as_idle_is_opened_again_without_haste(built: Path, tmp_path: Path) -> None:
    def idle(_: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        yield ready()
        context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "nothing came for a minute")

    answers = Answers(idle)
    with serving(answers) as address, driver(built, tmp_path, address) as drive:
        drive.activate(RATE, seconds=0.5)
        drive.run(4 * RATE, BLOCK, 1)
        assert 2 <= len(answers.streams) <= 9, "each time later"
        (seed,) = {opening.seed for opening in answers.openings}  # the take's, though it was left to chance
        assert 1 <= seed <= 999_999, "as the parameter Seed takes it"


def test_a_chunk_that_failed_costs_one_new_session_and_no_storm(built: Path, tmp_path: Path) -> None:
    def broken(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        yield ready()
        next(requests)
        context.abort(grpc.StatusCode.ABORTED, "the model could not play this chunk")

    answers = Answers(broken)
    with serving(answers) as address, driver(built, tmp_path, address) as drive:
        drive.activate(RATE, seconds=0.5)
        drive.run(4 * RATE, BLOCK, 1)
        assert 2 <= len(answers.streams) <= 3, "one at once, and one a little later"
        assert drive.status() == REFUSED
        assert "could not play this chunk" in drive.message()


@pytest.mark.parametrize("takes_notes", [True, False])
def test_a_chord_that_is_held_leads_the_next_session_too(built: Path, tmp_path: Path, takes_notes: bool) -> None:
    """Of packs that take notes: others are not told what was played before them."""
    heard: list[list[pb.ClientMessage]] = []

    def unsteady(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        yield ready()
        heard.append([])
        for request in requests:
            message = pb.ClientMessage.FromString(request)
            heard[-1].append(message)
            if len(heard) == 1 and message.WhichOneof("message") == "midi":
                context.abort(grpc.StatusCode.ABORTED, "this session is over")

    pack = pb.Pack(takes_notes=takes_notes)
    pack.MergeFrom(PASSTHROUGH)
    with serving(Answers(unsteady, pack)) as address, driver(built, tmp_path, address) as drive:
        drive.activate(RATE, seconds=0.5)
        await_status(drive, PLAYING, 10)
        drive.say("note", 1_001)
        drive.run(RATE, BLOCK, 1)
        assert drive.sessions() == 2, drive.message()
    struck = [message.midi for message in heard[0] if message.WhichOneof("message") == "midi"]
    assert [midi.data for midi in struck] == [bytes([0x90, 60, 100])]
    kinds = [message.WhichOneof("message") for message in heard[1]]
    told = [message.midi for message in heard[1] if message.WhichOneof("message") == "midi"]
    if not takes_notes:
        assert not told
        return
    assert kinds.index("midi") < kinds.index("audio")
    start = heard[1][kinds.index("audio")].audio.position
    assert [(midi.data, midi.position) for midi in told] == [(struck[0].data, max(start, struck[0].position))]


def test_a_bounce_hears_nothing_of_what_was_held_before_it(built: Path, tmp_path: Path) -> None:
    """A region that ends in the midst of a note leaves it held: the next bounce is the same all the same, and whoever
    plays live after it is not led by it.
    """
    heard: list[list[tuple[int, bytes]]] = []

    def echo(requests: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
        yield ready()
        heard.append([])
        for request in requests:
            message = pb.ClientMessage.FromString(request)
            if message.WhichOneof("message") == "midi":
                heard[-1].append((message.midi.position, message.midi.data))
            if message.WhichOneof("message") == "audio":
                yield pb.ServerMessage(audio=message.audio).SerializeToString()

    pack = pb.Pack(takes_notes=True)
    pack.MergeFrom(PASSTHROUGH)
    with serving(Answers(echo, pack)) as address, driver(built, tmp_path, address) as drive:
        drive.say("offline", 1)
        drive.activate(RATE, seconds=0.5)
        for _ in range(2):
            drive.say("note", 1_001)
            drive.run(RATE, BLOCK, 0)
            drive.say("reset")
        drive.say("offline", 0)
        drive.run(RATE, BLOCK, 1)
        assert drive.sessions() == len(heard) >= 3
    first, second = (notes for notes in heard if notes)
    assert [data for _, data in first] == [data for _, data in second] == [bytes([0x90, 60, 100])]
    assert second[0][0] - first[0][0] >= RATE - BLOCK


@pytest.mark.paced
def test_a_proxy_that_ends_each_stream_after_a_megabyte_is_named(built: Path, tmp_path: Path) -> None:
    """As nginx does with client_max_body_size at its default."""

    def proxied(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        yield ready()
        passed = 0
        for request in requests:
            passed += len(request)
            if passed > 1 << 20:
                context.abort(grpc.StatusCode.INTERNAL, "cut")

    answers = Answers(proxied)
    with serving(answers) as address, driver(built, tmp_path, address) as drive:
        drive.activate(96_000, seconds=0.5)
        drive.say("run", 96_000 * 4, BLOCK, 1, tmp_path / "audio")
        assert len(answers.streams) >= 3, "it connects again at once"
        assert "client_max_body_size" in drive.message()


# ---- what must not end the DAW --------------------------------------------------


def test_a_want_of_memory_in_the_worker_is_told_and_survived(built: Path, tmp_path: Path, one_place: str) -> None:
    """A block of 8192 samples wants 64 KiB at once."""
    short = {"LD_PRELOAD": str(built / "out_of_memory.so"), "BACKLINE_LARGE": "60000", "BACKLINE_REFUSALS": "2"}
    with driver(built, tmp_path, one_place, **short) as drive:
        drive.activate(RATE, 8192, seconds=1.0)
        seen = set()
        for _ in range(30):
            drive.run(8192, 8192, 1)
            seen.add(drive.say("status").split(maxsplit=6)[6].partition(" (")[0])
        assert "The plugin met a problem of its own" in seen
        assert drive.status() == PLAYING, drive.message()


# ---- too small a budget ---------------------------------------------------------


def test_a_ledger_that_exceeds_the_budget_is_no_matter_while_nothing_is_missed(built: Path, tmp_path: Path) -> None:
    """The ledger tells the worst that a session has met, and never falls."""

    def punctual(requests: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
        yield ready()
        ledger = pb.Ledger(items=[pb.LedgerItem(name="compute", seconds=5.0)], total_seconds=5.0)
        yield pb.ServerMessage(ledger=ledger).SerializeToString()
        late = False
        for request in requests:
            message = pb.ClientMessage.FromString(request)
            if message.WhichOneof("message") != "audio":
                continue
            late = late or message.audio.position > 2 * RATE
            if not late:
                yield pb.ServerMessage(audio=message.audio).SerializeToString()

    with serving(Answers(punctual)) as address, driver(built, tmp_path, address) as drive:
        drive.activate(RATE, seconds=0.5)
        drive.run(3 * RATE // 2, BLOCK, 1)
        assert drive.status() == PLAYING, drive.message()
        drive.run(2 * RATE, BLOCK, 1)
        assert "Raise Latency budget" in drive.message(), "now something is"
