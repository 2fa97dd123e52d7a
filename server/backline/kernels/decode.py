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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

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
        self.shape = stage_shape(arrays, window)
        self.weights = packed_weights(arrays, self.shape, dtype == "bfloat16")
        self._state = empty_state(self.shape, rows, np.uint16 if dtype == "bfloat16" else np.float32)
        self._scratch = empty_scratch(self.shape, max(rows, decode_step.PREFILL_POSITIONS))

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
        decode_step.prefill(self.shape, self.weights, self._state, self._scratch, indices, _plain(x))

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
        decode_step.generate(
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
            _plain(clock),
            tokens,
        )
        return tokens

    def step(self, rows: Sequence[int], x: Floats, quantizer: int = 0) -> Floats:
        """Appends one position x [row, 2, dim]; the logits [row, 2, V] that the head of `quantizer` gives for it."""
        indices = self._indices(rows)
        self._check("x", x, (len(indices), 2, self.shape.dim))
        decode_step.step(self.shape, self.weights, self._state, self._scratch, indices, _plain(x), quantizer)
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


@dataclass(frozen=True)
class RowSnapshot:
    """One row's state, for `DecodeStage.restore` of a stage of the same sizes."""

    keys: PackedArray
    values: PackedArray
    position: int
    predicted: int
    last: int
    seed: int


def _plain(array: Floats) -> Floats:
    """float32, contiguous and writable: of any other kind of array Numba would compile another version."""
    return np.require(array, np.float32, ["C", "W"])
