"""The decode step of a transformer stage, fused: one Numba call embeds, attends, feeds forward, guides and samples.

A row is a session. It owns two cache rows, one conditioned and one not, which move together: guidance needs both, and
all rows of a call share one pass over the weights. The network is that of backline/nn/transformer.py (pre-RMSNorm,
RMSNorm per head on queries and keys, T5 bias by distance, exact GELU), which stays the reference. A row's numbers
depend neither on what shares the call nor on how positions are cut into calls: every sum has its own fixed order.

    stage = DecodeStage(arrays, rows=2, window=512, dtype="bfloat16", stage=1)
    stage.reset(0, seed=7)
    stage.prefill([0], conditioning)  # [row, 2, position, dim]
    tokens = stage.generate([0], 60, guidance=3.0, temperature=0.9, top_k=250)  # [row, step]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from backline.kernels.choose import LOWEST, choose
from backline.kernels.packed import PackedArray, multiply_one, multiply_pairs, pack, round_up
from backline.kernels.random import uniform
from backline.kernels.simd import (
    BLOCK,
    LANES,
    ONE,
    ZERO,
    aligned,
    exp,
    fma,
    gelu,
    larger,
    largest,
    load,
    put,
    splat,
    store,
)
from backline.kernels.simd import total as sum_of

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

SLOTS = 4 * LANES  # slots and head dims come in these
PREFILL_POSITIONS = 16  # share a pass over the weights


@dataclass(frozen=True)
class StageArrays:
    """A stage's weights, float32. d: dim, e: head dim, f: inner dim of the feed-forward, V: vocabulary without BOS."""

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
    heads: Floats  # [quantizer, V, d]; token n is predicted by head n mod quantizers
    bias: Floats  # [bucket, head]
    max_distance: int
    tokens: Floats  # [quantizer, V, d]: what goes in after a token: its embedding, the next one's offset, the segment
    begin: Floats  # [d]: what goes in before the first token (BOS), likewise summed
    norm_epsilon: float = 1e-6


@dataclass(frozen=True)
class RowSnapshot:
    """One row's state, for `DecodeStage.restore` of a stage of the same sizes."""

    keys: PackedArray
    values: PackedArray
    position: int
    predicted: int
    last: int
    seed: int


class Shape(NamedTuple):
    """Sizes; `padded_` ones count what is stored."""

    dim: int
    padded_dim: int
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
    epsilon: float


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
    tokens: Floats  # [quantizer, V, padded dim]
    begin: Floats
    bias: Floats  # [head, 2 * window + padding]: entry u is the bias for distance (window - 1 - u) mod window


class State(NamedTuple):
    """All rows. A ring is a packed matrix: keys [slot, head dim], so that scores are a product with the query, values
    [head dim, slot], so that the result is a product with the probabilities."""

    keys: PackedArray  # [row, branch, layer, head, ring], flat
    values: PackedArray
    position: Integers  # [row] positions written so far
    predicted: Integers  # [row] tokens predicted so far
    last: Integers  # [row] the newest of them
    seed: NDArray[np.uint64]  # [row]


class Scratch(NamedTuple):
    """Vectors of one call, one for each branch of each pair, flat."""

    x: Floats
    normed: Floats
    qkv: Floats
    attended: Floats
    projected: Floats
    inner: Floats
    activated: Floats
    scores: Floats  # of one head
    logits: Floats
    mixed: Floats  # of one row
    keys: NDArray[np.int32]
    weights: Floats
    pair_row: Integers
    pair_position: Integers
    pair_index: Integers


class DecodeStage:
    """A resident stage and its rows. All calls come from one thread; none allocates beyond its result."""

    def __init__(
        self,
        arrays: StageArrays,
        rows: int,
        window: int,
        dtype: Literal["float32", "bfloat16"] = "bfloat16",
        stage: int = 0,
    ) -> None:
        """
        Args:
            rows: sessions at most.
            window: positions that a position sees, itself included.
            dtype: of matrices and caches; sums are always float32.
            stage: separates this stage's random numbers from those of others with the same seed.
        """
        if dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype is {dtype!r}: use 'float32' or 'bfloat16'")
        if rows < 1 or window < 1:
            raise ValueError(f"{rows} rows and a window of {window} positions: use 1 of each or more")
        self.rows, self.stage = rows, stage
        self.shape = _shape(arrays, window)
        self.weights = _weights(arrays, self.shape, dtype == "bfloat16")
        self._state = _state(self.shape, rows, np.uint16 if dtype == "bfloat16" else np.float32)
        self._scratch = _scratch(self.shape, max(rows, PREFILL_POSITIONS))

    def reset(self, row: int, seed: int = 0) -> None:
        """Empties a row; its tokens will be drawn with `seed`."""
        state = self._state
        self._ring(state.keys, row)[:] = 0
        self._ring(state.values, row)[:] = 0
        state.position[row] = state.predicted[row] = state.last[row] = 0
        state.seed[row] = seed % 2**64

    def prefill(self, rows: Sequence[int], x: Floats) -> None:
        """Appends conditioning positions: x [row, 2, position, dim], conditioned and unconditioned embeddings."""
        indices = self._indices(rows)
        positions = x.shape[2] if x.ndim == 4 else 0
        self._check("x", x, (len(indices), 2, positions, self.shape.dim))
        _prefill(self.shape, self.weights, self._state, self._scratch, indices, np.ascontiguousarray(x, np.float32))

    def generate(
        self,
        rows: Sequence[int],
        steps: int | Sequence[int],
        *,
        guidance: float | Sequence[float] = 1.0,
        temperature: float | Sequence[float] = 1.0,
        top_k: int | Sequence[int] = 0,
        clock: Floats | None = None,
    ) -> NDArray[np.int32]:
        """Predicts the next tokens; numbers may differ from row to row.

        Args:
            guidance: g in `unconditioned + g * (conditioned - unconditioned)`.
            temperature: 0 takes the likeliest token.
            top_k: tokens to choose from; 0 for all.
            clock: [row, frame, dim] added to the input of every token of a frame; frame 0 is that of the next token.
        Returns:
            [row, step] tokens; -1 beyond a row's own steps.
        """
        indices = self._indices(rows)
        count = len(indices)
        each = np.broadcast_to(np.asarray(steps, np.int64), count).copy()
        most = int(each.max(initial=0))
        if clock is None:
            clock = np.zeros((count, 0, self.shape.dim), np.float32)
        elif count:
            begun = int((self._state.predicted[indices] % self.shape.quantizers).max())
            frames = -(-(most + begun) // self.shape.quantizers)
            self._check("clock", clock, (count, max(clock.shape[1], frames), self.shape.dim))
        tokens = np.full((count, most), -1, np.int32)
        _generate(
            self.shape,
            self.weights,
            self._state,
            self._scratch,
            self.stage,
            indices,
            each,
            np.broadcast_to(np.asarray(guidance, np.float32), count).copy(),
            np.broadcast_to(np.asarray(temperature, np.float32), count).copy(),
            np.broadcast_to(np.asarray(top_k, np.int64), count).copy(),
            np.ascontiguousarray(clock, np.float32),
            tokens,
        )
        return tokens

    def step(self, rows: Sequence[int], x: Floats, quantizer: int = 0) -> Floats:
        """Appends one position x [row, 2, dim]; the logits [row, 2, V] that the head of `quantizer` gives for it."""
        indices = self._indices(rows)
        self._check("x", x, (len(indices), 2, self.shape.dim))
        x = np.ascontiguousarray(x, np.float32)
        _step(self.shape, self.weights, self._state, self._scratch, indices, x, quantizer)
        logits = self._scratch.logits[: 2 * len(indices) * self.shape.padded_vocabulary]
        return logits.reshape(len(indices), 2, -1)[:, :, : self.shape.vocabulary].copy()

    def snapshot(self, row: int) -> RowSnapshot:
        """A copy of a row's state."""
        state = self._state
        return RowSnapshot(
            keys=self._ring(state.keys, row).copy(),
            values=self._ring(state.values, row).copy(),
            position=int(state.position[row]),
            predicted=int(state.predicted[row]),
            last=int(state.last[row]),
            seed=int(state.seed[row]),
        )

    def restore(self, row: int, snapshot: RowSnapshot) -> None:
        """Puts a copied state into a row."""
        state = self._state
        self._ring(state.keys, row)[:] = snapshot.keys
        self._ring(state.values, row)[:] = snapshot.values
        state.position[row], state.predicted[row] = snapshot.position, snapshot.predicted
        state.last[row], state.seed[row] = snapshot.last, snapshot.seed

    def position(self, row: int) -> int:
        """Positions that a row has written."""
        return int(self._state.position[row])

    def resident_bytes(self) -> int:
        """Memory held by weights, rows and scratch."""
        return sum(array.nbytes for part in (self.weights, self._state, self._scratch) for array in part)

    def _ring(self, cache: PackedArray, row: int) -> PackedArray:
        if not 0 <= row < self.rows:
            raise ValueError(f"row {row}: use 0 to {self.rows - 1}")
        return cache.reshape(self.rows, -1)[row]

    def _indices(self, rows: Sequence[int]) -> Integers:
        indices = np.array(rows, dtype=np.int64).reshape(-1)
        if len(set(indices.tolist())) != len(indices) or ((indices < 0) | (indices >= self.rows)).any():
            raise ValueError(f"rows {list(rows)}: use each of 0 to {self.rows - 1} at most once")
        return indices

    @staticmethod
    def _check(name: str, array: ArrayLike, shape: tuple[int, ...]) -> None:
        if np.shape(array) != shape:
            raise ValueError(f"{name} has shape {list(np.shape(array))}: use {list(shape)}")


def distance_buckets(distances: Integers, buckets: int, max_distance: int) -> Integers:
    """T5's causal bucket of each distance: exact below half of the buckets, then logarithmic up to `max_distance`."""
    exact = buckets // 2
    if max_distance <= exact:
        raise ValueError(f"max_distance is {max_distance}: use more than {exact}, half of the buckets")
    ratio = np.maximum(distances, exact) / exact
    far = exact + np.floor(exact * np.log(ratio) / math.log(max_distance / exact)).astype(np.int64)
    return np.where(distances < exact, distances, np.minimum(far, buckets - 1))


# ---- the step


@njit(cache=True, nogil=True)
def _generate(
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
        pairs = 0
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
        _layers(shape, weights, state, scratch, pairs, True)
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
def _step(
    shape: Shape, weights: Weights, state: State, scratch: Scratch, rows: Integers, x: Floats, quantizer: int
) -> None:
    """One position of given embeddings x [row, 2, dim]; leaves the logits in the scratch."""
    for pair in range(len(rows)):
        scratch.pair_row[pair], scratch.pair_position[pair] = rows[pair], state.position[rows[pair]]
        _take(shape, scratch, pair, x[pair, 0], x[pair, 1])
    _layers(shape, weights, state, scratch, len(rows), True)
    for pair in range(len(rows)):
        _logits(shape, weights, scratch, pair, quantizer)
        state.position[rows[pair]] += 1


@njit(cache=True, nogil=True)
def _prefill(shape: Shape, weights: Weights, state: State, scratch: Scratch, rows: Integers, x: Floats) -> None:
    """Positions x [row, 2, position, dim], some of one row at a time. Nothing is read off them but keys and values."""
    for i in range(len(rows)):
        row = rows[i]
        for start in range(0, x.shape[2], PREFILL_POSITIONS):
            pairs = min(PREFILL_POSITIONS, x.shape[2] - start)
            for pair in range(pairs):
                scratch.pair_row[pair], scratch.pair_position[pair] = row, state.position[row] + pair
                _take(shape, scratch, pair, x[i, 0, start + pair], x[i, 1, start + pair])
            _layers(shape, weights, state, scratch, pairs, False)
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
    source, at = weights.begin, 0
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
    stored_dim = round_up_to_block(dim)
    for layer in range(shape.layers):
        for vector in range(2 * pairs):
            _rms_norm(scratch.x, vector * dim, weights.norm1, layer * dim, scratch.normed, vector * dim, shape)
        multiply_pairs(
            weights.qkv, layer * 3 * across * dim, 3 * across, dim,
            scratch.normed, 0, dim, scratch.qkv, 0, 3 * across, pairs,
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
            scratch.attended, 0, across, scratch.projected, 0, stored_dim, pairs,
        )  # fmt: skip
        for vector in range(2 * pairs):
            _accumulate(scratch.x, vector * dim, scratch.projected, vector * stored_dim, dim)
            _rms_norm(scratch.x, vector * dim, weights.norm2, layer * dim, scratch.normed, vector * dim, shape)
        multiply_pairs(
            weights.gate_up, layer * 2 * inner * dim, 2 * inner, dim,
            scratch.normed, 0, dim, scratch.inner, 0, 2 * inner, pairs,
        )  # fmt: skip
        for vector in range(2 * pairs):
            for i in range(0, inner, LANES):
                at = 2 * (vector * inner + i)
                gated = gelu(load(scratch.inner, at)) * load(scratch.inner, at + LANES)
                store(scratch.activated, vector * inner + i, gated)
        multiply_pairs(
            weights.down, layer * stored_dim * inner, stored_dim, inner,
            scratch.activated, 0, inner, scratch.projected, 0, stored_dim, pairs,
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
    multiply_one(state.keys, ring, dim, padded, dim, scratch.qkv, query, scores, 0)
    bias = head * _bias_stride(shape.window) + shape.window - 1 - slot
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
    multiply_one(state.values, ring, capacity, dim, (seen + 1) // 2 * 2, scores, 0, scratch.attended, at)
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
        _rms_norm(scratch.x, vector * dim, weights.norm, 0, scratch.normed, vector * dim, shape)
    multiply_pairs(
        weights.heads, quantizer * vocabulary * dim, vocabulary, dim,
        scratch.normed, 2 * pair * dim, dim, scratch.logits, 2 * pair * vocabulary, vocabulary, 1,
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


@njit(cache=True, nogil=True)
def round_up_to_block(count: int) -> int:
    return (count + BLOCK - 1) // BLOCK * BLOCK


@njit(cache=True, nogil=True)
def _bias_stride(window: int) -> int:
    return 2 * window + SLOTS


# ---- memory


def _shape(arrays: StageArrays, window: int) -> Shape:
    layers, dim = arrays.norm1.shape
    head_dim = arrays.q_norm.shape[1]
    quantizers, vocabulary, _ = arrays.heads.shape
    return Shape(
        dim=dim,
        padded_dim=round_up(dim, LANES),
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
        epsilon=arrays.norm_epsilon,
    )


def _weights(arrays: StageArrays, shape: Shape, bfloat16: bool) -> Weights:
    layers, heads, dim = shape.layers, shape.heads, shape.dim
    split = arrays.qkv.reshape(layers, 3, heads, shape.head_dim, dim)
    qkv = _padded(split, 3, shape.padded_head_dim).reshape(layers, -1, dim)
    out = _padded(arrays.out.reshape(layers, dim, heads, shape.head_dim), 3, shape.padded_head_dim)
    gate = _padded(arrays.gate, 1, shape.padded_inner).reshape(layers, -1, 1, LANES, dim)
    up = _padded(arrays.up, 1, shape.padded_inner).reshape(layers, -1, 1, LANES, dim)
    vectors = {
        name: _padded(getattr(arrays, name), -1, shape.padded_dim).reshape(-1)
        for name in ("norm1", "norm2", "norm", "tokens", "begin")
    }
    return Weights(
        qkv=pack(qkv, bfloat16),
        q_norm=_padded(arrays.q_norm / math.sqrt(shape.head_dim), 1, shape.padded_head_dim).reshape(-1),
        k_norm=_padded(arrays.k_norm, 1, shape.padded_head_dim).reshape(-1),
        out=pack(out.reshape(layers, dim, -1), bfloat16),
        gate_up=pack(np.concatenate([gate, up], axis=2).reshape(layers, -1, dim), bfloat16),
        down=pack(arrays.down, bfloat16),
        heads=pack(arrays.heads, bfloat16),
        bias=_bias_by_slot(arrays, shape),
        **vectors,
    )


def _bias_by_slot(arrays: StageArrays, shape: Shape) -> Floats:
    """[head, u] so that, with the newest key in slot n, the biases of slots 0, 1, .. begin at u = window - 1 - n."""
    distances = (shape.window - 1 - np.arange(2 * shape.window)) % shape.window
    bias = arrays.bias[distance_buckets(distances, len(arrays.bias), arrays.max_distance)]
    return _padded(bias.T, 1, _bias_stride(shape.window)).reshape(-1)


def _state(shape: Shape, rows: int, dtype: Any) -> State:
    size = rows * 2 * shape.layers * shape.heads * shape.capacity * shape.padded_head_dim
    return State(
        keys=aligned(size, dtype),
        values=aligned(size, dtype),
        position=np.zeros(rows, np.int64),
        predicted=np.zeros(rows, np.int64),
        last=np.zeros(rows, np.int64),
        seed=np.zeros(rows, np.uint64),
    )


def _scratch(shape: Shape, pairs: int) -> Scratch:
    def vectors(size: int) -> Floats:
        return aligned(2 * pairs * size, np.float32)

    across = shape.heads * shape.padded_head_dim
    return Scratch(
        x=vectors(shape.padded_dim),
        normed=vectors(shape.padded_dim),
        qkv=vectors(3 * across),
        attended=vectors(across),
        projected=vectors(round_up(shape.padded_dim, BLOCK)),
        inner=vectors(2 * shape.padded_inner),
        activated=vectors(shape.padded_inner),
        scores=aligned(shape.capacity, np.float32),
        logits=vectors(shape.padded_vocabulary),
        mixed=aligned(shape.padded_vocabulary, np.float32),
        keys=aligned(shape.padded_vocabulary, np.int32),
        weights=aligned(shape.padded_vocabulary, np.float32),
        pair_row=np.zeros(pairs, np.int64),
        pair_position=np.zeros(pairs, np.int64),
        pair_index=np.zeros(pairs, np.int64),
    )


def _padded(array: Floats, axis: int, size: int) -> Floats:
    """Zeros appended along an axis up to `size`, float32."""
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, size - array.shape[axis])
    return np.ascontiguousarray(np.pad(array, widths), dtype=np.float32)
