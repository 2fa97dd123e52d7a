"""Matrices packed for one pass: sixteen outputs side by side, two steps of the sum in one 32-bit lane of bfloat16.

A matrix [output, input] becomes blocks of 16 outputs, [block, input / 2, output in block, 2], flat. The products below
then read it from front to back and need no sum across lanes. Every output is the sum over even inputs plus the sum over
odd inputs, each in order: a fixed order, whatever else is computed in the same pass.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from backline.kernels.compiled import compiled
from backline.kernels.simd import BLOCK, LANES, ZERO, aligned, fma, load_all, load_pair, splat, store

PackedArray = NDArray[Any]  # flat; float32, or bfloat16 in uint16


def round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def pack(matrix: NDArray[np.float32], bfloat16: bool) -> PackedArray:
    """A matrix [.., output, input] in packed form, outputs padded to a multiple of 32 and inputs to one of 16."""
    *stack, outputs, inputs = matrix.shape
    padded = np.zeros((*stack, round_up(outputs, BLOCK), round_up(inputs, LANES)), dtype=np.float32)
    padded[..., :outputs, :inputs] = matrix
    blocks = padded.reshape(-1, LANES, padded.shape[-1] // 2, 2)  # [block, output, input / 2, 2]
    packed = aligned(padded.size, np.uint16 if bfloat16 else np.float32)
    flat = blocks.transpose(0, 2, 1, 3).reshape(-1)
    packed[:] = to_bfloat16(flat) if bfloat16 else flat
    return packed


def to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The nearest bfloat16, ties to even, as its bits."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


@compiled
def multiply_vectors(
    matrix: PackedArray,
    matrix_at: int,
    outputs: int,
    inputs: int,
    x: NDArray[np.float32],
    x_at: int,
    x_stride: int,
    y: NDArray[np.float32],
    y_at: int,
    y_stride: int,
    vectors: int,
) -> None:
    """y[v] = matrix x[v] for all vectors; `outputs` in 32s.

    32 outputs of all vectors are finished before the next weights are read, so those come from memory once. Two vectors
    share what is loaded into registers; of an odd number the last one is its own partner.
    """
    for output in range(0, outputs, BLOCK):
        first = matrix_at + output * inputs
        second = first + LANES * inputs
        for vector in range(0, vectors, 2):
            partner = min(vector + 1, vectors - 1)
            a, b = x_at + vector * x_stride, x_at + partner * x_stride
            a1_even = a1_odd = a2_even = a2_odd = splat(ZERO)
            b1_even = b1_odd = b2_even = b2_odd = splat(ZERO)
            for i in range(0, inputs, 2):
                even1, odd1 = load_pair(matrix, first + LANES * i)
                even2, odd2 = load_pair(matrix, second + LANES * i)
                a_even, a_odd = load_all(x, a + i), load_all(x, a + i + 1)
                a1_even, a1_odd = fma(even1, a_even, a1_even), fma(odd1, a_odd, a1_odd)
                a2_even, a2_odd = fma(even2, a_even, a2_even), fma(odd2, a_odd, a2_odd)
                b_even, b_odd = load_all(x, b + i), load_all(x, b + i + 1)
                b1_even, b1_odd = fma(even1, b_even, b1_even), fma(odd1, b_odd, b1_odd)
                b2_even, b2_odd = fma(even2, b_even, b2_even), fma(odd2, b_odd, b2_odd)
            ya, yb = y_at + vector * y_stride + output, y_at + partner * y_stride + output
            store(y, ya, a1_even + a1_odd)
            store(y, ya + LANES, a2_even + a2_odd)
            store(y, yb, b1_even + b1_odd)
            store(y, yb + LANES, b2_even + b2_odd)


@compiled
def multiply_one(
    matrix: PackedArray,
    matrix_at: int,
    stride: int,
    outputs: int,
    inputs: int,
    x: NDArray[np.float32],
    x_at: int,
    y: NDArray[np.float32],
    y_at: int,
) -> None:
    """y = matrix x for one vector; `outputs` in 64s. The matrix is packed for `stride` inputs; the first ones count."""
    for output in range(0, outputs, 4 * LANES):
        first = matrix_at + output * stride
        second, third, fourth = first + LANES * stride, first + 2 * LANES * stride, first + 3 * LANES * stride
        even1 = odd1 = even2 = odd2 = even3 = odd3 = even4 = odd4 = splat(ZERO)
        for i in range(0, inputs, 2):
            x_even, x_odd = load_all(x, x_at + i), load_all(x, x_at + i + 1)
            even, odd = load_pair(matrix, first + LANES * i)
            even1, odd1 = fma(even, x_even, even1), fma(odd, x_odd, odd1)
            even, odd = load_pair(matrix, second + LANES * i)
            even2, odd2 = fma(even, x_even, even2), fma(odd, x_odd, odd2)
            even, odd = load_pair(matrix, third + LANES * i)
            even3, odd3 = fma(even, x_even, even3), fma(odd, x_odd, odd3)
            even, odd = load_pair(matrix, fourth + LANES * i)
            even4, odd4 = fma(even, x_even, even4), fma(odd, x_odd, odd4)
        at = y_at + output
        store(y, at, even1 + odd1)
        store(y, at + LANES, even2 + odd2)
        store(y, at + 2 * LANES, even3 + odd3)
        store(y, at + 3 * LANES, even4 + odd4)
