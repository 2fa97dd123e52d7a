"""Random numbers without state: a number in [0, 1) for every (seed, stream, counter), the same on every machine.

Sampling draws `uniform(session seed, stage, step)`, so what a session gets depends neither on what shares its batch nor
on how its work was cut into calls. Each coordinate goes through the finaliser of splitmix64 before the next is added.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backline.kernels.compiled import compiled

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: consecutive coordinates land far apart
MULTIPLIER_1 = np.uint64(0xBF58476D1CE4E5B9)
MULTIPLIER_2 = np.uint64(0x94D049BB133111EB)
SHIFT_1, SHIFT_2, SHIFT_3 = np.uint64(30), np.uint64(27), np.uint64(31)
DROPPED_BITS = np.uint64(40)  # a float32 holds 24 bits
STEP = np.float32(2.0**-24)


@compiled
def mix(x: np.uint64) -> np.uint64:
    """Every input bit flips every output bit with probability one half."""
    x = (x ^ (x >> SHIFT_1)) * MULTIPLIER_1
    x = (x ^ (x >> SHIFT_2)) * MULTIPLIER_2
    return x ^ (x >> SHIFT_3)


@compiled
def uniform(seed: int, stream: int, counter: int) -> np.float32:
    """A float32 in [0, 1). The arguments count modulo 2^64. For other Numba functions; from Python, see below."""
    key = mix(np.uint64(seed) + GOLDEN)
    key = mix(key ^ (np.uint64(stream) + GOLDEN))
    return np.float32(mix(key + np.uint64(counter) * GOLDEN) >> DROPPED_BITS) * STEP


def uniform_array(seed: int, stream: int, counters: ArrayLike) -> NDArray[np.float32]:
    """`uniform(seed, stream, counter)` for every element of `counters`, in plain NumPy and with the same bits."""
    with np.errstate(over="ignore"):  # products wrap around, as they should
        key = _mix_array(_wrapped(seed) + GOLDEN)
        key = _mix_array(key ^ (_wrapped(stream) + GOLDEN))
        mixed = _mix_array(key + np.asarray(counters).astype(np.uint64) * GOLDEN)
    return (mixed >> DROPPED_BITS).astype(np.float32) * STEP


def normal_array(seed: int, stream: int, counters: ArrayLike) -> NDArray[np.float32]:
    """A float32 of the normal distribution for every element of `counters`, by Box and Muller from two uniforms."""
    pairs = 2 * np.asarray(counters).astype(np.uint64)
    radius = np.sqrt(-2 * np.log1p(-uniform_array(seed, stream, pairs)))  # of a number in (0, 1]
    return radius * np.cos(np.float32(2 * np.pi) * uniform_array(seed, stream, pairs + np.uint64(1)))


def _wrapped(value: int) -> NDArray[np.uint64]:
    return np.array(int(value) % 2**64, dtype=np.uint64)


def _mix_array(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> SHIFT_1)) * MULTIPLIER_1
    x = (x ^ (x >> SHIFT_2)) * MULTIPLIER_2
    return x ^ (x >> SHIFT_3)
