"""MIDI clock, as it comes: early and late, faster and slower, with gaps, started, stopped and continued."""

from collections.abc import Iterable

import numpy as np
import pytest

from backline.cli.beat import Beat, Metre, ToldBeat
from backline.cli.midi_clock import CONTINUE, SONG_POSITION, START, STOP, TICK, TICKS, MidiClock

TRUE_START = 1_000.0  # seconds
RATE = 48_000


def ticks(tempos: Iterable[float], jitter: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Seconds at which ticks are meant and at which they come, each after a tick of the next tempo."""
    periods = 60.0 / TICKS / np.array(list(tempos))
    meant = TRUE_START + np.concatenate([[0.0], np.cumsum(periods)[:-1]])
    came = meant + np.random.default_rng(seed).uniform(-jitter, jitter, len(meant))
    return meant, np.maximum.accumulate(came)


def tick(clock: MidiClock, seconds: float, lost: int = 0) -> None:
    clock.hear(bytes([TICK]), seconds, lost)


def told(clock: MidiClock) -> Beat:
    beat = clock.beat
    assert beat is not None
    return beat


def milliseconds_off(beat: Beat, seconds: float, quarters: float) -> float:
    return abs(beat.quarters_at(seconds) - quarters) * 60_000 / beat.tempo


@pytest.mark.parametrize("tempo", [47.3, 76, 120, 174.5])
@pytest.mark.parametrize("jitter", [0.0, 0.001])
def test_after_four_beats_tempo_and_phase_are_those_that_were_meant(tempo: float, jitter: float) -> None:
    for seed in range(2):
        clock = MidiClock()
        clock.hear(bytes([START]), TRUE_START - 0.1)
        for number, (meant, came) in enumerate(zip(*ticks([tempo] * 8 * TICKS, jitter, seed), strict=True)):
            tick(clock, came)
            if number >= 4 * TICKS:
                assert told(clock).tempo == pytest.approx(tempo, abs=0.1)
                assert milliseconds_off(told(clock), meant, number / TICKS) < 5


@pytest.mark.parametrize("seed", range(2))
def test_a_restless_clock_still_gives_the_phase_and_outliers_move_nothing(seed: int) -> None:
    """Tempo: four beats of 120 with 3 ms of jitter either way tell it to 0.036 a minute (standard error)."""
    clock = MidiClock()
    clock.hear(bytes([START]), TRUE_START)
    meant, came = ticks([120] * 8 * TICKS, 0.003, seed)
    came[::20] += 0.015
    came = np.maximum.accumulate(came)
    for number, at in enumerate(came):
        tick(clock, at)
        if number >= 4 * TICKS:
            assert told(clock).tempo == pytest.approx(120, abs=4 * 0.036)
            assert milliseconds_off(told(clock), meant[number], number / TICKS) < 5


@pytest.mark.parametrize("tempo", [100, 119.5, 120.4, 126, 180])
def test_four_beats_after_another_tempo_it_is_that_one(tempo: float) -> None:
    clock = MidiClock()
    clock.hear(bytes([START]), TRUE_START)
    meant, came = ticks([120] * 200 + [tempo] * 200, 0.0005)
    for number, at in enumerate(came):
        tick(clock, at)
        if number >= 200 + 4 * TICKS:
            assert told(clock).tempo == pytest.approx(tempo, abs=0.1)
            assert milliseconds_off(told(clock), meant[number], number / TICKS) < 5


def test_a_slow_change_of_tempo_is_followed() -> None:
    clock = MidiClock()
    clock.hear(bytes([START]), TRUE_START)
    meant, came = ticks(np.linspace(120, 135, 20 * TICKS), 0.001)
    for number, at in enumerate(came):
        tick(clock, at)
        if number >= 4 * TICKS:
            assert milliseconds_off(told(clock), meant[number], number / TICKS) < 6


def test_the_song_begins_with_the_tick_after_start_and_goes_on_from_where_it_stopped() -> None:
    clock = MidiClock()
    meant, _ = ticks([120] * 400, 0.0)
    place = iter(meant)

    def run(count: int) -> float:
        at = 0.0
        for _ in range(count):
            tick(clock, at := float(next(place)))
        return at

    at = run(2 * TICKS)  # it ticks, and stands
    assert clock.beat is None
    clock.hear(bytes([START]), at + 0.001)
    at = run(1)
    assert told(clock).playing
    assert told(clock).quarters_at(at) == pytest.approx(0.0, abs=1e-6)
    at = run(TICKS)
    assert told(clock).quarters_at(at) == pytest.approx(1.0, abs=1e-6)
    clock.hear(bytes([STOP]), at + 0.001)
    at = run(30)
    assert not told(clock).playing
    assert told(clock).quarters_at(at) == pytest.approx(1 + 1 / TICKS)
    clock.hear(bytes([CONTINUE]), at + 0.001)
    at = run(1)
    assert told(clock).quarters_at(at) == pytest.approx(1 + 1 / TICKS, abs=1e-6)
    clock.hear(bytes([STOP]), at)
    clock.hear(bytes([SONG_POSITION, 5, 1]), at)  # 133 sixteenths
    clock.hear(bytes([CONTINUE]), at + 0.001)
    at = run(1)
    assert told(clock).quarters_at(at) == pytest.approx(133 / 4, abs=1e-6)


@pytest.mark.parametrize("before", [0, 10, 200])
@pytest.mark.parametrize("gap", [1.0, 1.8, 3.1, 20.0])
@pytest.mark.parametrize("word", [START, CONTINUE])
def test_a_pause_of_the_clock_as_it_starts_is_no_part_of_the_song(before: int, gap: float, word: int) -> None:
    """DAWs that tick while they stand hold their ticks back for a moment."""
    clock, period = MidiClock(), 60.0 / 120 / TICKS
    _, standing = ticks([120] * before, 0.0005)
    for at in standing:
        tick(clock, at)
    begin = TRUE_START + (before - 1 + gap) * period
    clock.hear(bytes([word]), begin - 0.001)
    meant, came = ticks([120] * 4 * TICKS, 0.0005)
    for number, at in enumerate(came - TRUE_START + begin):
        tick(clock, at)
        if before >= 10 or number >= TICKS:
            assert milliseconds_off(told(clock), meant[number] - TRUE_START + begin, number / TICKS) < 1.5


def test_a_clock_that_ticks_only_while_it_plays_is_known_within_a_beat_at_another_tempo() -> None:
    clock = MidiClock()
    for tempo, later in ((120.0, 0.0), (90.0, 60.0)):
        clock.hear(bytes([START]), TRUE_START + later)
        meant, came = ticks([tempo] * TICKS, 0.0003)
        for at in came + later:
            tick(clock, at)
        assert told(clock).tempo == pytest.approx(tempo, abs=0.5)
        assert milliseconds_off(told(clock), meant[-1] + later, (TICKS - 1) / TICKS) < 2
        clock.hear(bytes([STOP]), meant[-1] + later)


def test_a_cable_that_is_out_for_two_bars_loses_no_beat() -> None:
    clock = MidiClock()
    clock.hear(bytes([START]), TRUE_START)
    meant, came = ticks([120] * 500, 0.0005)
    for number in [*range(150), *range(350, 500)]:
        if number == 350:
            assert clock.silent_since(came[number] - 0.001)
        tick(clock, came[number])
        if number >= 150:
            assert milliseconds_off(told(clock), meant[number], number / TICKS) < 5


def test_ticks_that_are_held_up_and_come_at_once_move_nothing() -> None:
    clock = MidiClock()
    clock.hear(bytes([START]), TRUE_START)
    meant, came = ticks([120] * 400, 0.0005)
    for first in (200, 290):
        came[first : first + 10] = came[first + 10]  # 0.2 s late, and less and less
    for number, at in enumerate(came):
        tick(clock, at)
        if number >= 150:
            assert told(clock).tempo == pytest.approx(120, abs=0.1)
            assert milliseconds_off(told(clock), meant[number], number / TICKS) < 5


def test_ticks_that_are_known_to_be_lost_are_counted() -> None:
    clock = MidiClock()
    clock.hear(bytes([START]), TRUE_START)
    meant, came = ticks([120] * 400, 0.0005)
    for number in [*range(200), *range(203, 300), *range(301, 400)]:
        tick(clock, came[number], 0 if number < 200 else 5 if number < 300 else 6)  # notes may be lost, too
        if number in (199, 299, 399):
            assert told(clock).tempo == pytest.approx(120, abs=0.1)
            assert milliseconds_off(told(clock), meant[number], number / TICKS) < 5


@pytest.mark.parametrize("stall", [0.9, 1.0, 1.1, 3.0])
def test_a_sender_that_stalls_has_not_played_on(stall: float) -> None:
    """What one sends are all its ticks, in their order: one that comes late by a whole tick is none that was lost."""
    clock = MidiClock()
    clock.hear(bytes([START]), TRUE_START)
    meant, came = ticks([120] * 1_000, 0.0005)
    late = np.where(np.arange(1_000) < 700, 0.0, stall * 60 / 120 / TICKS)
    for number, at in enumerate(came + late):
        tick(clock, at, 3 if number >= 100 else 0)  # notes were lost, long before
        if number >= 100:
            tick_lies_at = meant[number] + late[number]
            assert milliseconds_off(told(clock), tick_lies_at, number / TICKS) < (2 if not 700 <= number < 706 else 70)


def test_one_that_never_says_where_it_is_gives_no_beat_and_that_is_known() -> None:
    clock = MidiClock()
    for at in ticks([120] * 300, 0.0)[1]:
        tick(clock, at)
    assert clock.beat is None
    assert clock.lost_place


def test_a_flood_of_ticks_is_no_tempo() -> None:
    clock = MidiClock()
    clock.hear(bytes([START]), TRUE_START)
    for _ in range(500):
        tick(clock, TRUE_START)
        assert clock.beat is None
    for strange in (b"\xf2", b"\xf1\x10", b"\xff"):
        clock.hear(strange, TRUE_START)


# ---- what a session is told --------------------------------------------------------------------------


def test_a_session_is_told_of_a_trembling_beat_once_and_of_a_drifting_one_before_it_is_off() -> None:
    told, at, off = ToldBeat(RATE, Metre(6, 8)), Beat(0.0, 7.0, 120.0), 0.001
    first = told.news(at, 0, 0.0)
    assert first is not None
    assert (first.tempo, first.song_position, first.bar_start, first.numerator) == (120.0, 7.0, 6.0, 6)
    for second in range(1, 10):
        off = -off
        assert told.news(Beat(second + off, 7.0 + 2 * second, 120.02), second * RATE, float(second)) is None
    assert told.news(Beat(10.0, 27.01, 120.0), 10 * RATE, 10.0) is not None  # by 5 ms
    assert told.news(Beat(11.0, 29.01, 121.0), 11 * RATE, 11.0) is not None  # it would be
    stopped = told.news(Beat(12.0, 31.0, 121.0, playing=False), 12 * RATE, 12.0)
    assert stopped is not None
    assert not stopped.playing
    assert told.news(Beat(13.0, 31.0, 121.0, playing=False), 13 * RATE, 13.0) is None
