"""Levels, drift, silence and clipping of signals made to have them."""

import numpy as np
import pytest
from numpy.typing import NDArray

from backline.measures.level import (
    QUIETEST_DBFS,
    clip_share,
    level_dbfs,
    level_drift,
    level_excursion,
    silence_share,
)

RATE = 2_000
EMPTY = np.zeros(0, np.float32)


def noise(seconds: float) -> NDArray[np.float32]:
    return 0.1 * np.random.default_rng(0).standard_normal(round(seconds * RATE), dtype=np.float32)


def ramp(decibels: float, seconds: float) -> NDArray[np.float32]:
    """Noise whose level grows evenly by so many dB from begin to end."""
    sound = noise(seconds)
    return (sound * 10 ** (np.linspace(0, decibels, len(sound)) / 20)).astype(np.float32)


def test_a_square_of_full_scale_has_0_dbfs_a_sine_3_less_and_silence_the_least() -> None:
    square = np.tile(np.array([1, -1], np.float32), RATE)
    assert level_dbfs(square) == pytest.approx(0)
    assert level_dbfs(np.sin(2 * np.pi * np.arange(RATE) / 80).astype(np.float32)) == pytest.approx(-3.01, abs=0.01)
    assert level_dbfs(square * np.float32(0.1)) == pytest.approx(-20)
    assert level_dbfs(np.full(1, 0.1, np.float32)) == pytest.approx(-20)
    assert level_dbfs(EMPTY) == level_dbfs(np.zeros(9, np.float32)) == QUIETEST_DBFS


@pytest.mark.parametrize("decibels", [-12.0, 0.0, 6.0])
def test_a_ramp_drifts_by_what_it_climbs_in_ten_minutes(decibels: float) -> None:
    assert level_drift(ramp(decibels, 600.0), RATE) == pytest.approx(decibels, abs=0.1)
    assert level_drift(ramp(decibels, 300.0), RATE) == pytest.approx(2 * decibels, abs=0.2)
    # The middles of the first and the last span lie half a span from the ends.
    assert level_excursion(ramp(decibels, 600.0), RATE) == pytest.approx(abs(decibels) / 2 * 590 / 600, abs=0.3)


def test_a_rest_is_an_excursion_and_no_drift() -> None:
    sound = noise(300.0)
    sound[100 * RATE : 110 * RATE] *= 0.1
    assert level_drift(sound, RATE) == pytest.approx(0.0, abs=0.2)
    assert level_excursion(sound, RATE) == pytest.approx(20.0, abs=0.2)


def test_silence_does_not_drift() -> None:
    assert level_drift(np.zeros(60 * RATE, np.float32), RATE) == 0.0
    assert level_excursion(np.zeros(60 * RATE, np.float32), RATE) == 0.0


@pytest.mark.parametrize("audio", [EMPTY, np.ones(1, np.float32), noise(19.9)])
def test_drift_of_less_than_two_spans_is_refused(audio: NDArray[np.float32]) -> None:
    for measure in (level_drift, level_excursion):
        with pytest.raises(ValueError, match="two spans of 10 s"):
            measure(audio, RATE)


def test_silence_is_counted_in_tenths_of_a_second() -> None:
    sound = noise(10.0)
    sound[2 * RATE : 5 * RATE] = 0
    sound[7 * RATE : 7 * RATE + RATE // 20] = 0  # half a tenth
    assert silence_share(sound, RATE) == pytest.approx(0.3)
    assert silence_share(noise(1.0) * 1e-3, RATE) == 1.0  # -80 dBFS
    assert silence_share(EMPTY, RATE) == 1.0
    assert silence_share(np.zeros(1, np.float32), RATE) == 1.0
    assert silence_share(np.ones(1, np.float32), RATE) == 0.0


def test_clipping_is_counted_in_samples_on_both_sides_and_with_what_is_no_number() -> None:
    sound = np.zeros(100, np.float32)
    sound[:8] = [1, -1, 0.999, -0.9991, 2, np.nan, 0.998, -0.998]
    assert clip_share(sound) == 0.06
    assert clip_share(EMPTY) == 0.0
    assert clip_share(np.ones(1, np.float32)) == 1.0
