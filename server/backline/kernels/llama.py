"""One position of a LLaMA-style decoder, fused: norms, projections, rotary attention over the cache, SwiGLU.

`LlamaKernel` packs a decoder's matrices once, in bfloat16 or float32, and steps one row at a time over a cache that its
owner holds, so that whole blocks may be put into the same cache by other means. See nn/llama.py for the module.

Numba notices changes to this file only: after changing one of the kernels that it calls, remove __pycache__/*.nbi.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backline.kernels.choose import LOWEST
from backline.kernels.compiled import compiled
from backline.kernels.packed import PackedArray, multiply_one, pack, round_up
from backline.kernels.simd import LANES, ONE, ZERO, aligned, exp, fma, larger, largest, load, load_all, splat, store
from backline.kernels.simd import total as sum_of

Floats = NDArray[np.float32]
OUTPUTS = 4 * LANES  # that `multiply_one` makes at once
LOWEST_GATE: Any = np.float32(-87.0)  # sigmoid of it is nothing, and exp of its opposite still a number
START: Any = np.int64(0)


class LlamaMatrices(NamedTuple):
    """Weights, [layer, output, input] and [layer, width]."""

    norm1: Floats
    qkv: Floats  # outputs: queries of all heads, keys, values
    out: Floats
    norm2: Floats
    gate_up: Floats  # outputs: all gates, then all ups
    down: Floats
    norm: Floats  # [width]


class Packed(NamedTuple):
    """The same for the kernel, flat."""

    norm1: Floats
    qkv: PackedArray
    out: PackedArray
    norm2: Floats
    gate_up: PackedArray
    down: PackedArray
    norm: Floats


class Sizes(NamedTuple):
    """What the kernel counts with."""

    layers: int
    width: int
    heads: int
    dim: int  # of a head
    inner: int
    capacity: int  # positions of the cache
    epsilon: float


class Scratch(NamedTuple):
    """What one position needs."""

    x: Floats
    normed: Floats
    qkv: Floats
    attended: Floats
    projected: Floats
    inner: Floats
    activated: Floats
    scores: Floats


def can_fuse(width: int, heads: int, inner: int) -> bool:
    """Whether the kernel takes these sizes: whole blocks of lanes, so that nothing is padded."""
    return (
        width % OUTPUTS == 0 and 2 * inner % OUTPUTS == 0 and inner % LANES == 0 and width // heads % (2 * LANES) == 0
    )


class LlamaKernel:
    """One decoder, one row at a time; not to be stepped by two threads at once."""

    def __init__(self, matrices: LlamaMatrices, heads: int, rope_base: float, epsilon: float, bfloat16: bool) -> None:
        """Packs the weights.

        Raises:
            ValueError: sizes that `can_fuse` says no to.
        """
        layers, _, width = matrices.qkv.shape
        inner = matrices.down.shape[2]
        if not can_fuse(width, heads, inner):
            raise ValueError(f"width {width}, {heads} heads and inner width {inner} do not fall into blocks of lanes")
        self.layers, self.width, self.heads, self.inner, self.epsilon = layers, width, heads, inner, epsilon
        self._packed = Packed(
            np.ascontiguousarray(matrices.norm1, np.float32).reshape(-1),
            pack(matrices.qkv, bfloat16),
            pack(matrices.out, bfloat16),
            np.ascontiguousarray(matrices.norm2, np.float32).reshape(-1),
            pack(matrices.gate_up, bfloat16),
            pack(matrices.down, bfloat16),
            np.ascontiguousarray(matrices.norm, np.float32),
        )
        half = width // heads // 2
        self._speeds = np.asarray(rope_base, np.float32) ** (-np.arange(half, dtype=np.float32) / np.float32(half))
        self._scores = aligned(LANES, np.float32)
        self._scratch = Scratch(
            x=aligned(width, np.float32),
            normed=aligned(width, np.float32),
            qkv=aligned(3 * width, np.float32),
            attended=aligned(width, np.float32),
            projected=aligned(width, np.float32),
            inner=aligned(2 * inner, np.float32),
            activated=aligned(inner, np.float32),
            scores=self._scores,
        )

    def step(self, x: Floats, keys: Floats, values: Floats, position: int) -> Floats:
        """One position.

        Args:
            x: [width], its embedding.
            keys, values: [layer, head, capacity, dim], contiguous; written at `position`, read up to it.
            position: of the sequence, from 0.

        Returns:
            [width] after the final norm; a new array.
        """
        capacity = keys.shape[2]
        if len(self._scores) < capacity:
            self._scores = aligned(round_up(capacity, LANES), np.float32)
        angles = np.float32(position) * self._speeds
        scratch = self._scratch._replace(scores=self._scores)
        scratch.x[:] = x
        sizes = Sizes(
            self.layers, self.width, self.heads, self.width // self.heads, self.inner, capacity, float(self.epsilon)
        )
        _step(
            sizes, self._packed, scratch, np.cos(angles), np.sin(angles), keys.reshape(-1), values.reshape(-1), position
        )
        return scratch.normed.copy()

    def resident_bytes(self) -> int:
        """Of the packed weights."""
        return sum(array.nbytes for array in self._packed)


@compiled
def _step(
    sizes: Sizes,
    weights: Packed,
    scratch: Scratch,
    cos: Floats,
    sin: Floats,
    keys: Floats,
    values: Floats,
    position: int,
) -> None:
    """All blocks and the final norm: from `scratch.x` to `scratch.normed`."""
    width, inner, dim = sizes.width, sizes.inner, sizes.dim
    for layer in range(sizes.layers):
        _rms_norm(scratch.x, weights.norm1, layer * width, scratch.normed, width, sizes.epsilon)
        multiply_one(
            weights.qkv, layer * 3 * width * width, width, 3 * width, width, scratch.normed, START, scratch.qkv, START
        )
        for head in range(sizes.heads):
            begin = (layer * sizes.heads + head) * sizes.capacity * dim
            query = head * dim
            _turn(scratch.qkv, query, cos, sin, scratch.qkv, query, dim)
            _turn(scratch.qkv, width + query, cos, sin, keys, begin + position * dim, dim)
            for i in range(0, dim, LANES):
                store(values, begin + position * dim + i, load(scratch.qkv, 2 * width + query + i))
            _attend(scratch, query, keys, values, begin, position, dim)
        multiply_one(
            weights.out, layer * width * width, width, width, width, scratch.attended, START, scratch.projected, START
        )
        _accumulate(scratch.x, scratch.projected, width)
        _rms_norm(scratch.x, weights.norm2, layer * width, scratch.normed, width, sizes.epsilon)
        multiply_one(
            weights.gate_up, layer * 2 * inner * width, width, 2 * inner, width,
            scratch.normed, START, scratch.inner, START,
        )  # fmt: skip
        for i in range(0, inner, LANES):
            gate, up = load(scratch.inner, i), load(scratch.inner, inner + i)
            bounded = larger(gate, splat(LOWEST_GATE))
            store(scratch.activated, i, gate / (splat(ONE) + exp(splat(ZERO) - bounded)) * up)
        multiply_one(
            weights.down, layer * width * inner, inner, width, inner, scratch.activated, START, scratch.projected, START
        )
        _accumulate(scratch.x, scratch.projected, width)
    _rms_norm(scratch.x, weights.norm, START, scratch.normed, width, sizes.epsilon)


@compiled
def _attend(scratch: Scratch, query: int, keys: Floats, values: Floats, begin: int, position: int, dim: int) -> None:
    """One head: the query against all keys up to its own, which is there already."""
    scores, seen = scratch.scores, position + 1
    scale = ONE / np.sqrt(np.float32(dim))
    for t in range(seen):
        product = splat(ZERO)
        for i in range(0, dim, LANES):
            product = fma(load(scratch.qkv, query + i), load(keys, begin + t * dim + i), product)
        scores[t] = sum_of(product) * scale
    padded = (seen + LANES - 1) // LANES * LANES
    for t in range(seen, padded):
        scores[t] = LOWEST
    top = splat(LOWEST)
    for t in range(0, padded, LANES):
        top = larger(top, load(scores, t))
    top = splat(largest(top))
    whole = splat(ZERO)
    for t in range(0, padded, LANES):
        store(scores, t, exp(load(scores, t) - top))
    for t in range(seen, padded):
        scores[t] = ZERO
    for t in range(0, padded, LANES):
        whole = whole + load(scores, t)
    share = splat(ONE / sum_of(whole))
    for i in range(0, dim, LANES):
        mean = splat(ZERO)
        for t in range(seen):
            mean = fma(load_all(scores, t), load(values, begin + t * dim + i), mean)
        store(scratch.attended, query + i, mean * share)


@compiled
def _turn(x: Floats, x_at: int, cos: Floats, sin: Floats, y: Floats, y_at: int, dim: int) -> None:
    """y = x turned; the halves of a head are pairs."""
    half = dim // 2
    for i in range(0, half, LANES):
        first, second = load(x, x_at + i), load(x, x_at + half + i)
        store(y, y_at + i, first * load(cos, i) - second * load(sin, i))
        store(y, y_at + half + i, second * load(cos, i) + first * load(sin, i))


@compiled
def _rms_norm(x: Floats, scale: Floats, scale_at: int, y: Floats, width: int, epsilon: float) -> None:
    """y = x / rms(x) * scale."""
    squares = splat(ZERO)
    for i in range(0, width, LANES):
        squares = fma(load(x, i), load(x, i), squares)
    factor = splat(ONE / np.sqrt(np.float32(sum_of(squares) / np.float32(width)) + np.float32(epsilon)))
    for i in range(0, width, LANES):
        store(y, i, load(x, i) * factor * load(scale, scale_at + i))


@compiled
def _accumulate(x: Floats, y: Floats, count: int) -> None:
    """x += y."""
    for i in range(0, count, LANES):
        store(x, i, load(x, i) + load(y, i))
