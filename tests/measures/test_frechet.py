"""Frechet distances of Gaussians whose distance is known, and the statistics that they are taken of."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import default_rng
from numpy.typing import NDArray

from backline.measures.frechet import (
    Statistics,
    VocalGap,
    distance,
    fad,
    frames_needed,
    frechet_distance,
)


def covariance(seed: int, dimensions: int, rank: int) -> NDArray[np.float64]:
    factor = default_rng(seed).standard_normal((dimensions, rank))
    return factor @ factor.T


def test_shifted_gaussians_lie_their_squared_shift_apart() -> None:
    shift = np.array([3.0, -4.0, 0.0, 12.0])
    cov = covariance(1, 4, 4)
    assert frechet_distance(shift, cov, np.zeros(4), cov) == pytest.approx(169.0)


def test_spreads_add_the_squared_difference_of_their_deviations() -> None:
    deviations_a, deviations_b = np.array([1.0, 2.0, 0.5]), np.array([4.0, 2.0, 0.0])
    distance = frechet_distance(np.ones(3), np.diag(deviations_a**2), np.zeros(3), np.diag(deviations_b**2))
    assert distance == pytest.approx(3.0 + 9.0 + 0.0 + 0.25)


def test_correlation_alone_is_a_distance() -> None:
    """cov_b = [[1, r], [r, 1]] against the identity: its roots are (1 + r)^1/2 and (1 - r)^1/2."""
    correlation = 0.6
    expected = 4.0 - 2.0 * (np.sqrt(1.6) + np.sqrt(0.4))
    cov = np.array([[1.0, correlation], [correlation, 1.0]])
    assert frechet_distance(np.zeros(2), np.eye(2), np.zeros(2), cov) == pytest.approx(expected)


def test_turning_both_gaussians_changes_nothing() -> None:
    turn, _ = np.linalg.qr(default_rng(2).standard_normal((5, 5)))
    cov_a, cov_b, mean = covariance(3, 5, 5), covariance(4, 5, 5), np.arange(5.0)
    straight = frechet_distance(mean, cov_a, np.zeros(5), cov_b)
    turned = frechet_distance(turn @ mean, turn @ cov_a @ turn.T, np.zeros(5), turn @ cov_b @ turn.T)
    assert turned == pytest.approx(straight)


@pytest.mark.parametrize("rank", [0, 1, 3, 8])
def test_a_gaussian_of_any_rank_is_nowhere_from_itself(rank: int) -> None:
    cov = covariance(5, 8, rank)
    assert frechet_distance(np.ones(8), cov, np.ones(8), cov) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(("rank_a", "rank_b"), [(8, 8), (8, 2), (0, 5), (1, 1)])
def test_the_distance_is_symmetric_at_any_rank(rank_a: int, rank_b: int) -> None:
    cov_a, cov_b = covariance(6, 8, rank_a), covariance(7, 8, rank_b)
    mean_a, mean_b = np.zeros(8), np.full(8, 0.5)
    there = frechet_distance(mean_a, cov_a, mean_b, cov_b)
    assert there > 0.0
    assert frechet_distance(mean_b, cov_b, mean_a, cov_a) == pytest.approx(there)


def test_a_point_lies_from_a_gaussian_by_shift_and_spread() -> None:
    cov = covariance(8, 6, 6)
    assert frechet_distance(np.full(6, 2.0), cov, np.zeros(6), np.zeros((6, 6))) == pytest.approx(24.0 + np.trace(cov))


def test_orthogonal_lines_share_nothing() -> None:
    """Rank 1 each, at right angles: what cov_a and cov_b have in common is 0."""
    cov_a, cov_b = np.diag([4.0, 0.0]), np.diag([0.0, 9.0])
    assert frechet_distance(np.zeros(2), cov_a, np.zeros(2), cov_b) == pytest.approx(13.0)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(0, 1000))
def test_frames_in_portions_give_the_statistics_of_them_all(portions: list[int], seed: int) -> None:
    frames = 1000.0 + default_rng(seed).standard_normal((sum(portions) + 2, 3))  # far from 0, where rounding shows
    statistics = Statistics.of(np.split(frames, np.cumsum(portions)))
    assert statistics.n == len(frames)
    np.testing.assert_allclose(statistics.mean, frames.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(statistics.covariance, np.cov(frames, rowvar=False), rtol=1e-6, atol=1e-9)


def test_statistics_refuse_what_would_spoil_them() -> None:
    statistics = Statistics(3)
    with pytest.raises(ValueError, match=r"\[4, 2\], must be \[frame, 3\]"):
        statistics.add(np.zeros((4, 2)))
    with pytest.raises(ValueError, match="not finite"):
        statistics.add(np.array([[0.0, np.nan, 0.0]]))
    with pytest.raises(ValueError, match="0 frames have no covariance"):
        _ = statistics.covariance
    with pytest.raises(ValueError, match="nothing"):
        Statistics.of([])


def test_a_set_is_nowhere_from_itself_and_draws_of_one_gaussian_close_in_with_more_frames() -> None:
    draws = default_rng(9).standard_normal((2, 4000, 5))
    few = fad(Statistics.of([draws[0, :100]]), Statistics.of([draws[1, :100]]))
    many = fad(Statistics.of([draws[0]]), Statistics.of([draws[1]]))
    assert 0.0 < many < few / 5
    assert fad(Statistics.of([draws[0]]), Statistics.of([draws[0]])) == pytest.approx(0.0, abs=1e-9)


def test_the_distance_of_sets_is_that_of_their_gaussians() -> None:
    """Two points a side: means 1 and 4, unbiased variances 2 and 18, whose roots differ by 8^1/2."""
    one, other = Statistics.of([np.array([[0.0], [2.0]])]), Statistics.of([np.array([[1.0], [7.0]])])
    assert fad(one, other) == pytest.approx(9.0 + 8.0)


def test_too_few_frames_are_said_and_how_many_are_needed() -> None:
    frames = default_rng(10).standard_normal((20, 8))
    enough, lacking = Statistics.of([frames]), Statistics.of([frames[:8]])
    assert frames_needed(8) == 9
    for pair in ((enough, lacking), (lacking, enough)):
        with pytest.raises(ValueError, match="8 frames say nothing of 8 dimensions: give at least 9"):
            fad(*pair)
    with pytest.raises(ValueError, match="8 and 7 dimensions"):
        fad(enough, Statistics.of([frames[:, :7]]))


def songs(shift: float, count: int = 6, seed: int = 0) -> list[NDArray[np.float64]]:
    """Frames [frame, 2] of songs that differ."""
    draw = default_rng(seed)
    return [draw.standard_normal((40, 2)) + 0.3 * draw.standard_normal(2) + shift for _ in range(count)]


def test_a_distance_has_the_jackknifes_error_over_songs() -> None:
    found, reference = songs(1.0), songs(0.0, seed=1)
    far = distance(found, reference)
    assert far.whole == fad(Statistics.of(found), Statistics.of(reference))
    without = [
        fad(Statistics.of(found[:n] + found[n + 1 :]), Statistics.of(reference[:n] + reference[n + 1 :]))
        for n in range(6)
    ]
    np.testing.assert_allclose(far.without, without)
    assert far.error == pytest.approx(np.sqrt(5 / 6 * np.sum(np.square(without - np.mean(without)))))
    assert distance(found[:1], reference[:1]).error is None


def test_the_error_is_about_what_other_songs_would_change() -> None:
    many = [distance(songs(1.0, 12, seed), songs(0.0, 12, seed + 1000)) for seed in range(60)]
    spread = float(np.std([one.whole for one in many]))
    errors = [one.error for one in many if one.error is not None]
    assert spread / 1.6 < float(np.mean(errors)) < 1.6 * spread


def test_the_gap_is_the_magnitude_of_the_difference_whichever_is_greater() -> None:
    near, far = distance(songs(1.0), songs(0.0, seed=1)), distance(songs(3.0), songs(0.0, seed=1))
    assert VocalGap(near, far).gap.whole == VocalGap(far, near).gap.whole == far.whole - near.whole > 0
    assert VocalGap(near, near).gap.error == 0
