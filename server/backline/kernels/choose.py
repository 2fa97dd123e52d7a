"""Choosing a token from logits: temperature, top-k, top-p, then the token at which a uniform number falls."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from backline.kernels.compiled import compiled
from backline.kernels.simd import LANES, exp, load, splat, store

LOWEST = np.float32(-3e38)
SIGN = np.int32(31)
MAGNITUDE_BITS = np.int32(0x7FFFFFFF)


@compiled
def choose(
    logits: NDArray[np.float32],
    keys: NDArray[np.int32],
    weights: NDArray[np.float32],
    vocabulary: int,
    temperature: float,
    top_k: int,
    u: np.float32,
    top_p: float = 1.0,
) -> int:
    """A token: the first one whose cumulative probability exceeds `u` in [0, 1).

    `temperature` 0 takes the likeliest, the first of equals. `top_k` keeps the k likeliest and whatever equals the last
    of them; 0 keeps all. `top_p` then keeps the likeliest that make so much of the probability, and equals of the last.

    Args:
        logits: [vocabulary padded to sixteens]; spent: what is in it afterwards means nothing.
        keys, weights: scratch of the same size.
    """
    best = 0
    for v in range(vocabulary):
        if logits[v] > logits[best]:
            best = v
    if temperature <= 0:
        return best
    for v in range(vocabulary):
        logits[v] /= np.float32(temperature)
    top = splat(logits[best])
    for v in range(0, vocabulary, LANES):
        store(weights, v, exp(load(logits, v) - top))
    if 0 < top_k < vocabulary:
        ordered_keys(logits, keys, vocabulary)
        threshold = kth_largest(keys, vocabulary, top_k)
        for v in range(vocabulary):
            if keys[v] < threshold:
                weights[v] = 0
    if top_p < 1:
        keep_likeliest(weights, vocabulary, top_p)
    whole = 0.0
    for v in range(vocabulary):
        whole += weights[v]
    wanted, reached = u * whole, 0.0
    for v in range(vocabulary):
        reached += weights[v]
        if reached > wanted:
            return v
    return best  # only where logits are not numbers


@compiled
def ordered_keys(values: NDArray[np.float32], keys: NDArray[np.int32], count: int) -> None:
    """Integers in the order of the floats: a positive one's bits are its rank, a negative one's count backwards."""
    bits = values.view(np.int32)
    for v in range(count):
        keys[v] = bits[v] ^ ((bits[v] >> SIGN) & MAGNITUDE_BITS)


@compiled
def kth_largest(keys: NDArray[np.int32], count: int, k: int) -> np.int64:
    """The k-th largest key, by bisection: 32 counts at most, each one sweep without a branch."""
    low, high = np.int64(-(2**31)), np.int64(2**31 - 1)
    while low < high:  # the answer lies in [low, high]
        middle = low + (high - low + 1) // 2
        pivot = np.int32(middle)
        above = np.int32(0)
        for v in range(count):
            above += np.int32(keys[v] >= pivot)
        if above >= k:
            low = middle
        else:
            high = middle - 1
    return low


@compiled
def keep_likeliest(weights: NDArray[np.float32], count: int, share: float) -> None:
    """Zeros for all weights but the largest that make `share` of their sum, found by bisection over their bits."""
    for v in range(count, len(weights)):
        weights[v] = 0
    bits = weights.view(np.int32)  # of what is not negative, in the order of the floats
    wanted = share * sum_from(weights, bits, np.int32(0))
    low, high = np.int64(0), np.int64(2**31 - 1)
    while low < high:  # the largest threshold that leaves enough lies in [low, high]
        middle = low + (high - low + 1) // 2
        if sum_from(weights, bits, np.int32(middle)) >= wanted:
            low = middle
        else:
            high = middle - 1
    for v in range(count):
        if bits[v] < low:
            weights[v] = 0


@compiled
def sum_from(weights: NDArray[np.float32], bits: NDArray[np.int32], threshold: np.int32) -> float:
    """The sum of those whose bits reach the threshold; four sums, so that none waits for the one before."""
    a = b = c = d = 0.0
    for v in range(0, len(weights), 4):
        a += weights[v] if bits[v] >= threshold else 0.0
        b += weights[v + 1] if bits[v + 1] >= threshold else 0.0
        c += weights[v + 2] if bits[v + 2] >= threshold else 0.0
        d += weights[v + 3] if bits[v + 3] >= threshold else 0.0
    return (a + b) + (c + d)
