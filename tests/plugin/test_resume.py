"""A session outlives its connection: over cuts nothing of it is lost, doubled or moved, and what does not come is dry.

The pack passes everything through, so the main output is the input at the reported latency whatever happens: dry or
wet, and while one becomes the other. The first stem is wet alone, and says which of them it was.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from backline_client import Client
from tests.plugin.drive import CONNECTING, ON_JUMP, PLAYING, ROLLING, STOPPED, Drive, driver, played_exactly
from tests.plugin.server_process import in_time, server_process
from tests.support.network import Network

RATE = 48_000
PATIENCE = 10  # seconds, until it plays
ON_ITS_WAY = RATE // 10  # samples at most, either way, when it is cut
FADED = 5  # milliseconds, between dry and wet
Columns = NDArray[np.float32]  # [sample, column]
Server = tuple[str, subprocess.Popen[str]]  # its address, and its process


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with server_process(address) as process:
        yield address, process


@contextmanager
def playing(
    built: Path, tmp_path: Path, server: Server, *, seconds: float, block: int = 512
) -> Iterator[tuple[Drive, int, Network]]:
    """The core through a network of its own once it plays, with this latency budget; and its latency."""
    guard, (address, process) = str(built / "realtime_guard.so"), server
    with (
        in_time(process),
        Network(address) as network,
        driver(built, tmp_path, network.address, LD_PRELOAD=guard) as drive,
    ):
        latency = drive.activate(RATE, abs(block), seconds=seconds)
        assert int(drive.say("await", PLAYING, PATIENCE, 512)) >= 0, drive.message()
        drive.run(latency + RATE // 10, 512, 1)  # until what came before the session has left
        yield drive, latency, network


def in_its_place(audio: Columns, latency: int) -> bool:
    """Whether the main output is the input, this much later, to the last sample but where wet fades to dry."""
    same = np.abs(audio[latency:, 2:4] - audio[: len(audio) - latency, :2]).max(axis=1) < 1e-6
    wet = played_exactly(audio, latency)
    for broken in np.flatnonzero(wet[:-1] & ~wet[1:]):
        same[broken : broken + FADED * RATE // 1000] = True
    return bool(same.all())


def sessions(address: str) -> list[str]:
    with Client(address) as client:
        return [each.state for each in client.sessions()]


@pytest.mark.slow
@pytest.mark.paced
@pytest.mark.parametrize("block", [32, 480, -2048])
def test_a_cut_within_the_latency_is_not_heard(built: Path, tmp_path: Path, server: Server, block: int) -> None:
    with playing(built, tmp_path, server, seconds=2.0, block=block) as (drive, latency, network):
        parts = [drive.run(RATE, block, 1)]
        for _ in range(2):
            network.cut()
            parts.append(drive.run(RATE // 2, block, 1))
            network.mend()
            parts.append(drive.run(2 * RATE, block, 1))
        assert drive.sessions() == 1
        assert drive.status() == PLAYING, drive.message()
        assert played_exactly(np.concatenate(parts), latency).all()


@pytest.mark.slow
@pytest.mark.paced
@pytest.mark.parametrize("block", [64, -512])
def test_beyond_the_latency_it_is_dry_and_goes_on_at_the_present(
    built: Path, tmp_path: Path, server: Server, block: int
) -> None:
    with playing(built, tmp_path, server, seconds=0.5, block=block) as (drive, latency, network):
        parts = [drive.run(RATE // 2, block, 1)]
        network.cut()
        parts.append(drive.run(3 * RATE, block, 1))
        assert drive.status() == CONNECTING, drive.message()
        missing = drive.missing()
        network.mend()
        parts.append(drive.run(3 * RATE, block, 1))
        assert drive.sessions() == 1
        assert drive.status() == PLAYING, drive.message()
        assert 2 * RATE < missing < drive.missing() < 5 * RATE
        audio = np.concatenate(parts)
        assert in_its_place(audio, latency)
        wet = played_exactly(audio, latency)
        assert wet[: RATE // 2 - ON_ITS_WAY].all(), "it plays on what had come before the cut"
        assert wet[-RATE:].all(), "it is back, in its place"
        assert not audio[RATE + latency : 3 * RATE, 4:6].any(), "it is dry meanwhile"


@pytest.mark.slow
@pytest.mark.paced
def test_however_often_its_bytes_get_lost_nothing_of_it_is(built: Path, tmp_path: Path, server: Server) -> None:
    drawn = np.random.default_rng(5)
    with playing(built, tmp_path, server, seconds=2.0) as (drive, latency, network):
        network.swallow = lambda: drawn.random() < 0.003
        audio = drive.run(8 * RATE, -700, 1)
        network.swallow = None
        audio = np.concatenate([audio, drive.run(2 * RATE, -700, 1)])
        assert drive.sessions() == 1
        assert played_exactly(audio, latency).all()


@pytest.mark.slow
def test_a_bounce_goes_on_over_cuts(built: Path, tmp_path: Path, server: Server) -> None:
    pieces = 0

    def swallow() -> bool:
        nonlocal pieces
        pieces += 1
        return pieces % 200 == 0

    with Network(server[0]) as network, driver(built, tmp_path, network.address) as drive:
        drive.say("offline", 1)
        latency = drive.activate(RATE, seconds=0.1)
        audio = drive.run(RATE, -1500, 0)
        network.swallow = swallow
        audio = np.concatenate([audio, drive.run(20 * RATE, -1500, 0)])
        network.swallow = None
        assert int(drive.say("await", PLAYING, PATIENCE, 512)) >= 0, drive.message()  # the last cut may just have been
        assert drive.sessions() == 1
    assert pieces > 600, "it has been cut"
    assert played_exactly(audio, latency).all()


@pytest.mark.slow
@pytest.mark.paced
def test_a_session_that_is_left_is_not_kept(built: Path, tmp_path: Path, server: Server) -> None:
    with playing(built, tmp_path, server, seconds=0.5) as (drive, _, _):
        assert sessions(server[0]) == ["streaming"]
        assert float(drive.say("deactivate")) < 0.1
        deadline = time.monotonic() + 1
        while sessions(server[0]) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert sessions(server[0]) == []


LOOP = (8.0, 16.0)  # quarters: two bars, which last 4 s at 120
BOUNCED = 20  # seconds at a time


@pytest.mark.slow
@pytest.mark.parametrize("new_takes", [False, True])
def test_a_loop_of_two_bars_plays_in_time_for_ten_minutes(
    built: Path, tmp_path: Path, server: Server, new_takes: bool
) -> None:
    """With a pre-roll before it; the host stops and starts again once in between."""
    rate = 8_000  # that ten minutes of sixteen columns are no more than there is room for
    with driver(built, tmp_path, server[0]) as drive:
        drive.say("set", ON_JUMP, int(new_takes))
        drive.say("offline", 1)
        drive.say("roll", ROLLING)
        drive.say("loop", *LOOP)
        latency = drive.activate(rate, seconds=0.5)
        drive.say("song", LOOP[0] - 4.0)
        before = drive.run(2 * rate, -700, 0)
        drive.say("song", LOOP[0])
        stopped = False  # what came while the song stands is dry
        for minute in range(600 // BOUNCED):
            audio = np.concatenate([before[-latency:], drive.run(BOUNCED * rate, -700, 0)])
            played = played_exactly(audio, latency)[latency + FADED * rate // 1000 if stopped else 0 :]
            assert played.all(), f"after {minute * BOUNCED} s"
            stopped = minute == 15
            before = audio
            if stopped:
                drive.say("roll", STOPPED)
                before = np.concatenate([before, drive.run(rate, 512, 0)])
                assert played_exactly(before[-rate - 2 * latency : -rate], latency).all()
                drive.say("roll", ROLLING)
        assert drive.status() == PLAYING, drive.message()
        assert drive.sessions() <= 3, "the first, and those of a start"
