"""One position of a stage, fused: embeds, attends, feeds forward, guides and samples without returning to Python.

The way down the page is the way of a token: `generate`, `_embed`, `_layers`, `_attend`, `_logits`, `_guide`. A call's
vectors lie in the scratch in pairs: the conditioned and the unconditioned branch of one row at one position.

Numba notices changes to this file only: after changing one of the kernels that it calls, remove __pycache__/*.nbi.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from backline.kernels.choose import LOWEST, choose
from backline.kernels.decode_arrays import SLOTS, Floats, Integers, Scratch, Shape, State, Weights
from backline.kernels.packed import multiply_one, multiply_pairs
from backline.kernels.random import uniform
from backline.kernels.simd import BLOCK, LANES, ONE, ZERO, exp, fma, gelu, larger, largest, load, put, splat, store
from backline.kernels.simd import total as sum_of

PREFILL_POSITIONS = 16  # share a pass over the weights

# Numba compiles a function anew for every constant that it is called with; not so for NumPy's.
START: Any = np.int64(0)
ONE_PAIR: Any = np.int64(1)
TO_THE_END: Any = np.bool_(True)
KEYS_AND_VALUES: Any = np.bool_(False)


@njit(cache=True, nogil=True)
def generate(
    shape: Shape,
    weights: Weights,
    state: State,
    scratch: Scratch,
    stage: int,
    rows: Integers,
    steps: Integers,
    guidance: Floats,
    temperature: Floats,
    top_k: Integers,
    clock: Floats,
    tokens: NDArray[np.int32],
) -> None:
    """`steps` steps; a row that is through is left out, so it neither costs nor moves."""
    for step in range(tokens.shape[1]):
        pairs = START
        for i in range(len(rows)):
            if step < steps[i]:
                row = rows[i]
                begun = (state.predicted[row] - step) % shape.quantizers  # tokens of a frame that an earlier call began
                frame = (begun + step) // shape.quantizers
                _embed(shape, weights, state, scratch, row, pairs, clock[i], frame)
                scratch.pair_row[pairs] = row
                scratch.pair_position[pairs] = state.position[row]
                scratch.pair_index[pairs] = i
                pairs += 1
        _layers(shape, weights, state, scratch, pairs, TO_THE_END)
        for pair in range(pairs):
            row, i = scratch.pair_row[pair], scratch.pair_index[pair]
            count = state.predicted[row]
            _logits(shape, weights, scratch, pair, count % shape.quantizers)
            _guide(shape, scratch, pair, guidance[i])
            u = uniform(state.seed[row], stage, count)
            token = choose(scratch.mixed, scratch.keys, scratch.weights, shape.vocabulary, temperature[i], top_k[i], u)
            tokens[i, step] = token
            state.last[row] = token
            state.predicted[row] = count + 1
            state.position[row] += 1


@njit(cache=True, nogil=True)
def step(
    shape: Shape, weights: Weights, state: State, scratch: Scratch, rows: Integers, x: Floats, quantizer: int
) -> None:
    """One position of given embeddings x [row, 2, dim]; leaves the logits in the scratch."""
    for pair in range(len(rows)):
        scratch.pair_row[pair], scratch.pair_position[pair] = rows[pair], state.position[rows[pair]]
        _take(shape, scratch, pair, x[pair, 0], x[pair, 1])
    _layers(shape, weights, state, scratch, len(rows), TO_THE_END)
    for pair in range(len(rows)):
        _logits(shape, weights, scratch, pair, quantizer)
        state.position[rows[pair]] += 1


@njit(cache=True, nogil=True)
def prefill(shape: Shape, weights: Weights, state: State, scratch: Scratch, rows: Integers, x: Floats) -> None:
    """Positions x [row, 2, position, dim], some of one row at a time. Nothing is read off them but keys and values."""
    for i in range(len(rows)):
        row = rows[i]
        for start in range(0, x.shape[2], PREFILL_POSITIONS):
            pairs = min(PREFILL_POSITIONS, x.shape[2] - start)
            for pair in range(pairs):
                scratch.pair_row[pair], scratch.pair_position[pair] = row, state.position[row] + pair
                _take(shape, scratch, pair, x[i, 0, start + pair], x[i, 1, start + pair])
            _layers(shape, weights, state, scratch, pairs, KEYS_AND_VALUES)
            state.position[row] += pairs


@njit(cache=True, nogil=True)
def _take(shape: Shape, scratch: Scratch, pair: int, conditioned: Floats, unconditioned: Floats) -> None:
    """Given embeddings become a pair's input."""
    a = 2 * pair * shape.padded_dim
    b = a + shape.padded_dim
    for i in range(shape.dim):
        scratch.x[a + i] = conditioned[i]
        scratch.x[b + i] = unconditioned[i]


@njit(cache=True, nogil=True)
def _embed(
    shape: Shape, weights: Weights, state: State, scratch: Scratch, row: int, pair: int, clock: Floats, frame: int
) -> None:
    """The row's newest token becomes a pair's input, the same for both branches."""
    a = 2 * pair * shape.padded_dim
    b = a + shape.padded_dim
    count = state.predicted[row]
    source, at = weights.begin, START
    if count > 0:
        quantizer = (count - 1) % shape.quantizers
        source, at = weights.tokens, (quantizer * shape.vocabulary + state.last[row]) * shape.padded_dim
    timed = clock.shape[0] > 0
    for i in range(shape.dim):
        value = source[at + i]
        if timed:
            value += clock[frame, i]
        scratch.x[a + i] = value
        scratch.x[b + i] = value


@njit(cache=True, nogil=True)
def _layers(shape: Shape, weights: Weights, state: State, scratch: Scratch, pairs: int, to_the_end: bool) -> None:
    """All blocks on the pairs' vectors in `scratch.x`; pairs of one row stand in the order of their positions.

    Without `to_the_end` the last block stops once keys and values are written.
    """
    dim = shape.padded_dim
    inner = shape.padded_inner
    across = shape.heads * shape.padded_head_dim  # all heads side by side
    stored_dim = shape.stored_dim
    for layer in range(shape.layers):
        for vector in range(2 * pairs):
            _rms_norm(scratch.x, vector * dim, weights.norm1, layer * dim, scratch.normed, vector * dim, shape)
        multiply_pairs(
            weights.qkv, layer * 3 * across * dim, 3 * across, dim,
            scratch.normed, START, dim, scratch.qkv, START, 3 * across, pairs,
        )  # fmt: skip
        only_write = layer == shape.layers - 1 and not to_the_end
        for head in range(shape.heads):
            for branch in range(2):
                for pair in range(pairs):
                    _attend(shape, weights, state, scratch, layer, head, branch, pair, only_write)
        if only_write:
            return
        multiply_pairs(
            weights.out, layer * stored_dim * across, stored_dim, across,
            scratch.attended, START, across, scratch.projected, START, stored_dim, pairs,
        )  # fmt: skip
        for vector in range(2 * pairs):
            _accumulate(scratch.x, vector * dim, scratch.projected, vector * stored_dim, dim)
            _rms_norm(scratch.x, vector * dim, weights.norm2, layer * dim, scratch.normed, vector * dim, shape)
        multiply_pairs(
            weights.gate_up, layer * 2 * inner * dim, 2 * inner, dim,
            scratch.normed, START, dim, scratch.inner, START, 2 * inner, pairs,
        )  # fmt: skip
        for vector in range(2 * pairs):
            for i in range(0, inner, LANES):
                at = 2 * (vector * inner + i)
                gated = gelu(load(scratch.inner, at)) * load(scratch.inner, at + LANES)
                store(scratch.activated, vector * inner + i, gated)
        multiply_pairs(
            weights.down, layer * stored_dim * inner, stored_dim, inner,
            scratch.activated, START, inner, scratch.projected, START, stored_dim, pairs,
        )  # fmt: skip
        for vector in range(2 * pairs):
            _accumulate(scratch.x, vector * dim, scratch.projected, vector * stored_dim, dim)


@njit(cache=True, nogil=True)
def _attend(
    shape: Shape,
    weights: Weights,
    state: State,
    scratch: Scratch,
    layer: int,
    head: int,
    branch: int,
    pair: int,
    only_write: bool,
) -> None:
    """One head of one vector: writes its key and value into the ring, then reads what the window shows.

    Slots are read in the order in which they lie, not in that of time: the bias knows the distance.
    """
    dim, capacity = shape.padded_head_dim, shape.capacity
    vector = 2 * pair + branch
    across = shape.heads * dim
    query = 3 * vector * across + head * dim
    key, value = query + across, query + 2 * across
    ring = (2 * scratch.pair_row[pair] + branch) * shape.layers + layer
    ring = (ring * shape.heads + head) * capacity * dim
    position = scratch.pair_position[pair]
    slot = position % shape.window
    _head_norm(scratch.qkv, key, weights.k_norm, layer * dim, shape)
    _write(scratch.qkv, key, value, state, ring, slot, dim, capacity)
    if only_write:
        return
    _head_norm(scratch.qkv, query, weights.q_norm, layer * dim, shape)
    seen = min(position + 1, shape.window)
    padded = (seen + SLOTS - 1) // SLOTS * SLOTS
    scores = scratch.scores
    multiply_one(state.keys, ring, dim, padded, dim, scratch.qkv, query, scores, START)
    bias = head * shape.bias_stride + shape.window - 1 - slot
    top = splat(LOWEST)
    for s in range(0, padded, LANES):
        store(scores, s, load(scores, s) + load(weights.bias, bias + s))
    for s in range(seen, padded):
        scores[s] = LOWEST
    for s in range(0, padded, LANES):
        top = larger(top, load(scores, s))
    top = splat(largest(top))
    for s in range(0, padded, LANES):
        store(scores, s, exp(load(scores, s) - top))
    for s in range(seen, padded):
        scores[s] = ZERO
    whole = splat(ZERO)
    for s in range(0, padded, LANES):
        whole = whole + load(scores, s)
    at = vector * across + head * dim
    multiply_one(state.values, ring, capacity, dim, (seen + 1) // 2 * 2, scores, START, scratch.attended, at)
    share = splat(ONE / sum_of(whole))
    for i in range(0, dim, LANES):
        store(scratch.attended, at + i, load(scratch.attended, at + i) * share)


@njit(cache=True, nogil=True)
def _write(source: Floats, key: int, value: int, state: State, ring: int, slot: int, dim: int, capacity: int) -> None:
    """Puts a key and a value into one slot of a ring."""
    key_at = ring + slot // LANES * LANES * dim + slot % LANES * 2
    value_at = ring + slot // 2 * BLOCK + slot % 2
    for i in range(0, dim, 2):
        put(state.keys, key_at + i * LANES, source[key + i])
        put(state.keys, key_at + i * LANES + 1, source[key + i + 1])
    for block in range(0, dim, LANES):
        for lane in range(LANES):
            put(state.values, value_at + block * capacity + 2 * lane, source[value + block + lane])


@njit(cache=True, nogil=True)
def _logits(shape: Shape, weights: Weights, scratch: Scratch, pair: int, quantizer: int) -> None:
    """The final norm and one head, for both branches of a pair."""
    dim, vocabulary = shape.padded_dim, shape.padded_vocabulary
    for vector in range(2 * pair, 2 * pair + 2):
        _rms_norm(scratch.x, vector * dim, weights.norm, START, scratch.normed, vector * dim, shape)
    multiply_pairs(
        weights.heads, quantizer * vocabulary * dim, vocabulary, dim,
        scratch.normed, 2 * pair * dim, dim, scratch.logits, 2 * pair * vocabulary, vocabulary, ONE_PAIR,
    )  # fmt: skip


@njit(cache=True, nogil=True)
def _guide(shape: Shape, scratch: Scratch, pair: int, guidance: float) -> None:
    """Classifier-free guidance: from the unconditioned logits `guidance` times the way to the conditioned ones."""
    conditioned = 2 * pair * shape.padded_vocabulary
    unconditioned = conditioned + shape.padded_vocabulary
    for v in range(0, shape.padded_vocabulary, LANES):
        without = load(scratch.logits, unconditioned + v)
        towards = load(scratch.logits, conditioned + v) - without
        store(scratch.mixed, v, fma(splat(guidance), towards, without))


@njit(cache=True, nogil=True)
def _rms_norm(x: Floats, x_at: int, scale: Floats, scale_at: int, y: Floats, y_at: int, shape: Shape) -> None:
    """y = x / rms(x) * scale over the model's dim; the padding is zero and stays it."""
    squares = splat(ZERO)
    for i in range(0, shape.padded_dim, LANES):
        squares = fma(load(x, x_at + i), load(x, x_at + i), squares)
    factor = splat(_inverse_root(sum_of(squares), shape.dim, shape.epsilon))
    for i in range(0, shape.padded_dim, LANES):
        store(y, y_at + i, load(x, x_at + i) * factor * load(scale, scale_at + i))


@njit(cache=True, nogil=True)
def _head_norm(x: Floats, at: int, scale: Floats, scale_at: int, shape: Shape) -> None:
    """The same over one head's dim, in place."""
    squares = splat(ZERO)
    for i in range(0, shape.padded_head_dim, LANES):
        squares = fma(load(x, at + i), load(x, at + i), squares)
    factor = splat(_inverse_root(sum_of(squares), shape.head_dim, shape.epsilon))
    for i in range(0, shape.padded_head_dim, LANES):
        store(x, at + i, load(x, at + i) * factor * load(scale, scale_at + i))


@njit(cache=True, nogil=True)
def _inverse_root(squares: float, count: int, epsilon: float) -> np.float32:
    return ONE / np.sqrt(np.float32(squares / np.float32(count)) + np.float32(epsilon))


@njit(cache=True, nogil=True)
def _accumulate(x: Floats, x_at: int, y: Floats, y_at: int, count: int) -> None:
    """x += y."""
    for i in range(0, count, LANES):
        store(x, x_at + i, load(x, x_at + i) + load(y, y_at + i))
