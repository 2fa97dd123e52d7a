"""Counter-based uniforms: the same everywhere, even, and independent between seeds, streams and counters."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from backline.kernels.random import normal_array, uniform, uniform_array

WORD = st.integers(0, 2**64 - 1)


def uniform_by_big_integers(seed: int, stream: int, counter: int) -> float:
    """The definition in Python's unbounded integers."""
    golden, wrap = 0x9E3779B97F4A7C15, 2**64

    def mix(x: int) -> int:
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % wrap
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % wrap
        return x ^ (x >> 31)

    key = mix((seed + golden) % wrap)
    key = mix(key ^ ((stream + golden) % wrap))
    return (mix((key + counter * golden) % wrap) >> 40) / 2**24


@settings(deadline=None)  # the first call compiles
@given(WORD, WORD, WORD)
def test_numba_and_numpy_equal_the_definition(seed: int, stream: int, counter: int) -> None:
    expected = uniform_by_big_integers(seed, stream, counter)
    words = np.array([seed, stream, counter], dtype=np.uint64)
    assert uniform(words[0], words[1], words[2]) == expected
    assert uniform_array(seed, stream, [words[2]])[0] == expected


def test_values_stay_what_they_are() -> None:
    """Recorded sessions must sound the same after an update."""
    expected = [uniform_by_big_integers(1, 2, n) for n in range(3)]
    assert [float(x) for x in uniform_array(1, 2, np.arange(3))] == expected == PINNED


PINNED = [0.16502660512924194, 0.5876164436340332, 0.9521474242210388]


def test_values_lie_in_zero_to_one_and_fill_it_evenly() -> None:
    values = uniform_array(7, 0, np.arange(1 << 16))
    assert values.dtype == np.float32
    assert values.min() >= 0
    assert values.max() < 1
    counts, _ = np.histogram(values, bins=64, range=(0, 1))
    expected = len(values) / 64
    assert ((counts - expected) ** 2 / expected).sum() < 120  # chi square of 63 degrees: 1e-5 lies above


@pytest.mark.parametrize("other", [(8, 0, 0), (7, 1, 0), (7, 0, 1), (0, 7, 0)])
def test_neighbouring_seeds_streams_and_counters_are_unrelated(other: tuple[int, int, int]) -> None:
    counters = np.arange(1 << 14)
    seed, stream, shift = other
    correlation = np.corrcoef(uniform_array(7, 0, counters), uniform_array(seed, stream, counters + shift))[0, 1]
    assert abs(correlation) < 0.04  # five standard deviations


def test_normal_numbers_are_normal_and_independent_of_how_they_are_asked_for() -> None:
    drawn = normal_array(7, 3, np.arange(200_000))
    assert drawn.dtype == np.float32
    assert stats.kstest(drawn, "norm").pvalue > 0.01
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.01
    assert abs(np.corrcoef(drawn, normal_array(7, 4, np.arange(200_000)))[0, 1]) < 0.01
    np.testing.assert_array_equal(normal_array(7, 3, [[5, 100_000], [9, 1]]), drawn[[[5, 100_000], [9, 1]]])
