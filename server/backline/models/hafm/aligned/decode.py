"""Decoding an aligned stage step by step in torch: the reference for kernels/decode.py, and the way on a GPU.

Same interface and rules as `DecodeStage.generate_frames`. Every step has the same shapes (all rows, idle ones masked).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backline.kernels.decode import StageArrays
from backline.kernels.random import uniform_array
from backline.models.hafm.aligned.network import AlignedNetwork
from backline.models.hafm.arrays import as_array, transformer_arrays
from backline.nn.sampling import choose, guide

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class FrameSnapshot:
    """One row's state, for `TorchFrameStage.restore`."""

    keys: Tensor  # [branch, layer, head, slot, head_width]
    values: Tensor
    position: Tensor  # [branch]
    last: Tensor  # [codebook]
    predicted: int
    seed: int


class TorchFrameStage:
    """A stage and its rows on the device of its network. Row r owns the cache rows from `branches` * r on."""

    def __init__(self, network: AlignedNetwork, rows: int, stage: int = 0, branches: int = 2) -> None:
        self.network, self.rows, self.stage, self.branches = network.eval().requires_grad_(False), rows, stage, branches
        self.device = network.tokens.device
        self.config = network.config
        self._delays = torch.tensor(self.config.delays, device=self.device)
        self._state = network.transformer.init_state(branches * rows)
        self._last = torch.full(
            (rows, self.config.codebooks), self.config.vocabulary, dtype=torch.int64, device=self.device
        )
        self._counts = np.zeros(rows, np.int64)
        self._seeds, self._ahead = [0] * rows, [0] * rows

    def reset(self, row: int, seed: int = 0) -> None:
        """Empties a row; its tokens will be drawn with `seed`."""
        for branch in range(self.branches * row, self.branches * (row + 1)):
            self._state.reset_(branch)
        self._last[row] = self.config.vocabulary
        self._counts[row], self._seeds[row], self._ahead[row] = 0, seed, 0

    def draw_ahead(self, row: int, frames: int) -> None:
        """From now on a row's frame f is drawn with the numbers of frame f + `frames`; until the next reset."""
        self._ahead[row] = frames

    @torch.inference_mode()
    def prefill(self, rows: Sequence[int], x: Floats) -> None:
        """Appends positions x [row, branch, position, width] that predict nothing."""
        for row, given in zip(rows, x, strict=True):
            every = torch.zeros((self.branches * self.rows, *given.shape[1:]), device=self.device)
            mine = torch.zeros(len(every), dtype=torch.bool, device=self.device)
            branches = slice(self.branches * row, self.branches * (row + 1))
            every[branches], mine[branches] = torch.from_numpy(np.ascontiguousarray(given, np.float32)).to(every), True
            self.network.transformer.step_(every, self._state, mine)

    @torch.inference_mode()
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
        """Predicts the next steps [row, step, codebook] under conditions [row, branch, step, width].

        -1 beyond a row's own `steps`, and for codebooks whose delay is not over.
        """
        index = np.asarray(rows, np.int64)
        count, books = len(index), self.config.codebooks
        most = conditions.shape[2]
        each = np.broadcast_to(np.asarray(most if steps is None else steps, np.int64), count)

        def by_codebook(values: object, dtype: torch.dtype) -> Tensor:
            given = np.broadcast_to(np.asarray(values), count).copy()
            return torch.as_tensor(given, dtype=dtype, device=self.device).repeat_interleave(books)

        scale, heat = by_codebook(guidance, torch.float32), by_codebook(temperature, torch.float32)
        kept, likeliest = by_codebook(top_k, torch.int64), by_codebook(top_p, torch.float32)
        given = torch.from_numpy(np.ascontiguousarray(conditions, np.float32)).to(self.device)
        chosen = torch.from_numpy(index).to(self.device)
        tokens = np.full((count, most, books), -1, np.int32)
        for step in range(most):
            active = torch.from_numpy(step < each).to(self.device)
            begun = torch.from_numpy(self._counts[index])[:, None].to(self.device) >= self._delays  # [row, codebook]
            logits = self._logits(chosen, active, given[:, :, step])  # [row, branch, codebook, vocabulary]
            flat = logits.transpose(1, 2).flatten(0, 1)  # [row * codebook, branch, vocabulary]
            mixed = flat[:, 0]
            if self.branches == 2:
                guided = guide(flat[:, 0], flat[:, 1], scale)
                mixed = torch.where(scale[:, None] == 1, mixed, guided)  # to the bit, as in the kernel
            u = np.concatenate([self._uniform(row) for row in index])
            token = choose(mixed, heat, kept, torch.from_numpy(u).to(self.device), likeliest).view(count, books)
            moves = active[:, None] & begun
            self._last[chosen] = torch.where(moves, token, self._last[chosen])
            tokens[:, step] = torch.where(moves, token, -1).cpu().numpy()
            self._counts[index] += step < each
        return tokens

    def snapshot(self, row: int) -> FrameSnapshot:
        """A copy of a row's state."""
        branches = slice(self.branches * row, self.branches * (row + 1))
        return FrameSnapshot(
            keys=self._state.keys[branches].clone(),
            values=self._state.values[branches].clone(),
            position=self._state.offset[branches].clone(),
            last=self._last[row].clone(),
            predicted=int(self._counts[row]),
            seed=self._seeds[row],
        )

    def restore(self, row: int, snapshot: FrameSnapshot) -> None:
        """Puts a copied state into a row."""
        branches = slice(self.branches * row, self.branches * (row + 1))
        self._state.keys[branches] = snapshot.keys
        self._state.values[branches] = snapshot.values
        self._state.offset[branches] = snapshot.position
        self._last[row] = snapshot.last
        self._counts[row], self._seeds[row] = snapshot.predicted, snapshot.seed

    def kv_bytes(self) -> int:
        """Memory of one row's KV cache."""
        return (self._state.keys.nbytes + self._state.values.nbytes) // self.rows

    def resident_bytes(self) -> int:
        """Memory held by rows; the weights are the network's."""
        return self._state.keys.nbytes + self._state.values.nbytes

    def _logits(self, rows: Tensor, active: Tensor, conditions: Tensor) -> Tensor:
        """One position of the given rows: [row, branch, codebook, vocabulary] of conditions [row, branch, width]."""
        heard = self.network.embed_tokens(self._last[:, :, None])  # [any row, 1, width]
        x = heard[:, None].repeat(1, self.branches, 1, 1)
        x[rows] += conditions[:, :, None]
        mask = torch.zeros(self.rows, dtype=torch.bool, device=self.device)
        mask[rows] = active
        hidden = self.network.transformer.step_(
            x.flatten(0, 1), self._state, mask.repeat_interleave(self.branches)
        )  # [row * branch, 1, width]
        logits = self.network.logits(hidden)[:, 0]
        return logits.unflatten(0, (self.rows, self.branches))[rows]

    def _uniform(self, row: int) -> Floats:
        """[codebook] numbers of a row's next step."""
        books = self.config.codebooks
        frame = self._ahead[row] + self._counts[row]
        return uniform_array(self._seeds[row], self.stage, frame * books + np.arange(books))


def frame_arrays(network: AlignedNetwork) -> StageArrays:
    """The network's weights as the fused step takes them."""
    tokens, begin = as_array(network.tokens[:, :-1]), network.tokens[:, -1]
    factors: dict[str, Any] = {}
    if network.config.code_width:
        begin = (begin[:, None] @ network.enter)[:, 0]
        factors = {
            "enter": as_array(network.enter.transpose(1, 2)),
            "leave": as_array(network.leave.transpose(1, 2)),
            "head_bias": as_array(network.head_bias),
        }
    return StageArrays(
        **transformer_arrays(network.transformer),
        heads=tokens if factors else as_array(network.heads),
        tokens=tokens,
        begin=as_array(begin),
        delays=np.asarray(network.config.delays, np.int64),
        **factors,
    )
