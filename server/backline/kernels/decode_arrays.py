"""A stage's arrays: as a pack holds them, and as the decode step reads and writes them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backline.kernels.packed import PackedArray, pack, round_up
from backline.kernels.simd import BLOCK, LANES, aligned

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

SLOTS = 4 * LANES  # slots of a ring and dims of a head are stored in multiples of this


@dataclass(frozen=True)
class StageArrays:
    """A stage's weights, float32. d: dim, e: head dim, f: inner dim of the feed-forward, V: vocabulary without BOS.

    Without `delays` a position predicts one token: token n by head n mod quantizers. With them position s predicts, by
    every head, that codebook's token of frame s - delay.

    Large vocabularies may be factorised: tokens and heads then have c dims in place of d, `enter` leads from those to
    the stage's, and `leave` back; `after` is what stands beside a token, which has no room in such a table.
    """

    norm1: Floats  # [layer, d]
    qkv: Floats  # [layer, 3 * head * e, d]
    q_norm: Floats  # [layer, e]
    k_norm: Floats  # [layer, e]
    out: Floats  # [layer, d, head * e]
    norm2: Floats  # [layer, d]
    gate: Floats  # [layer, f, d]
    up: Floats  # [layer, f, d]
    down: Floats  # [layer, d, f]
    norm: Floats  # [d]
    heads: Floats  # [quantizer, V, d]
    bias: Floats  # [bucket, head]
    max_distance: int
    tokens: Floats  # [quantizer, V, d]: what goes in after a token: its embedding, the next one's offset, the segment
    begin: Floats  # [d]: what goes in before the first token (BOS), likewise summed; with `delays` [quantizer, d]
    norm_epsilon: float = 1e-6
    delays: Integers | None = None  # [quantizer] positions, for a stage that predicts all codebooks at every position
    enter: Floats | None = None  # [quantizer, d, c], and so are the next two there only where it is factorised
    leave: Floats | None = None  # [quantizer, c, d]
    head_bias: Floats | None = None  # [quantizer, V]
    after: Floats | None = None  # [quantizer, d], without delays only: added to what goes in after a quantizer's token


class Shape(NamedTuple):
    """Sizes; `padded_` ones count what is stored."""

    branches: int  # of a row: the conditioned one, and the unconditioned one if there is guidance
    dim: int
    padded_dim: int
    stored_dim: int  # padded as the output of a matrix
    layers: int
    heads: int
    head_dim: int
    padded_head_dim: int
    padded_inner: int
    quantizers: int
    vocabulary: int
    padded_vocabulary: int
    window: int
    capacity: int  # slots of a ring: the window, padded
    bias_stride: int
    epsilon: float
    code_dim: int  # c, padded; 0: not factorised


class Weights(NamedTuple):
    """Packed matrices (kernels/packed.py) and float32 vectors, flat; layers one after the other."""

    norm1: Floats
    qkv: PackedArray
    q_norm: Floats  # with 1 / sqrt(head dim)
    k_norm: Floats
    out: PackedArray
    norm2: Floats
    gate_up: PackedArray  # 16 of the gate, 16 of the other, in turn
    down: PackedArray
    norm: Floats
    heads: PackedArray
    tokens: Floats  # [quantizer, V, padded dim, or code dim]
    begin: Floats  # [padded dim], or [quantizer, padded dim]
    delays: Integers  # [quantizer], or empty
    bias: Floats  # [head, 2 * window + padding]: entry u is the bias for distance (window - 1 - u) mod window
    enter: PackedArray  # by quantizer; empty where not factorised, and so are the next two
    leave: PackedArray
    head_bias: Floats  # [quantizer, padded V]
    after: Floats  # [quantizer, padded dim]; empty as well, and with delays


class State(NamedTuple):
    """All rows. A ring is a packed matrix: keys [slot, head dim], so that scores are a product with the query, values
    [head dim, slot], so that the result is a product with the probabilities."""

    keys: PackedArray  # [row, branch, layer, head, ring], flat
    values: PackedArray
    position: Integers  # [row] positions written so far
    predicted: Integers  # [row] tokens predicted so far; with delays positions, of all codebooks each
    last: Integers  # [row, quantizer] the newest token of each codebook, flat
    seed: NDArray[np.uint64]  # [row]
    ahead: Integers  # [row] by which the numbers that tokens are drawn with run ahead of them; in frames


class Scratch(NamedTuple):
    """Vectors of one call, one for each branch of each place, flat. A place is one position of one row."""

    x: Floats
    normed: Floats
    qkv: Floats
    attended: Floats
    projected: Floats
    inner: Floats
    activated: Floats
    scores: Floats  # of one head
    code: Floats
    logits: Floats
    mixed: Floats  # of one row
    keys: NDArray[np.int32]
    weights: Floats
    place_row: Integers
    place_position: Integers
    place_index: Integers  # of the row in the call


def stage_shape(arrays: StageArrays, window: int, branches: int) -> Shape:
    layers, dim = arrays.norm1.shape
    head_dim = arrays.q_norm.shape[1]
    quantizers, vocabulary, _ = arrays.heads.shape
    begin: tuple[int, ...] = (dim,)
    if arrays.delays is not None:
        if arrays.delays.shape != (quantizers,) or (arrays.delays < 0).any():
            raise ValueError(f"delays are {arrays.delays.tolist()}: use 0 or more for each of {quantizers} heads")
        begin = (quantizers, dim)
    code_dim = 0
    if arrays.enter is not None:
        code_dim = round_up(arrays.enter.shape[2], BLOCK)
        if arrays.delays is None and (arrays.after is None or arrays.after.shape != (quantizers, dim)):
            raise ValueError(f"a factorised stage without delays wants `after`: give it, [{quantizers}, {dim}]")
    if arrays.begin.shape != begin:
        raise ValueError(f"begin has shape {list(arrays.begin.shape)}: use {list(begin)}")
    return Shape(
        branches=branches,
        dim=dim,
        padded_dim=round_up(dim, LANES),
        stored_dim=round_up(dim, BLOCK),
        layers=layers,
        heads=arrays.bias.shape[1],
        head_dim=head_dim,
        padded_head_dim=round_up(head_dim, SLOTS),
        padded_inner=round_up(arrays.gate.shape[1], LANES),
        quantizers=quantizers,
        vocabulary=vocabulary,
        padded_vocabulary=round_up(vocabulary, BLOCK),
        window=window,
        capacity=round_up(window, SLOTS),
        bias_stride=2 * window + SLOTS,
        epsilon=arrays.norm_epsilon,
        code_dim=code_dim,
    )


def packed_weights(arrays: StageArrays, shape: Shape, bfloat16: bool) -> Weights:
    layers, heads, dim = shape.layers, shape.heads, shape.dim
    split = arrays.qkv.reshape(layers, 3, heads, shape.head_dim, dim)
    qkv = _padded(split, 3, shape.padded_head_dim).reshape(layers, -1, dim)
    out = _padded(arrays.out.reshape(layers, dim, heads, shape.head_dim), 3, shape.padded_head_dim)
    gate = _padded(arrays.gate, 1, shape.padded_inner).reshape(layers, -1, 1, LANES, dim)
    up = _padded(arrays.up, 1, shape.padded_inner).reshape(layers, -1, 1, LANES, dim)
    vectors = {
        name: _padded(getattr(arrays, name), -1, shape.padded_dim).reshape(-1)
        for name in ("norm1", "norm2", "norm", "begin")
    }
    enter = leave = aligned(0, np.uint16 if bfloat16 else np.float32)
    head_bias = after = np.zeros(0, np.float32)
    tables = arrays.heads
    if arrays.enter is not None and arrays.leave is not None and arrays.head_bias is not None:
        tables = _padded(tables, 2, shape.code_dim)
        enter = pack(_padded(arrays.enter, 2, shape.code_dim), bfloat16)
        leave = pack(_padded(arrays.leave, 1, shape.code_dim), bfloat16)
        head_bias = _padded(arrays.head_bias, 1, shape.padded_vocabulary).reshape(-1)
    if arrays.after is not None:
        after = _padded(arrays.after, 1, shape.padded_dim).reshape(-1)
    return Weights(
        qkv=pack(qkv, bfloat16),
        q_norm=_padded(arrays.q_norm / math.sqrt(shape.head_dim), 1, shape.padded_head_dim).reshape(-1),
        k_norm=_padded(arrays.k_norm, 1, shape.padded_head_dim).reshape(-1),
        out=pack(out.reshape(layers, dim, -1), bfloat16),
        gate_up=pack(np.concatenate([gate, up], axis=2).reshape(layers, -1, dim), bfloat16),
        down=pack(arrays.down, bfloat16),
        tokens=_padded(arrays.tokens, -1, shape.code_dim or shape.padded_dim).reshape(-1),
        heads=pack(tables, bfloat16),
        bias=_bias_by_slot(arrays, shape),
        delays=np.zeros(0, np.int64) if arrays.delays is None else arrays.delays.astype(np.int64),
        enter=enter,
        leave=leave,
        head_bias=head_bias,
        after=after,
        **vectors,
    )


def _bias_by_slot(arrays: StageArrays, shape: Shape) -> Floats:
    """[head, u] so that, with the newest key in slot n, the biases of slots 0, 1, .. begin at u = window - 1 - n."""
    distances = (shape.window - 1 - np.arange(2 * shape.window)) % shape.window
    bias = arrays.bias[distance_buckets(distances, len(arrays.bias), arrays.max_distance)]
    return _padded(bias.T, 1, shape.bias_stride).reshape(-1)


def empty_state(shape: Shape, rows: int, dtype: Any) -> State:
    size = rows * shape.branches * shape.layers * shape.heads * shape.capacity * shape.padded_head_dim
    return State(
        keys=aligned(size, dtype),
        values=aligned(size, dtype),
        position=np.zeros(rows, np.int64),
        predicted=np.zeros(rows, np.int64),
        last=np.zeros(rows * shape.quantizers, np.int64),
        seed=np.zeros(rows, np.uint64),
        ahead=np.zeros(rows, np.int64),
    )


def empty_scratch(shape: Shape, places: int) -> Scratch:
    def vectors(size: int) -> Floats:
        return aligned(shape.branches * places * size, np.float32)

    across = shape.heads * shape.padded_head_dim
    return Scratch(
        x=vectors(shape.padded_dim),
        normed=vectors(shape.padded_dim),
        qkv=vectors(3 * across),
        attended=vectors(across),
        projected=vectors(shape.stored_dim),
        inner=vectors(2 * shape.padded_inner),
        activated=vectors(shape.padded_inner),
        scores=aligned(shape.capacity, np.float32),
        code=vectors(shape.code_dim),
        logits=vectors(shape.padded_vocabulary),
        mixed=aligned(shape.padded_vocabulary, np.float32),
        keys=aligned(shape.padded_vocabulary, np.int32),
        weights=aligned(shape.padded_vocabulary, np.float32),
        place_row=np.zeros(places, np.int64),
        place_position=np.zeros(places, np.int64),
        place_index=np.zeros(places, np.int64),
    )


def _padded(array: Floats, axis: int, size: int) -> Floats:
    """Zeros appended along an axis up to `size`, float32."""
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, size - array.shape[axis])
    return np.ascontiguousarray(np.pad(array, widths), dtype=np.float32)


def distance_buckets(distances: Integers, buckets: int, max_distance: int) -> Integers:
    """T5's causal bucket of each distance: exact below half of the buckets, then logarithmic up to `max_distance`."""
    exact = buckets // 2
    if max_distance <= exact:
        raise ValueError(f"max_distance is {max_distance}: use more than {exact}, half of the buckets")
    ratio = np.maximum(distances, exact) / exact
    far = exact + np.floor(exact * np.log(ratio) / math.log(max_distance / exact)).astype(np.int64)
    return np.where(distances < exact, distances, np.minimum(far, buckets - 1))
