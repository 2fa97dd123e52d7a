"""Choosing a token against the same rule by sorting."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from backline.kernels.choose import choose, kth_largest, ordered_keys


def chosen(logits: NDArray[np.float32], temperature: float, top_k: int, u: float, top_p: float = 1.0) -> int:
    size = -(-len(logits) // 16) * 16
    padded = np.zeros(size, np.float32)
    padded[: len(logits)] = logits
    keys, weights = np.zeros(size, np.int32), np.zeros(size, np.float32)
    return choose(padded, keys, weights, len(logits), temperature, top_k, np.float32(u), np.float32(top_p))


@settings(deadline=None)
@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=70), st.data())
def test_the_kth_largest_is_that_of_a_sort(values: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(values)))
    floats = np.array(values, np.float32) + np.float32(0)  # no negative zero, which sorts as equal to zero
    keys = np.zeros(len(values), np.int32)
    ordered_keys(floats, keys, len(values))
    assert kth_largest(keys, len(values), k) == np.sort(keys)[-k]
    np.testing.assert_array_equal(np.sort(floats), floats[np.argsort(keys, kind="stable")])


@pytest.mark.parametrize("vocabulary", [5, 500, 1024])
@pytest.mark.parametrize("top_k", [0, 1, 3, 250, 2000])
@pytest.mark.parametrize("temperature", [0.3, 0.9, 5.0])
def test_tokens_are_where_the_cumulative_probability_passes_the_number(
    vocabulary: int, top_k: int, temperature: float
) -> None:
    rng = np.random.default_rng(vocabulary + top_k)
    logits = rng.normal(size=vocabulary).astype(np.float32) * 3
    scaled = logits / np.float32(temperature)
    kept = scaled >= np.sort(scaled)[-top_k] if 0 < top_k < vocabulary else np.ones(vocabulary, bool)
    weights = np.where(kept, np.exp(scaled.astype(np.float64) - scaled.max()), 0)
    edges = np.cumsum(weights) / weights.sum()
    for u in rng.random(40):
        token = chosen(logits, temperature, top_k, u)
        assert kept[token]
        assert (edges[token - 1] if token else 0) - 1e-6 <= u <= edges[token] + 1e-6


@pytest.mark.parametrize("u", [0.0, 1 - 2.0**-24])
def test_the_ends_of_the_range_choose_the_first_and_the_last_kept(u: float) -> None:
    logits = np.array([-1, 2, 0, 2, 1, -9], np.float32)
    assert chosen(logits, 1.0, 3, u) == (1 if u == 0 else 4)


def test_temperature_zero_takes_the_first_of_the_likeliest() -> None:
    assert chosen(np.array([0, 3, 3, -1], np.float32), 0.0, 2, 0.99) == 1


def test_equals_of_the_last_kept_are_kept() -> None:
    logits = np.array([5, 1, 1, 1, 0], np.float32)
    tokens = {chosen(logits, 3.0, 2, u) for u in np.linspace(0, 0.999, 200)}
    assert tokens == {0, 1, 2, 3}


def test_what_is_not_a_number_still_gives_a_token() -> None:
    assert 0 <= chosen(np.full(20, np.nan, np.float32), 1.0, 5, 0.5) < 20


@pytest.mark.parametrize("top_p", [0.0, 0.1, 0.6, 0.95])
@pytest.mark.parametrize("top_k", [0, 40])
def test_the_likeliest_are_kept_that_make_so_much_of_the_probability(top_k: int, top_p: float) -> None:
    logits = np.random.default_rng(top_k).normal(size=503).astype(np.float32) * 2
    weights = np.exp(logits.astype(np.float64))
    order = np.argsort(-weights)[: top_k or None]
    before = np.cumsum(weights[order]) - weights[order]
    kept = set(order[: max(1, int((before < top_p * weights[order].sum()).sum()))].tolist())
    found = {chosen(logits, 1.0, top_k, u, top_p) for u in np.linspace(0, 1 - 2.0**-24, 3000)}
    assert found <= kept
    assert len(found) > 0.8 * min(len(kept), 100)
