"""One position of a stage, fused: embeds, attends, feeds forward, guides and samples without returning to Python.

The way down the page is the way of a token: `generate` or `generate_frames`, `_embed`, `_layers`, `_attend`, `_logits`,
`_guide`. A call's vectors lie in the scratch place by place, a place being one position of one row: its conditioned
branch and, unless the stage does without, its unconditioned one.

Numba notices changes to this file only: after changing one of the kernels that it calls, remove __pycache__/*.nbi.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from backline.kernels.choose import LOWEST, choose
from backline.kernels.compiled import compiled
from backline.kernels.decode_arrays import SLOTS, Floats, Integers, Scratch, Shape, State, Weights
from backline.kernels.packed import multiply_one, multiply_vectors
from backline.kernels.random import uniform
from backline.kernels.simd import BLOCK, LANES, ONE, ZERO, exp, fma, gelu, larger, largest, load, put, splat, store
from backline.kernels.simd import total as sum_of

PREFILL_POSITIONS = 16  # share a pass over the weights

# Numba compiles a function anew for every constant that it is called with; not so for NumPy's.
START: Any = np.int64(0)
ONE_PLACE: Any = np.int64(1)
ONE_BRANCH: Any = np.int64(1)
TO_THE_END: Any = np.bool_(True)
KEYS_AND_VALUES: Any = np.bool_(False)


@compiled
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
    top_p: Floats,
    clock: Floats,
    tokens: NDArray[np.int32],
) -> None:
    """`steps` steps; a row that is through is left out, so it neither costs nor moves."""
    for step in range(tokens.shape[1]):
        places = START
        for i in range(len(rows)):
            if step < steps[i]:
                row = rows[i]
                begun = (state.predicted[row] - step) % shape.quantizers  # tokens of a frame that an earlier call began
                frame = (begun + step) // shape.quantizers
                _embed(shape, weights, state, scratch, row, places, clock[i], frame)
                places = _add_place(state, scratch, row, i, places)
        _layers(shape, weights, state, scratch, places, TO_THE_END)
        for place in range(places):
            row, i = scratch.place_row[place], scratch.place_index[place]
            count = state.predicted[row]
            quantizer = count % shape.quantizers
            _logits(shape, weights, scratch, place, ONE_PLACE, quantizer)
            _guide(shape, scratch, place, guidance[i], shape.branches)
            u = uniform(state.seed[row], stage, state.ahead[row] * shape.quantizers + count)
            token = choose(
                scratch.mixed, scratch.keys, scratch.weights, shape.vocabulary, temperature[i], top_k[i], u, top_p[i]
            )
            tokens[i, step] = token
            state.last[row * shape.quantizers + quantizer] = token
            state.predicted[row] = count + 1
            state.position[row] += 1


@compiled
def generate_frames(
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
    top_p: Floats,
    conditions: Floats,
    tokens: NDArray[np.int32],
) -> None:
    """`steps` steps of all codebooks each; a head's weights are read once a step, for all rows.

    Args:
        conditions: [row, branch, step, dim]; tokens: [row, step, codebook].
    """
    for step in range(tokens.shape[1]):
        places = START
        for i in range(len(rows)):
            if step < steps[i]:
                for branch in range(shape.branches):
                    vector = shape.branches * places + branch
                    _take(shape, scratch, vector, conditions[i, branch, step])
                    _add_newest(shape, weights, state, scratch, rows[i], vector)
                places = _add_place(state, scratch, rows[i], i, places)
        _layers(shape, weights, state, scratch, places, TO_THE_END)
        for quantizer in range(shape.quantizers):
            _logits(shape, weights, scratch, START, places, quantizer)
            for place in range(places):
                row, i = scratch.place_row[place], scratch.place_index[place]
                count = state.predicted[row]
                if count < weights.delays[quantizer]:
                    continue
                _guide(shape, scratch, place, guidance[i], ONE_BRANCH if guidance[i] == ONE else shape.branches)
                u = uniform(state.seed[row], stage, (state.ahead[row] + count) * shape.quantizers + quantizer)
                token = choose(
                    scratch.mixed,
                    scratch.keys,
                    scratch.weights,
                    shape.vocabulary,
                    temperature[i],
                    top_k[i],
                    u,
                    top_p[i],
                )
                tokens[i, step, quantizer] = token
                state.last[row * shape.quantizers + quantizer] = token
        for place in range(places):
            state.predicted[scratch.place_row[place]] += 1
            state.position[scratch.place_row[place]] += 1


@compiled
def step(
    shape: Shape, weights: Weights, state: State, scratch: Scratch, rows: Integers, x: Floats, quantizer: int
) -> None:
    """One position of given embeddings x [row, branch, dim]; leaves the logits in the scratch."""
    places = START
    for i in range(len(rows)):
        for branch in range(shape.branches):
            _take(shape, scratch, shape.branches * places + branch, x[i, branch])
        places = _add_place(state, scratch, rows[i], i, places)
    _layers(shape, weights, state, scratch, places, TO_THE_END)
    _logits(shape, weights, scratch, START, places, quantizer)
    for i in range(len(rows)):
        state.position[rows[i]] += 1


@compiled
def prefill(shape: Shape, weights: Weights, state: State, scratch: Scratch, rows: Integers, x: Floats) -> None:
    """Positions x [row, branch, position, dim], some of one row at a time. Only keys and values are read off them."""
    for i in range(len(rows)):
        row = rows[i]
        for start in range(0, x.shape[2], PREFILL_POSITIONS):
            places = min(PREFILL_POSITIONS, x.shape[2] - start)
            for place in range(places):
                scratch.place_row[place], scratch.place_position[place] = row, state.position[row] + place
                for branch in range(shape.branches):
                    _take(shape, scratch, shape.branches * place + branch, x[i, branch, start + place])
            _layers(shape, weights, state, scratch, places, KEYS_AND_VALUES)
            state.position[row] += places


@compiled
def _add_place(state: State, scratch: Scratch, row: int, index: int, places: int) -> int:
    """Notes that the next place is the next position of a row; returns how many there are."""
    scratch.place_row[places] = row
    scratch.place_position[places] = state.position[row]
    scratch.place_index[places] = index
    return places + 1


@compiled
def _take(shape: Shape, scratch: Scratch, vector: int, x: Floats) -> None:
    """A given embedding [dim] becomes a vector's input."""
    at = vector * shape.padded_dim
    for i in range(shape.dim):
        scratch.x[at + i] = x[i]


@compiled
def _add_newest(shape: Shape, weights: Weights, state: State, scratch: Scratch, row: int, vector: int) -> None:
    """Adds the newest token of every codebook of a row to a vector's input, or what stands before the first one."""
    dim = shape.padded_dim
    for quantizer in range(shape.quantizers):
        if state.predicted[row] <= weights.delays[quantizer]:
            _accumulate(scratch.x, vector * dim, weights.begin, quantizer * dim, dim)
            continue
        token = quantizer * shape.vocabulary + state.last[row * shape.quantizers + quantizer]
        if shape.code_dim == 0:
            _accumulate(scratch.x, vector * dim, weights.tokens, token * dim, dim)
            continue
        _enter(shape, weights, scratch, quantizer, token, vector * shape.stored_dim)
        _accumulate(scratch.x, vector * dim, scratch.projected, vector * shape.stored_dim, dim)


@compiled
def _enter(shape: Shape, weights: Weights, scratch: Scratch, quantizer: int, token: int, at: int) -> None:
    """A token of all quantizers' becomes, from the vectors of a factorised table, dims of the stage at `at`."""
    code_dim = shape.code_dim
    multiply_vectors(
        weights.enter, quantizer * shape.stored_dim * code_dim, shape.stored_dim, code_dim,
        weights.tokens, token * code_dim, code_dim,
        scratch.projected, at, shape.stored_dim, ONE_PLACE,
    )  # fmt: skip


@compiled
def _embed(
    shape: Shape, weights: Weights, state: State, scratch: Scratch, row: int, place: int, clock: Floats, frame: int
) -> None:
    """The row's newest token becomes a place's input, the same for both branches."""
    count = state.predicted[row]
    source, at = weights.begin, START
    if count > 0:
        quantizer = (count - 1) % shape.quantizers
        token = quantizer * shape.vocabulary + state.last[row * shape.quantizers + quantizer]
        if shape.code_dim == 0:
            source, at = weights.tokens, token * shape.padded_dim
        else:
            source, at = scratch.projected, shape.branches * place * shape.stored_dim
            _enter(shape, weights, scratch, quantizer, token, at)
            _accumulate(source, at, weights.after, quantizer * shape.padded_dim, shape.padded_dim)
    timed = clock.shape[0] > 0
    for branch in range(shape.branches):
        x = (shape.branches * place + branch) * shape.padded_dim
        for i in range(shape.dim):
            scratch.x[x + i] = source[at + i] + clock[frame, i] if timed else source[at + i]


@compiled
def _layers(shape: Shape, weights: Weights, state: State, scratch: Scratch, places: int, to_the_end: bool) -> None:
    """All blocks and the final norm: from `scratch.x` to `scratch.normed`. Places of a row stand in order of position.

    Without `to_the_end` the last block stops once keys and values are written.
    """
    vectors = shape.branches * places
    dim = shape.padded_dim
    inner = shape.padded_inner
    across = shape.heads * shape.padded_head_dim  # all heads side by side
    stored_dim = shape.stored_dim
    for layer in range(shape.layers):
        for vector in range(vectors):
            _rms_norm(scratch.x, vector * dim, weights.norm1, layer * dim, scratch.normed, vector * dim, shape)
        multiply_vectors(
            weights.qkv, layer * 3 * across * dim, 3 * across, dim,
            scratch.normed, START, dim, scratch.qkv, START, 3 * across, vectors,
        )  # fmt: skip
        only_write = layer == shape.layers - 1 and not to_the_end
        for head in range(shape.heads):
            for branch in range(shape.branches):
                for place in range(places):
                    _attend(shape, weights, state, scratch, layer, head, branch, place, only_write)
        if only_write:
            return
        multiply_vectors(
            weights.out, layer * stored_dim * across, stored_dim, across,
            scratch.attended, START, across, scratch.projected, START, stored_dim, vectors,
        )  # fmt: skip
        for vector in range(vectors):
            _accumulate(scratch.x, vector * dim, scratch.projected, vector * stored_dim, dim)
            _rms_norm(scratch.x, vector * dim, weights.norm2, layer * dim, scratch.normed, vector * dim, shape)
        multiply_vectors(
            weights.gate_up, layer * 2 * inner * dim, 2 * inner, dim,
            scratch.normed, START, dim, scratch.inner, START, 2 * inner, vectors,
        )  # fmt: skip
        for vector in range(vectors):
            for i in range(0, inner, LANES):
                at = 2 * (vector * inner + i)
                gated = gelu(load(scratch.inner, at)) * load(scratch.inner, at + LANES)
                store(scratch.activated, vector * inner + i, gated)
        multiply_vectors(
            weights.down, layer * stored_dim * inner, stored_dim, inner,
            scratch.activated, START, inner, scratch.projected, START, stored_dim, vectors,
        )  # fmt: skip
        for vector in range(vectors):
            _accumulate(scratch.x, vector * dim, scratch.projected, vector * stored_dim, dim)
    for vector in range(vectors):
        _rms_norm(scratch.x, vector * dim, weights.norm, START, scratch.normed, vector * dim, shape)


@compiled
def _attend(
    shape: Shape,
    weights: Weights,
    state: State,
    scratch: Scratch,
    layer: int,
    head: int,
    branch: int,
    place: int,
    only_write: bool,
) -> None:
    """One head of one vector: writes its key and value into the ring, then reads what the window shows.

    Slots are read in the order in which they lie, not in that of time: the bias knows the distance.
    """
    dim, capacity = shape.padded_head_dim, shape.capacity
    vector = shape.branches * place + branch
    across = shape.heads * dim
    query = 3 * vector * across + head * dim
    key, value = query + across, query + 2 * across
    ring = (shape.branches * scratch.place_row[place] + branch) * shape.layers + layer
    ring = (ring * shape.heads + head) * capacity * dim
    position = scratch.place_position[place]
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


@compiled
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


@compiled
def _logits(shape: Shape, weights: Weights, scratch: Scratch, place: int, places: int, quantizer: int) -> None:
    """One head, for all branches of `places` places from `place` on."""
    dim, vocabulary, vector = shape.padded_dim, shape.padded_vocabulary, shape.branches * place
    vectors, code_dim = shape.branches * places, shape.code_dim
    if code_dim == 0:
        multiply_vectors(
            weights.heads, quantizer * vocabulary * dim, vocabulary, dim,
            scratch.normed, vector * dim, dim, scratch.logits, vector * vocabulary, vocabulary, vectors,
        )  # fmt: skip
        return
    multiply_vectors(
        weights.leave, quantizer * code_dim * dim, code_dim, dim,
        scratch.normed, vector * dim, dim, scratch.code, vector * code_dim, code_dim, vectors,
    )  # fmt: skip
    multiply_vectors(
        weights.heads, quantizer * vocabulary * code_dim, vocabulary, code_dim,
        scratch.code, vector * code_dim, code_dim, scratch.logits, vector * vocabulary, vocabulary, vectors,
    )  # fmt: skip
    for at in range(vector * vocabulary, (vector + vectors) * vocabulary, vocabulary):
        _accumulate(scratch.logits, at, weights.head_bias, quantizer * vocabulary, vocabulary)


@compiled
def _guide(shape: Shape, scratch: Scratch, place: int, guidance: float, branches: int) -> None:
    """Classifier-free guidance: from the unconditioned logits `guidance` times the way to the conditioned ones.

    With 1 of the `branches` the conditioned logits stand in for the others and come out as they are.
    """
    conditioned = shape.branches * place * shape.padded_vocabulary
    unconditioned = conditioned + (branches - 1) * shape.padded_vocabulary
    for v in range(0, shape.padded_vocabulary, LANES):
        without = load(scratch.logits, unconditioned + v)
        towards = load(scratch.logits, conditioned + v) - without
        store(scratch.mixed, v, fma(splat(guidance), towards, without))


@compiled
def _rms_norm(x: Floats, x_at: int, scale: Floats, scale_at: int, y: Floats, y_at: int, shape: Shape) -> None:
    """y = x / rms(x) * scale over the model's dim; the padding is zero and stays it."""
    squares = splat(ZERO)
    for i in range(0, shape.padded_dim, LANES):
        squares = fma(load(x, x_at + i), load(x, x_at + i), squares)
    factor = splat(_inverse_root(sum_of(squares), shape.dim, shape.epsilon))
    for i in range(0, shape.padded_dim, LANES):
        store(y, y_at + i, load(x, x_at + i) * factor * load(scale, scale_at + i))


@compiled
def _head_norm(x: Floats, at: int, scale: Floats, scale_at: int, shape: Shape) -> None:
    """The same over one head's dim, in place."""
    squares = splat(ZERO)
    for i in range(0, shape.padded_head_dim, LANES):
        squares = fma(load(x, at + i), load(x, at + i), squares)
    factor = splat(_inverse_root(sum_of(squares), shape.head_dim, shape.epsilon))
    for i in range(0, shape.padded_head_dim, LANES):
        store(x, at + i, load(x, at + i) * factor * load(scale, scale_at + i))


@compiled
def _inverse_root(squares: float, count: int, epsilon: float) -> np.float32:
    return ONE / np.sqrt(np.float32(squares / np.float32(count)) + np.float32(epsilon))


@compiled
def _accumulate(x: Floats, x_at: int, y: Floats, y_at: int, count: int) -> None:
    """x += y."""
    for i in range(0, count, LANES):
        store(x, x_at + i, load(x, x_at + i) + load(y, y_at + i))
