"""A bounce is never dry in silence: whether or not the host says that it bounces, it is wet, or the status says why."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.plugin.drive import (
    DEFAULT,
    FAILED,
    PLAYING,
    SEED,
    VISIBILITY,
    driver,
    played_exactly,
)
from tests.plugin.server_process import server_process

RATE = 48_000
BLOCKS = pytest.mark.parametrize("block", [64, 512, 4096])


def missing(audio: NDArray[np.float32], latency: int) -> int:
    """Samples for which output was due and did not come: no stem holds anything there."""
    return int((audio[latency:, 4:] == 0.0).all(axis=1).sum())


# ---- hosts that pull faster than time and do not say so ---------------------------------------------------------


@BLOCKS
@pytest.mark.parametrize("speed", [10, 0])
def test_whoever_pulls_faster_than_time_gets_every_sample(
    built: Path, tmp_path: Path, served_address: str, block: int, speed: int
) -> None:
    with driver(built, tmp_path, served_address) as drive:
        latency = drive.activate(RATE, block, seconds=0.5)
        audio = drive.run(8 * RATE, block, speed)
        assert drive.status() == PLAYING, drive.message()
    assert played_exactly(audio, latency).all()


@BLOCKS
def test_where_it_is_found_too_late_the_status_says_so(
    built: Path, tmp_path: Path, served_address: str, block: int
) -> None:
    """A hundredth of a second of latency is over before anyone can know how the host pulls."""
    with driver(built, tmp_path, served_address) as drive:
        latency = drive.activate(RATE, block, seconds=0.01)
        audio = drive.run(4 * RATE, block, 10)
        if not played_exactly(audio, latency).all():
            assert drive.status() == FAILED, drive.message()
            assert "bounce again" in drive.message()
        assert played_exactly(audio, latency)[-RATE:].all(), "found in the end"


def test_a_hurried_bounce_after_live_playing_is_wet(built: Path, tmp_path: Path, served_address: str) -> None:
    """As DAWs do it: they play, stop, jump back and pull the song through as fast as it goes."""
    with driver(built, tmp_path, served_address) as drive:
        latency = drive.activate(RATE, seconds=0.5)
        assert int(drive.say("await", PLAYING, 10, 512)) >= 0
        for _ in range(2):
            drive.run(RATE // 2, 512, 1)
            drive.say("reset")
            audio = drive.run(5 * RATE, 512, 0)
            assert drive.status() == PLAYING, drive.message()
            assert played_exactly(audio, latency).all()


def test_without_a_server_a_hurried_bounce_fails_in_words_and_at_once(built: Path, tmp_path: Path) -> None:
    with driver(built, tmp_path, f"unix:{tmp_path}/none") as drive:
        drive.activate(RATE, seconds=0.5)
        begin = time.monotonic()
        audio = drive.run(10 * RATE, 512, 0)
        assert time.monotonic() - begin < 5
        assert not audio[:, 4:].any()
        assert drive.status() == FAILED
        assert "passed dry" in drive.message()
        assert "backline serve" in drive.message()


@pytest.mark.slow
def test_a_server_that_dies_in_a_hurried_bounce_fails_it_in_words(built: Path, tmp_path: Path) -> None:
    served = f"unix:{tmp_path}/socket"
    with driver(built, tmp_path, served) as drive:
        with server_process(served) as server:
            latency = drive.activate(RATE, seconds=0.5)
            assert played_exactly(drive.run(4 * RATE, 512, 10), latency).all()
            server.kill()
            server.wait()
        begin = time.monotonic()
        drive.run(10 * RATE, 512, 10)
        assert time.monotonic() - begin < 10
        assert drive.status() == FAILED
        assert "passed dry" in drive.message() or "holds dry" in drive.message()


@pytest.mark.slow
@BLOCKS
def test_the_band_is_there_for_whoever_pulls_ten_times_faster_than_time(
    built: Path, tmp_path: Path, band_address: str, block: int
) -> None:
    with driver(built, tmp_path, band_address) as drive:
        drive.say("set", SEED, 7)
        latency = drive.activate(RATE, block, seconds=3.0, pack=DEFAULT)
        audio = drive.run(12 * RATE, block, 10)
        assert drive.status() == PLAYING, drive.message()
    assert (audio[latency:, 2:4] == audio[latency:, 4:6]).all(), "the main output is the band and nothing else"
    assert (audio[latency + RATE :, 4:].reshape(-1, RATE // 2 * 8) != 0).any(axis=1).all(), "it plays all the time"


@pytest.fixture(scope="module")
def band_address(tmp_path_factory: pytest.TempPathFactory) -> object:
    """Where a server with the accompaniment pack listens."""
    address = f"unix:{tmp_path_factory.mktemp('band')}/socket"
    with server_process(address, ["default"]):
        yield address


# ---- hosts that say so with each call ---------------------------------------------------------


def test_what_each_call_says_of_itself_is_heard(built: Path, tmp_path: Path, served_address: str) -> None:
    """Ardour's way: a session that plays live, and calls of an export among those of real time. Twice the same."""
    with driver(built, tmp_path, served_address) as drive:
        latency = drive.activate(RATE, seconds=0.25)
        for _ in range(2):
            drive.say("bounce", 0)
            drive.run(RATE // 4, 512, 1)
            drive.say("bounce", 1)
            audio = drive.run(4 * RATE, -700, 0)
            assert drive.status() == PLAYING, drive.message()
            assert not audio[:latency, 2:].any(), "nothing of what was played before"
            assert played_exactly(audio, latency).all()


@pytest.mark.slow
def test_the_band_is_the_same_in_both_exports(built: Path, tmp_path: Path, band_address: str) -> None:
    exports = []
    with driver(built, tmp_path, band_address) as drive:
        drive.say("set", SEED, 7)
        latency = drive.activate(RATE, seconds=3.0, pack=DEFAULT)
        for _ in range(2):
            drive.say("bounce", 0)
            drive.run(RATE // 4, 512, 1)
            drive.say("bounce", 1)
            drive.say("sing", 1)  # the same noise each time
            exports.append(drive.run(8 * RATE, 512, 0))
            assert drive.status() == PLAYING, drive.message()
    assert (exports[0][latency + RATE :, 4:].reshape(-1, RATE // 2 * 8) != 0).any(axis=1).all()
    np.testing.assert_array_equal(exports[0], exports[1])


@pytest.mark.parametrize("said", ["offline", "bounce"])
def test_without_a_server_a_bounce_fails_soon_and_waits_once(built: Path, tmp_path: Path, said: str) -> None:
    with driver(built, tmp_path, f"unix:{tmp_path}/none") as drive:
        drive.say(said, 1)
        drive.activate(RATE, seconds=0.01)
        first = drive.say("run", RATE, 512, 0, tmp_path / "first")
        assert float(first) < 2.0, "the longest call"
        assert drive.status() == FAILED
        assert "backline serve" in drive.message()
        for _ in range(3):
            drive.say("reset")  # each a bounce of its own
            assert float(drive.say("run", RATE, 512, 0, tmp_path / "next")) < 0.5
        assert drive.status() == FAILED


# ---- what opens another session ---------------------------------------------------------


@pytest.mark.parametrize(("parameter", "low", "high"), [(SEED, 1, 900), (VISIBILITY, 0.5, 1.0)])
def test_a_bounce_under_automation_opens_two_sessions_and_is_the_same_again(
    built: Path, tmp_path: Path, served_address: str, parameter: int, low: float, high: float
) -> None:
    """The automation runs for three seconds and stands still; where that is, the second session begins."""
    with driver(built, tmp_path, served_address) as drive:
        drive.say("offline", 1)
        latency = drive.activate(RATE, seconds=1.5)
        for _ in range(2):
            drive.say("set", parameter, low)
            drive.say("reset")
            before = drive.sessions()
            drive.say("sweep", parameter, low, high, 960)
            moving = drive.run(3 * RATE, 480, 0)
            drive.say("sweep", parameter, low, high, 0)
            audio = np.concatenate([moving, drive.run(3 * RATE, 480, 0)])
            assert drive.sessions() - before == 2
            assert drive.status() == PLAYING, drive.message()
            assert played_exactly(audio, latency).all()


def test_live_a_knob_that_is_dragged_leaves_the_session_alone_until_it_rests(
    built: Path, tmp_path: Path, served_address: str
) -> None:
    with driver(built, tmp_path, served_address) as drive:
        latency = drive.activate(RATE, 128, seconds=1.0)
        assert int(drive.say("await", PLAYING, 10, 128)) >= 0
        drive.run(latency + 4_800, 128, 1)
        drive.say("sweep", VISIBILITY, 0.5, 1.0, 960)
        moving = drive.run(2 * RATE, 128, 1)
        assert drive.sessions() == 1
        assert missing(moving, 0) < RATE // 10, "it has played on meanwhile"
        drive.say("sweep", VISIBILITY, 0.5, 1.0, 0)
        settled = drive.run(2 * RATE, 128, 1)
        assert drive.sessions() == 2
        assert missing(settled, 0) < RATE // 10, "the other one goes on where the first has left off"
