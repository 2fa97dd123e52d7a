"""Decoding a stage step by step in torch: the reference for kernels/decode.py, and the way on a GPU.

Same interface and rules as the fused `DecodeStage`. Every step has the same shapes (all rows, idle ones masked), so on
a GPU one step is one CUDA graph, captured once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backline.kernels.decode import StageArrays
from backline.kernels.random import uniform_array
from backline.models.hafm.arrays import as_array, transformer_arrays
from backline.models.hafm.interleaved.network import StageNetwork
from backline.nn.sampling import choose, guide

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class RowSnapshot:
    """One row's state, for `TorchDecodeStage.restore`."""

    keys: Tensor  # [branch, layer, head, slot, head_width]
    values: Tensor
    position: Tensor  # [branch]
    predicted: int
    last: int
    seed: int


class TorchDecodeStage:
    """A stage and its rows on the device of its network. Row r owns cache rows 2r (conditioned) and 2r + 1 (not)."""

    def __init__(self, network: StageNetwork, rows: int, stage: int = 0) -> None:
        self.network, self.rows, self.stage = network.eval().requires_grad_(False), rows, stage
        self.device = network.segment.device
        config = network.config
        self.quantizers, self.width = config.quantizers, config.width
        self._heads = network.served_heads()
        self._leave = network.served(network.leave) if network.factorised else None
        self._head_bias = network.served(network.head_bias) if network.factorised else None
        self._inputs = network.served_inputs()  # [quantizer, vocabulary + 1, width]
        self._state = network.transformer.init_state(2 * rows)
        self._counts = np.zeros(rows, np.int64)
        self._seeds, self._ahead = [0] * rows, [0] * rows
        # What a step reads and writes, at fixed addresses.
        self._count = torch.zeros(rows, dtype=torch.int64, device=self.device)
        self._last = torch.full((rows,), config.vocabulary, dtype=torch.int64, device=self.device)
        self._mask = torch.zeros(rows, dtype=torch.bool, device=self.device)
        self._guidance, self._temperature, self._u = (torch.zeros(rows, device=self.device) for _ in range(3))
        self._top_k = torch.zeros(rows, dtype=torch.int64, device=self.device)
        self._clock = torch.zeros(rows, self.width, device=self.device)
        self._run = self._captured() if self.device.type == "cuda" else self._advance

    def reset(self, row: int, seed: int = 0) -> None:
        """Empties a row; its tokens will be drawn with `seed`."""
        for branch in (2 * row, 2 * row + 1):
            self._state.reset_(branch)
        self._counts[row] = self._count[row] = 0
        self._last[row] = self.network.config.vocabulary
        self._seeds[row], self._ahead[row] = seed, 0

    def draw_ahead(self, row: int, frames: int) -> None:
        """From now on a row's frame f is drawn with the numbers of frame f + `frames`; until the next reset."""
        self._ahead[row] = frames

    @torch.inference_mode()
    def prefill(self, rows: Sequence[int], x: Floats) -> None:
        """Appends conditioning positions: x [row, 2, position, width], conditioned and unconditioned embeddings."""
        if x.shape[2]:
            self._append(rows, x)

    @torch.inference_mode()
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
        """Predicts the next tokens [row, step], -1 beyond a row's own `steps`; see kernels/decode.py."""
        index = np.asarray(rows, np.int64)
        each = np.broadcast_to(np.asarray(steps, np.int64), len(index))
        most = int(each.max(initial=0))
        for target, values in ((self._guidance, guidance), (self._temperature, temperature), (self._top_k, top_k)):
            target[torch.from_numpy(index)] = torch.as_tensor(
                np.broadcast_to(np.asarray(values), len(index)).copy(), dtype=target.dtype, device=self.device
            )
        active = np.zeros((most, self.rows), bool)
        u = np.zeros((most, self.rows), np.float32)
        clocks = np.zeros((most, self.rows, self.width), np.float32)
        for i, row in enumerate(index):
            own = np.arange(each[i])
            active[: each[i], row] = True
            first = self._ahead[row] * self.quantizers + self._counts[row]
            u[: each[i], row] = uniform_array(self._seeds[row], self.stage, first + own)
            if clock is not None:
                clocks[: each[i], row] = clock[i, (self._counts[row] % self.quantizers + own) // self.quantizers]
        active_steps, u_steps, clock_steps = (torch.from_numpy(a).to(self.device) for a in (active, u, clocks))
        tokens = torch.empty(most, self.rows, dtype=torch.int64, device=self.device)
        for step in range(most):
            self._mask.copy_(active_steps[step])
            self._u.copy_(u_steps[step])
            self._clock.copy_(clock_steps[step])
            self._run()
            tokens[step] = self._last
        self._counts[index] += each
        own_tokens = tokens.cpu().numpy().T[index]
        return np.where(np.arange(most) < each[:, None], own_tokens, -1).astype(np.int32)

    @torch.inference_mode()
    def step(self, rows: Sequence[int], x: Floats, quantizer: int = 0) -> Floats:
        """Appends one position x [row, 2, width]; the logits [row, 2, vocabulary] that a quantizer's head gives."""
        hidden = self._append(rows, x[:, :, None])[:, :, 0]
        if self._leave is not None and self._head_bias is not None:
            left = hidden @ self._leave[quantizer]
            return (left @ self._heads[quantizer].T + self._head_bias[quantizer]).cpu().numpy()
        return (hidden @ self._heads[quantizer].T).cpu().numpy()

    def snapshot(self, row: int) -> RowSnapshot:
        """A copy of a row's state."""
        branches = slice(2 * row, 2 * row + 2)
        return RowSnapshot(
            keys=self._state.keys[branches].clone(),
            values=self._state.values[branches].clone(),
            position=self._state.offset[branches].clone(),
            predicted=int(self._counts[row]),
            last=int(self._last[row]),
            seed=self._seeds[row],
        )

    def restore(self, row: int, snapshot: RowSnapshot) -> None:
        """Puts a copied state into a row."""
        branches = slice(2 * row, 2 * row + 2)
        self._state.keys[branches] = snapshot.keys
        self._state.values[branches] = snapshot.values
        self._state.offset[branches] = snapshot.position
        self._counts[row] = self._count[row] = snapshot.predicted
        self._last[row], self._seeds[row] = snapshot.last, snapshot.seed

    def position(self, row: int) -> int:
        """Positions that a row has written."""
        return int(self._state.offset[2 * row])

    def kv_bytes(self) -> int:
        """Memory of one row's KV cache."""
        return (self._state.keys.nbytes + self._state.values.nbytes) // self.rows

    def resident_bytes(self) -> int:
        """Memory held by weights and rows."""
        held = (*self.network.parameters(), self._inputs, self._heads, self._state.keys, self._state.values)
        return sum(tensor.nbytes for tensor in held)

    def _append(self, rows: Sequence[int], x: Floats) -> Tensor:
        """Hidden states [row, 2, position, width] of embeddings x [row, 2, position, width] behind what is there."""
        index = torch.as_tensor(np.asarray(rows, np.int64), device=self.device)
        whole = torch.zeros(self.rows, *x.shape[1:], device=self.device)
        whole[index] = torch.from_numpy(np.ascontiguousarray(x, np.float32)).to(self.device)
        mask = torch.zeros(self.rows, dtype=torch.bool, device=self.device)
        mask[index] = True
        hidden = self.network.transformer.step_(whole.flatten(0, 1), self._state, mask.repeat_interleave(2))
        return hidden.unflatten(0, (self.rows, 2))[index]

    def _advance(self) -> None:
        """One prediction of every row in the mask; reads and writes the tensors of the constructor only."""
        previous = (self._count - 1) % self.quantizers
        x = self._inputs[previous, self._last] + self._clock
        branches = x.repeat_interleave(2, dim=0)[:, None]
        hidden = self.network.transformer.step_(branches, self._state, self._mask.repeat_interleave(2))
        logits = self._logits(hidden.view(self.rows, 2, self.width), self._count % self.quantizers)
        token = choose(guide(logits[0], logits[1], self._guidance), self._temperature, self._top_k, self._u)
        self._last.copy_(torch.where(self._mask, token, self._last))
        self._count.add_(self._mask)

    def _logits(self, hidden: Tensor, head: Tensor) -> Tensor:
        """[branch, row, vocabulary] of hidden states [row, branch, width], each row by its own head [row]."""
        if self._leave is None or self._head_bias is None:
            return torch.einsum("rbd,rvd->brv", hidden, self._heads[head])
        left = torch.einsum("rbd,rdc->brc", hidden, self._leave[head])
        every = torch.einsum("brc,qvc->qbrv", left, self._heads)  # a large table is not copied for each row
        return every[head, :, torch.arange(self.rows, device=self.device)].transpose(0, 1) + self._head_bias[head]

    def _captured(self) -> Callable[[], None]:
        """`_advance` as a CUDA graph; nothing moves in the capture, since no row is in the mask."""
        with torch.inference_mode():
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):
                    self._advance()
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._advance()
        return graph.replay


def stage_arrays(network: StageNetwork) -> StageArrays:
    """The network's weights as the fused step takes them: its options are folded into the tables."""
    common = {**transformer_arrays(network.transformer), "heads": as_array(network.served_heads())}
    if not network.factorised:
        inputs = network.served_inputs()
        return StageArrays(**common, tokens=as_array(inputs[:, :-1]), begin=as_array(inputs[-1, -1]))
    config = network.config
    after = [1 if choice == "target" else 0 for choice in (config.token_table, config.quantizer_offset)]
    with torch.no_grad():
        begin = network.embed_prediction(torch.full((1, 1), config.vocabulary, device=network.segment.device), 0)
    return StageArrays(
        **common,
        tokens=as_array(network.prediction[:, :-1].roll(-after[0], 0)),
        begin=as_array(begin[0, 0]),
        enter=as_array(network.enter.roll(-after[0], 0).transpose(1, 2)),
        leave=as_array(network.served(network.leave).transpose(1, 2)),
        head_bias=as_array(network.served(network.head_bias)),
        after=as_array(network.quantizer_offset.roll(-after[1], 0) + network.segment[-1]),
    )
