"""Onsets are found where they were put, and the figures fall with what is moved, missing or added."""

import numpy as np
import pytest
from numpy.typing import NDArray

from backline.measures.rhythm import onset_agreement, onset_f, onsets, onsets_met

RATE = 24_000
GRID: NDArray[np.float64] = 0.25 + 0.3 * np.arange(40, dtype=np.float64)  # seconds: eighths at 100 beats a minute


def clicks(times: NDArray[np.floating], rate: int = RATE, level: float = 0.5) -> NDArray[np.float32]:
    """Short bursts of noise that begin at these times, in 13 s."""
    rng = np.random.default_rng(0)
    audio = np.zeros(13 * rate, np.float32)
    burst = np.exp(-np.arange(rate // 20) / (0.01 * rate))
    for time in times:
        begin = round(time * rate)
        audio[begin : begin + len(burst)] += (level * burst * rng.normal(size=len(burst))).astype(np.float32)
    return audio


@pytest.mark.parametrize("rate", [16_000, 24_000, 44_100, 48_000])
@pytest.mark.parametrize("level", [0.01, 0.5])
def test_clicks_are_found_within_10_ms_at_every_rate_and_level(rate: int, level: float) -> None:
    times = GRID + np.random.default_rng(1).uniform(-0.03, 0.03, len(GRID))
    found = onsets(clicks(times, rate, level), rate)
    assert len(found) == len(times)
    assert np.abs(found - times).max() < 0.01


def test_notes_are_found_under_a_held_chord() -> None:
    time = np.arange(13 * RATE) / RATE
    held = 0.1 * np.sum([np.sin(2 * np.pi * hertz * time) for hertz in (220, 277, 330)], axis=0)
    assert onset_f((clicks(GRID, level=0.2) + held).astype(np.float32), RATE, GRID) > 0.95


def test_clicks_on_the_grid_score_one_and_between_its_points_nothing() -> None:
    assert onset_f(clicks(GRID), RATE, GRID) == 1.0
    assert onset_f(clicks(GRID + 0.15), RATE, GRID) == 0.0


def test_half_of_the_grid_played_is_a_recall_of_one_half() -> None:
    assert onset_f(clicks(GRID[::2]), RATE, GRID) == pytest.approx(2 / 3, abs=0.01)  # precision 1, recall 1/2


def test_half_of_the_onsets_off_the_grid_is_a_precision_of_one_half() -> None:
    assert onset_f(clicks(np.concatenate([GRID, GRID + 0.15])), RATE, GRID) == pytest.approx(2 / 3, abs=0.01)


def test_jitter_beyond_the_window_costs_what_it_moves_out() -> None:
    offset = np.where(np.arange(len(GRID)) % 4 == 0, 0.1, 0.02)  # every fourth is late
    assert onset_f(clicks(GRID + offset), RATE, GRID) == pytest.approx(0.75, abs=0.01)
    assert onset_f(clicks(GRID + 0.02), RATE, GRID) == 1.0
    assert onset_f(clicks(GRID + 0.06), RATE, GRID, window=0.1) == 1.0


def test_onsets_at_random_meet_a_third_of_the_points() -> None:
    rng = np.random.default_rng(2)
    chances = [onset_f(clicks(np.sort(rng.uniform(0.2, 12.5, 40))), RATE, GRID) for _ in range(8)]
    assert np.mean(chances) == pytest.approx(1 / 3, abs=0.08)


def test_a_recording_agrees_with_itself_at_any_level_and_not_with_itself_late() -> None:
    times = np.cumsum(np.random.default_rng(3).choice([0.2, 0.3, 0.45], 35))
    wanted = clicks(times)
    assert onset_agreement(0.1 * wanted, wanted, RATE) == 1.0
    assert onset_agreement(np.roll(wanted, RATE // 10), wanted, RATE) < 0.1


def test_without_onsets_nothing_agrees() -> None:
    steady = np.sin(2 * np.pi * 220 * np.arange(13 * RATE) / RATE).astype(np.float32)
    assert len(onsets(steady, RATE)) <= 2  # where it is switched on and off
    for audio in (np.zeros(0, np.float32), np.zeros(1, np.float32), np.zeros(RATE, np.float32)):
        assert len(onsets(audio, RATE)) == 0
        assert onset_f(audio, RATE, GRID) == 0.0
        assert onset_agreement(audio, clicks(GRID), RATE) == 0.0
        assert onset_agreement(clicks(GRID), audio, RATE) == 0.0
    assert onset_f(clicks(GRID), RATE, np.zeros(0)) == 0.0


def test_steady_noise_has_hardly_an_onset() -> None:
    noise = 0.1 * np.random.default_rng(4).standard_normal(10 * RATE, dtype=np.float32)
    assert len(onsets(noise, RATE)) < 15


def test_onsets_are_met_by_who_listens_and_not_by_who_plays_as_much_elsewhere() -> None:
    rng = np.random.default_rng(3)
    sung = np.sort(rng.choice(GRID, 15, replace=False))
    assert onsets_met(clicks(sung), clicks(GRID), RATE) > 0.4  # every one, of which chance has a third
    assert onsets_met(clicks(sung), clicks(np.sort(rng.uniform(0.1, 12.5, 40))), RATE) < 0.2
    assert onsets_met(clicks(sung), clicks(GRID + 0.15), RATE) < 0
    assert onsets_met(np.zeros(RATE, np.float32), clicks(GRID), RATE) == 0.0
