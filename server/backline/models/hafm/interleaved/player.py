"""One stage playing chunk after chunk: conditioning in, predictions out, the cache carried along.

When the window slides, the keys and values that stay still know what has left it. `evict` keeps them so (append-only,
constant time, and what training with the windowed mask sees); `recompute` builds the cache anew from the window's
positions before every chunk, as if nothing had come before.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from backline.kernels.decode import DecodeStage
from backline.models.hafm.band import Backend, Sampling, Tokens
from backline.models.hafm.grid import Grid
from backline.models.hafm.interleaved.decode import TorchDecodeStage, stage_arrays
from backline.models.hafm.interleaved.layout import clock_seconds
from backline.models.hafm.interleaved.network import StageNetwork
from backline.models.rows import check_tokens

Cache = Literal["evict", "recompute"]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class ChunkJob:
    """What one row needs for one chunk: per source the frames that A_c adds."""

    row: int
    grid: Grid
    chunk: int
    tokens: Mapping[str, Tokens]
    sampling: Sampling
    ahead: float = 0.0  # seconds, as of a Cue


@dataclass(frozen=True)
class PlayerSnapshot:
    """One row's state: the cache, and the positions that it was made of."""

    decoder: Any
    history: _Recent


class StagePlayer:
    """A resident stage and its rows. All calls come from one thread."""

    def __init__(self, network: StageNetwork, rows: int, number: int, backend: Backend, cache: Cache = "evict") -> None:
        """
        Args:
            number: of the stage; separates its random numbers from the other stages'.
        """
        self.network = network.eval().requires_grad_(False)
        self.config = network.config
        self.cache = cache
        self.decoder: DecodeStage | TorchDecodeStage
        if backend == "torch":
            self.decoder = TorchDecodeStage(network, rows, number)
        else:
            self.decoder = DecodeStage(stage_arrays(network), rows, self.config.window, backend, number)
        self._history = [_Recent(self.config.window, self.config.width) for _ in range(rows)]
        self._clocks: dict[Grid, Floats] = {}

    def reset(self, row: int, seed: int) -> None:
        """Empties a row for a session with `seed`."""
        self.decoder.reset(row, seed)
        self._history[row] = _Recent(self.config.window, self.config.width)

    def play(self, jobs: Sequence[ChunkJob]) -> list[Tokens]:
        """The predictions [quantizer, frame] of one chunk for every job; each row at most once."""
        quantizers = self.config.quantizers
        for job in jobs:
            self._condition(job)
            self.decoder.draw_ahead(job.row, round(job.ahead * self.config.rate))
        rows = [job.row for job in jobs]
        frames = [job.grid.frames(self.config.rate) for job in jobs]
        flat = self.decoder.generate(
            rows,
            [count * quantizers for count in frames],
            guidance=[job.sampling.guidance for job in jobs],
            temperature=[job.sampling.temperature for job in jobs],
            top_k=[job.sampling.top_k for job in jobs],
            clock=self._stacked_clocks(jobs, max(frames)) if self.config.chunk_clock else None,
        )
        predictions = []
        for job, tokens, count in zip(jobs, flat, frames, strict=True):
            own = tokens[: count * quantizers].astype(np.int64).reshape(count, quantizers).T
            if self.cache == "recompute":
                self._remember_predictions(job, own)
            predictions.append(np.ascontiguousarray(own))
        return predictions

    def snapshot(self, row: int) -> PlayerSnapshot:
        """A copy of a row's state."""
        return PlayerSnapshot(self.decoder.snapshot(row), copy.copy(self._history[row]))

    def restore(self, row: int, snapshot: PlayerSnapshot) -> None:
        """Puts a copied state into a row."""
        decoder: Any = self.decoder
        decoder.restore(row, snapshot.decoder)
        self._history[row] = copy.copy(snapshot.history)

    @torch.inference_mode()
    def conditioning(self, job: ChunkJob) -> Floats:
        """[2, position, width] embeddings of A_c, conditioned and unconditioned.

        Raises:
            ValueError: a source has not the frames that the chunk's grid asks for.
        """
        parts = []
        for number, source in enumerate(self.config.sources):
            tokens = job.tokens[source.name]
            start = job.grid.source_frames(source, job.chunk - 1) if job.chunk else 0
            stop = job.grid.source_frames(source, job.chunk)
            if tokens.shape != (source.codebooks, stop - start):
                raise ValueError(
                    f"source {source.name!r} of chunk {job.chunk} has shape {tokens.shape}: "
                    f"use {(source.codebooks, stop - start)}"
                )
            check_tokens(tokens, source.vocabulary, f"source {source.name!r}")
            clock = clock_seconds(np.arange(start, stop), source.rate, job.grid)
            both = torch.from_numpy(tokens).to(self._device).expand(2, -1, -1)
            drop = torch.tensor([False, True], device=self._device)
            parts.append(self.network.embed_source(number, both, torch.from_numpy(clock).to(self._device), drop))
        return torch.cat(parts, dim=1).float().cpu().numpy()

    @torch.inference_mode()
    def predicting(self, grid: Grid, predictions: Tokens, before: int | None = None) -> Floats:
        """[2, position, width] what goes in where a chunk's first frames [quantizer, frame] are predicted.

        That is the token before each, with offset, segment and clock: `before`, or BOS, then all but the last.
        """
        quantizers, frames = predictions.shape
        first = 0 if before is None else quantizers  # of any frame but the very first
        begin = self.config.vocabulary if before is None else before
        inputs = torch.from_numpy(np.concatenate([[begin], predictions.T.reshape(-1)[:-1]])).to(self._device)
        x = self.network.embed_prediction(inputs[None], first)[0].float().cpu().numpy()
        if self.config.chunk_clock:
            x = x + np.repeat(self.clock(grid)[:frames], quantizers, axis=0)
        return np.stack([x, x])

    def resident_bytes(self) -> int:
        """Memory held by weights and rows."""
        embeddings = 0 if isinstance(self.decoder, TorchDecodeStage) else _bytes(self.network.parameters())
        return embeddings + self.decoder.resident_bytes()

    @property
    def _device(self) -> torch.device:
        return self.network.segment.device

    def _condition(self, job: ChunkJob) -> None:
        """Puts A_c behind what the row's cache holds; under `recompute` builds that anew first."""
        x = self.conditioning(job)
        if self.cache == "recompute":
            history = self._history[job.row]
            history.append(x)
            x = history.newest()
            before: Any = self.decoder.snapshot(job.row)
            self.decoder.reset(job.row)
            self.decoder.prefill([job.row], x[None])
            rebuilt: Any = self.decoder.snapshot(job.row)
            drawn = dataclasses.replace(rebuilt, predicted=before.predicted, last=before.last, seed=before.seed)
            self.decoder.restore(job.row, drawn)
        else:
            self.decoder.prefill([job.row], x[None])

    def _remember_predictions(self, job: ChunkJob, predictions: Tokens) -> None:
        """Adds what went in at the chunk's predictions."""
        history = self._history[job.row]
        history.append(self.predicting(job.grid, predictions, history.token))
        history.token = int(predictions[-1, -1])

    def clock(self, grid: Grid) -> Floats:
        """[frame, width] what the clock adds at the predictions of a chunk."""
        if grid not in self._clocks:
            frames = np.arange(grid.frames(self.config.rate))
            seconds = torch.from_numpy(clock_seconds(frames, self.config.rate, grid)).to(self._device)
            with torch.inference_mode():
                self._clocks[grid] = self.network.embed_clock(seconds).float().cpu().numpy()
        return self._clocks[grid]

    def _stacked_clocks(self, jobs: Sequence[ChunkJob], frames: int) -> Floats:
        """[job, frame, width], zeros beyond a job's own frames."""
        clocks = np.zeros((len(jobs), frames, self.config.width), np.float32)
        for clock, job in zip(clocks, jobs, strict=True):
            own = self.clock(job.grid)
            clock[: len(own)] = own
        return clocks


class _Recent:
    """The embeddings of a row's newest positions, and its newest prediction."""

    def __init__(self, window: int, width: int) -> None:
        self.window = window
        self.token: int | None = None
        self._x = np.zeros((2, 0, width), np.float32)

    def append(self, x: Floats) -> None:
        """Further positions [2, position, width]."""
        self._x = np.concatenate([self._x, x], axis=1)[:, -self.window :]

    def newest(self) -> Floats:
        """[2, position, width], as many as the window holds."""
        return self._x


def _bytes(tensors: Any) -> int:
    return sum(tensor.nbytes for tensor in tensors)
