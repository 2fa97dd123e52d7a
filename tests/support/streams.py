"""A small real model for the engine's tests: its input times a gain, at its own rate, with look-ahead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from backline.models.stream import (
    Audio,
    ChunkInput,
    ChunkOutput,
    LatencyItem,
    Parameter,
    Port,
    SessionConfig,
    StreamSpec,
)


@dataclass
class GainRow:
    """One session's state, in samples of the model."""

    chunk: int
    visibility: int
    chunks: int = 0
    heard: list[Audio] = field(default_factory=list)


class GainStream:
    """Chunk c is the input of chunk c times the parameter `gain`.

    Input beyond what a chunk has heard is silence. `before_step` runs first in every call: tests fail or wait there.
    """

    def __init__(
        self,
        rate: int | None = 24_000,
        channels: int | None = 1,
        ports: int = 1,
        capacity: int = 4,
        look_ahead: int = 0,
        cost: float = 0.001,
    ) -> None:
        self.spec = StreamSpec(
            input_rate=rate,
            output_rate=rate,
            input_channels=channels,
            ports=tuple(Port(f"out{index}", channels or 0) for index in range(ports)),
            parameters=(Parameter("gain", 1.0, 0.0, 4.0), Parameter("fixed", 0.0, 0.0, 1.0, automatable=False)),
            chunk_quantum_seconds=Fraction(1, 25),
            default_chunk_seconds=Fraction(2, 25),
            default_visibility_seconds=0.08,
        )
        self.capacity, self.look_ahead, self.cost = capacity, look_ahead, cost
        self.rows: dict[int, GainRow] = {}
        self.calls: list[list[ChunkInput]] = []
        self.before_step: Callable[[Sequence[ChunkInput]], None] = lambda inputs: None

    def open(self, config: SessionConfig) -> int:
        rate = self.spec.input_rate or config.sample_rate
        for row in range(self.capacity):
            if row not in self.rows:
                self.rows[row] = GainRow(
                    int(config.chunk_seconds * rate),
                    round(config.visibility_seconds * rate),
                )
                return row
        raise RuntimeError("no row is free")

    def close(self, row: int) -> None:
        del self.rows[row]

    def required_input(self, row: int) -> int:
        state = self.rows[row]
        return state.chunks * state.chunk + state.visibility + self.look_ahead

    def step(self, inputs: Sequence[ChunkInput]) -> list[ChunkOutput]:
        self.calls.append(list(inputs))
        self.before_step(inputs)
        return [self._chunk(given) for given in inputs]

    def latency(self, config: SessionConfig) -> tuple[LatencyItem, ...]:
        rate = self.spec.input_rate or config.sample_rate
        return (
            LatencyItem("front_end", self.look_ahead / rate, "look-ahead"),
            LatencyItem("visibility", config.visibility_seconds),
        )

    def warm_up(self, config: SessionConfig) -> float:
        return self.cost

    def resident_bytes(self) -> int:
        return 1000

    def _chunk(self, given: ChunkInput) -> ChunkOutput:
        state = self.rows[given.row]
        state.heard.append(given.audio)
        heard = np.concatenate(state.heard, axis=1)
        end = (state.chunks + 1) * state.chunk
        start = end - state.chunk
        audio = np.zeros((heard.shape[0], end - start), np.float32)
        there = heard[:, start:end]
        audio[:, : there.shape[1]] = there * np.float32(given.parameters["gain"])
        state.chunks += 1
        codes = np.full((1, 2), state.chunks, np.int32)
        return ChunkOutput(given.row, start, (audio,) * len(self.spec.ports), state.chunks - 1, codes)
