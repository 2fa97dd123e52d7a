"""Which sample a moment is: as exact as the arrivals, and no more certain than they are."""

import numpy as np
import pytest

from backline.doors.levels import SILENT, Levels
from backline.doors.sample_clock import SampleClock

RATE, BLOCK = 48_000, 256


def arrivals(seconds: float, rate: float = RATE) -> np.ndarray:
    """When each block's last sample is captured, from second 1,000 on."""
    return 1_000 + np.arange(1, int(seconds * rate / BLOCK)) * BLOCK / rate


def heard(seconds: np.ndarray, late: np.ndarray) -> SampleClock:
    clock = SampleClock(RATE)
    for index, at in enumerate(seconds + late):
        clock.observe(at, (index + 1) * BLOCK)
    return clock


def test_blocks_that_come_in_time_make_it_exact() -> None:
    times = arrivals(3.0)
    clock = heard(times, np.zeros(len(times)))
    assert clock.position_at(1_003.5) == round(3.5 * RATE)
    assert clock.seconds_at(RATE) == pytest.approx(1_001.0, abs=1e-9)
    assert clock.jitter_seconds < 1e-6


@pytest.mark.parametrize("rate", [RATE, RATE * (1 + 3e-4)])
def test_blocks_that_come_late_by_chance_move_it_by_less_than_they_are_late(rate: float) -> None:
    times = arrivals(10.0, rate)
    late = np.random.default_rng(1).uniform(0.0, 0.004, len(times))
    clock = heard(times, late)
    off = clock.position_at(1_010.0) - (10.0 - 0.002) * rate  # the mean of what they are late
    assert abs(off) / RATE < 5e-4
    assert clock.jitter_seconds == pytest.approx(late.std(), rel=0.2)


def test_a_client_that_pauses_begins_it_anew() -> None:
    times = arrivals(3.0)
    clock = heard(times, np.where(np.arange(len(times)) < len(times) // 2, 0.0, 5.0))
    assert clock.position_at(times[-1] + 5.0) == len(times) * BLOCK
    assert clock.jitter_seconds < 1e-6


def test_levels_are_those_of_what_is_heard_now() -> None:
    levels = Levels(RATE)
    sound = np.zeros((2, RATE), np.float32)
    sound[0, RATE // 2 :] = 0.5
    levels.add(0, sound)  # a second of it at once, as a chunk comes
    levels.look(RATE // 4)
    assert levels.now == (SILENT, SILENT)
    levels.look(RATE * 3 // 4)
    assert levels.now[0] == pytest.approx(-6.02, abs=0.01)
    for _ in range(20):  # nothing new
        levels.look(RATE * 3 // 4)
    assert levels.now == (SILENT, SILENT)
