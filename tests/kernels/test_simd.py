"""Lanes of sixteen: what each operation gives, and how exact the functions are."""

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray
from scipy.special import erfc

from backline.kernels.packed import to_bfloat16
from backline.kernels.simd import aligned, exp, gelu, largest, load, load_all, load_pair, put, store, total

Floats = NDArray[np.float32]


@njit
def apply(x: Floats, exponentials: Floats, gelus: Floats) -> None:
    for i in range(0, len(x), 16):
        store(exponentials, i, exp(load(x, i)))
        store(gelus, i, gelu(load(x, i)))


@njit
def reduce(x: Floats) -> tuple[np.float32, np.float32]:
    return total(load(x, 0)), largest(load(x, 0))


@njit
def split(x: NDArray[np.generic], at: int, y: Floats) -> None:
    even, odd = load_pair(x, at)
    store(y, 0, even)
    store(y, 16, odd)


@njit
def arithmetic(x: Floats, y: Floats) -> None:
    a, b = load(x, 0), load_all(x, 16)
    store(y, 0, (a + b) * a - a / b)


@njit
def put_one(x: NDArray[np.generic], at: int, value: np.float32) -> None:
    put(x, at, value)


def test_exponential_and_gelu_are_exact_to_single_precision() -> None:
    x = np.linspace(-80, 80, 16 * 5000).astype(np.float32)
    exponentials, gelus = np.zeros_like(x), np.zeros_like(x)
    apply(x, exponentials, gelus)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(exponentials, np.exp(wide), rtol=2e-7)
    expected = wide * erfc(-wide / np.sqrt(2)) / 2
    assert (np.abs(gelus - expected) / np.maximum(1, np.abs(wide))).max() < 4e-7


def test_the_exponential_of_the_lowest_numbers_is_next_to_nothing() -> None:
    x = np.full(16, -3e38, np.float32)
    y = np.full(16, np.nan, np.float32)
    apply(x, y, np.zeros(16, np.float32))
    assert (y >= 0).all()
    assert (y < 1e-37).all()


def test_sums_go_by_halves() -> None:
    x = np.random.default_rng(0).normal(size=16).astype(np.float32)
    folded = x
    while len(folded) > 1:
        folded = folded[: len(folded) // 2] + folded[len(folded) // 2 :]
    assert reduce(x) == (folded[0], x.max())


def test_arithmetic_rounds_every_operation() -> None:
    x, y = np.random.default_rng(1).normal(size=17).astype(np.float32), np.zeros(16, np.float32)
    arithmetic(x, y)
    np.testing.assert_array_equal(y, (x[:16] + x[16]) * x[:16] - x[:16] / x[16])


@pytest.mark.parametrize("at", [0, 3])
def test_pairs_are_split_into_even_and_odd(at: int) -> None:
    values = np.arange(40, dtype=np.float32)
    expected = np.concatenate([values[at : at + 32 : 2], values[at + 1 : at + 32 : 2]])
    for stored in (values, to_bfloat16(values)):
        y = np.zeros(32, np.float32)
        split(stored, at, y)
        np.testing.assert_array_equal(y, expected)


def test_put_rounds_to_what_the_array_holds() -> None:
    narrow, wide = np.zeros(3, np.uint16), np.zeros(3, np.float32)
    for value in np.array([1.2345678, -3.0000001, 1 + 2.0**-8, 1 + 3 * 2.0**-8], np.float32):
        put_one(narrow, 1, value)
        put_one(wide, 1, value)
        assert narrow[1] == to_bfloat16(np.array([value]))[0]
        assert wide[1] == value
    assert narrow[0] == narrow[2] == 0


@pytest.mark.parametrize("dtype", [np.float32, np.uint16, np.int32])
def test_aligned_memory_begins_on_a_cache_line(dtype: type) -> None:
    for size in (1, 33, 1000):
        array = aligned(size, dtype)
        assert array.ctypes.data % 64 == 0
        assert array.shape == (size,)
        assert array.dtype == dtype
        assert not array.any()
