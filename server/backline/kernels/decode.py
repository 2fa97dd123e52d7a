"""The decode step of a transformer stage, fused: one Numba call embeds, attends, feeds forward, guides and samples.

A row is a session. It owns two cache rows, one conditioned and one not, which move together: guidance needs both. A
stage that is never guided has the first only. All rows of a call share one pass over the weights. The network is that
of backline/nn/transformer.py (pre-RMSNorm, RMSNorm per head on queries and keys, T5 bias by distance, exact GELU),
which stays the reference. A row's numbers depend neither on what shares the call nor on how positions are cut into
calls: every sum has its own fixed order.

    stage = DecodeStage(arrays, rows=2, window=512, dtype="bfloat16", stage=1)
    stage.reset(0, seed=7)
    stage.prefill([0], conditioning)  # [row, 2, position, dim]
    tokens = stage.generate([0], 60, guidance=3.0, temperature=0.9, top_k=250)  # [row, step]

A stage with delays predicts all its codebooks at every position, under a condition that is added to each input:

    tokens = stage.generate_frames([0], conditions, guidance=3.0)  # [row, 2, step, dim] -> [row, step, codebook]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backline.kernels import decode_step
from backline.kernels.decode_arrays import (
    Floats,
    Integers,
    StageArrays,
    empty_scratch,
    empty_state,
    packed_weights,
    stage_shape,
)
from backline.kernels.packed import PackedArray


class DecodeStage:
    """A resident stage and its rows. All calls come from one thread; none allocates beyond its result."""

    def __init__(
        self,
        arrays: StageArrays,
        rows: int,
        window: int,
        dtype: Literal["float32", "bfloat16"] = "bfloat16",
        stage: int = 0,
        branches: Literal[1, 2] = 2,
    ) -> None:
        """
        Args:
            rows: sessions at most.
            window: positions that a position sees, itself included.
            dtype: of matrices and caches; sums are always float32.
            stage: separates this stage's random numbers from those of others with the same seed.
            branches: 2, or 1 for a stage without guidance: half the memory and nearly half the work.
        """
        if dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype is {dtype!r}: use 'float32' or 'bfloat16'")
        if rows < 1 or window < 1:
            raise ValueError(f"{rows} rows and a window of {window} positions: use 1 of each or more")
        if branches not in (1, 2):
            raise ValueError(f"{branches} branches: use 2, or 1 for a stage without guidance")
        self.rows, self.stage, self.branches = rows, stage, branches
        self.delayed = arrays.delays is not None
        self.shape = stage_shape(arrays, window, branches)
        self.weights = packed_weights(arrays, self.shape, dtype == "bfloat16")
        self._state = empty_state(self.shape, rows, np.uint16 if dtype == "bfloat16" else np.float32)
        self._scratch = empty_scratch(self.shape, max(rows, decode_step.PREFILL_POSITIONS))

    def reset(self, row: int, seed: int = 0) -> None:
        """Empties a row; its tokens will be drawn with `seed`."""
        state = self._state
        self._ring(state.keys, row)[:] = 0
        self._ring(state.values, row)[:] = 0
        self._last(row)[:] = 0
        state.position[row] = state.predicted[row] = state.ahead[row] = 0
        state.seed[row] = seed % 2**64

    def draw_ahead(self, row: int, frames: int) -> None:
        """From now on a row's frame f is drawn with the numbers of frame f + `frames`; until the next reset."""
        self._state.ahead[row] = frames

    def prefill(self, rows: Sequence[int], x: Floats) -> None:
        """Appends conditioning positions: x [row, branch, position, dim], conditioned and unconditioned embeddings."""
        indices = self._indices(rows)
        positions = x.shape[2] if x.ndim == 4 else 0
        self._check("x", x, (len(indices), self.shape.branches, positions, self.shape.dim))
        decode_step.prefill(self.shape, self.weights, self._state, self._scratch, indices, _plain(x))

    def generate(
        self,
        rows: Sequence[int],
        steps: int | Sequence[int],
        *,
        guidance: float | Sequence[float] = 1.0,
        temperature: float | Sequence[float] = 1.0,
        top_k: int | Sequence[int] = 0,
        top_p: float | Sequence[float] = 1.0,
        clock: Floats | None = None,
    ) -> NDArray[np.int32]:
        """Predicts the next tokens, one a position; numbers may differ from row to row.

        Args:
            guidance: g in `unconditioned + g * (conditioned - unconditioned)`; 1 where the stage has one branch.
            temperature: 0 takes the likeliest token.
            top_k: tokens to choose from; 0 for all.
            top_p: the probability that those must make; 1 for all.
            clock: [row, frame, dim] added to the input of every token of a frame; frame 0 is that of the next token.
        Returns:
            [row, step] tokens; -1 beyond a row's own steps.
        """
        if self.delayed:
            raise ValueError("this stage predicts all codebooks at every position: use generate_frames")
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
        decode_step.generate(
            self.shape,
            self.weights,
            self._state,
            self._scratch,
            self.stage,
            indices,
            each,
            *self._sampling(count, guidance, temperature, top_k, top_p),
            _plain(clock),
            tokens,
        )
        return tokens

    def generate_frames(
        self,
        rows: Sequence[int],
        conditions: Floats,
        *,
        steps: int | Sequence[int] | None = None,
        guidance: float | Sequence[float] = 1.0,
        temperature: float | Sequence[float] = 1.0,
        top_k: int | Sequence[int] = 0,
        top_p: float | Sequence[float] = 1.0,
    ) -> NDArray[np.int32]:
        """Predicts the next token of every codebook, position after position; numbers may differ from row to row.

        Position s of a row's life predicts the token of frame s - delay of every codebook. Its input is its condition,
        plus for every codebook the token predicted at s - 1 or, as long as there is none, what begins the codebook.

        Args:
            conditions: [row, branch, step, dim].
            steps: how many of the conditions' steps each row takes; all of them if not given.
            guidance, temperature, top_k, top_p: as for `generate`; guidance 1 is the conditioned branch to the bit.
        Returns:
            [row, step, codebook] tokens; -1 where a codebook has not begun, and beyond a row's own steps.
        """
        if not self.delayed:
            raise ValueError("this stage predicts one token a position: use generate, or give its arrays delays")
        indices = self._indices(rows)
        count = len(indices)
        most = conditions.shape[2] if conditions.ndim == 4 else 0
        self._check("conditions", conditions, (count, self.shape.branches, most, self.shape.dim))
        each = np.broadcast_to(np.asarray(most if steps is None else steps, np.int64), count).copy()
        if ((each < 0) | (each > most)).any():
            raise ValueError(f"steps are {each.tolist()}: use 0 to {most}, as many as there are conditions")
        tokens = np.full((count, most, self.shape.quantizers), -1, np.int32)
        decode_step.generate_frames(
            self.shape,
            self.weights,
            self._state,
            self._scratch,
            self.stage,
            indices,
            each,
            *self._sampling(count, guidance, temperature, top_k, top_p),
            _plain(conditions),
            tokens,
        )
        return tokens

    def step(self, rows: Sequence[int], x: Floats, quantizer: int = 0) -> Floats:
        """Appends one position x [row, branch, dim]; the logits [row, branch, V] that a quantizer's head gives."""
        indices, branches = self._indices(rows), self.shape.branches
        self._check("x", x, (len(indices), branches, self.shape.dim))
        decode_step.step(self.shape, self.weights, self._state, self._scratch, indices, _plain(x), quantizer)
        logits = self._scratch.logits[: len(indices) * branches * self.shape.padded_vocabulary]
        return logits.reshape(len(indices), branches, -1)[:, :, : self.shape.vocabulary].copy()

    def snapshot(self, row: int) -> RowSnapshot:
        """A copy of a row's state."""
        state = self._state
        return RowSnapshot(
            keys=self._ring(state.keys, row).copy(),
            values=self._ring(state.values, row).copy(),
            position=int(state.position[row]),
            predicted=int(state.predicted[row]),
            last=self._last(row).copy(),
            seed=int(state.seed[row]),
        )

    def restore(self, row: int, snapshot: RowSnapshot) -> None:
        """Puts a copied state into a row."""
        state = self._state
        self._ring(state.keys, row)[:] = snapshot.keys
        self._ring(state.values, row)[:] = snapshot.values
        self._last(row)[:] = snapshot.last
        state.position[row], state.predicted[row] = snapshot.position, snapshot.predicted
        state.seed[row] = snapshot.seed

    def position(self, row: int) -> int:
        """Positions that a row has written."""
        return int(self._state.position[row])

    def kv_bytes(self) -> int:
        """Memory of one row's KV cache."""
        return (self._state.keys.nbytes + self._state.values.nbytes) // self.rows

    def resident_bytes(self) -> int:
        """Memory held by weights, rows and scratch."""
        return sum(array.nbytes for part in (self.weights, self._state, self._scratch) for array in part)

    def _ring(self, cache: PackedArray, row: int) -> PackedArray:
        if not 0 <= row < self.rows:
            raise ValueError(f"row {row}: use 0 to {self.rows - 1}")
        return cache.reshape(self.rows, -1)[row]

    def _last(self, row: int) -> Integers:
        """A row's newest token of each codebook."""
        return self._state.last.reshape(self.rows, -1)[row]

    def _sampling(
        self, count: int, guidance: Any, temperature: Any, top_k: Any, top_p: Any
    ) -> tuple[Floats, Floats, Integers, Floats]:
        """One number of each for each of `count` rows."""
        guidance, temperature, top_p = (
            np.broadcast_to(np.asarray(n, np.float32), count).copy() for n in (guidance, temperature, top_p)
        )
        if self.shape.branches == 1 and (guidance != 1).any():
            raise ValueError(f"guidance is {guidance.tolist()} for a stage with one branch: use 1, or branches=2")
        return guidance, temperature, np.broadcast_to(np.asarray(top_k, np.int64), count).copy(), top_p

    def _indices(self, rows: Sequence[int]) -> Integers:
        indices = np.array(rows, dtype=np.int64).reshape(-1)
        if len(set(indices.tolist())) != len(indices) or ((indices < 0) | (indices >= self.rows)).any():
            raise ValueError(f"rows {list(rows)}: use each of 0 to {self.rows - 1} at most once")
        return indices

    @staticmethod
    def _check(name: str, array: ArrayLike, shape: tuple[int, ...]) -> None:
        if np.shape(array) != shape:
            raise ValueError(f"{name} has shape {list(np.shape(array))}: use {list(shape)}")


@dataclass(frozen=True)
class RowSnapshot:
    """One row's state, for `DecodeStage.restore` of a stage of the same sizes."""

    keys: PackedArray
    values: PackedArray
    position: int
    predicted: int
    last: Integers  # [quantizer]
    seed: int


def _plain(array: Floats) -> Floats:
    """float32, contiguous and writable: of any other kind of array Numba would compile another version."""
    return np.require(array, np.float32, ["C", "W"])
