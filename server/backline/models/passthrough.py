"""Gives back what it hears, bit for bit, on any number of ports: the model that every latency test uses.

A declared latency is look-ahead: a chunk waits for that much more input than it needs, and its output keeps its place
on the timeline. Input beyond the session's visibility has not been heard when its chunk is due, and is silent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from backline.models.errors import PackError
from backline.models.names import names_problem
from backline.models.rows import free_row, one_by_one, rows_of
from backline.models.stream import (
    Audio,
    ChunkInput,
    ChunkOutput,
    LatencyItem,
    Parameter,
    Port,
    RowBytes,
    RowFailed,
    SessionConfig,
    StreamSpec,
)
from backline.models.warm_up import warmed_up
from backline.nn.tables import Seconds, TableError, read_table

CAPACITY = 256  # rows; one costs no more than the input that it holds
WARM_UP_CHUNKS = 8  # that are timed
CLICK = np.float32(0.5)  # one sample
GAIN = Parameter("gain", default=1.0, minimum=0.0, maximum=1.0, description="factor on the output; 1 is bit-exact")


@dataclass(frozen=True)
class PassthroughConfig:
    """The [passthrough] table of pack.toml. Every port carries all channels of the input."""

    ports: Annotated[tuple[str, ...], Meta(min_length=1, max_length=64)] = ("main",)
    latency_seconds: Seconds = Fraction(0)
    latency_samples: Annotated[int, Meta(ge=0, le=10_000_000)] = 0  # at the session's rate; adds to latency_seconds
    chunk_quantum: Seconds = Fraction(1, 1000)  # seconds, as the two below
    default_chunk: Seconds = Fraction(1, 100)
    maximum_chunk: Seconds = Fraction(4)
    clicks: bool = False  # plays a click at every note-on, so that a host can measure when its notes are heard

    def __post_init__(self) -> None:
        if problem := names_problem(self.ports):
            raise ValueError(f"ports: {problem}")
        if not self.chunk_quantum > 0:
            raise ValueError(f"chunk_quantum is {self.chunk_quantum}: use more than 0")
        whole = (self.default_chunk / self.chunk_quantum).denominator == 1
        if not whole or not 0 < self.default_chunk <= self.maximum_chunk:
            raise ValueError(
                f"default_chunk is {self.default_chunk} s: use a multiple of chunk_quantum ({self.chunk_quantum} s) up "
                f"to maximum_chunk ({self.maximum_chunk} s)"
            )


@dataclass
class Row:
    """One session: its sizes in samples at its own rate, and the input that no chunk has given back yet."""

    chunk: Fraction
    visibility: Fraction
    look_ahead: int
    held: Audio  # [channel, sample]
    held_from: int = 0  # position of the first sample of `held`
    chunks: int = 0  # given so far
    clicks: list[int] = field(default_factory=list)  # samples that no chunk has reached yet

    def start(self, chunk: int) -> int:
        """The first sample of a chunk. A chunk need not be a whole number of samples long."""
        return int(chunk * self.chunk)

    def heard(self) -> int:
        """The position up to which the next chunk may use the input."""
        return int(self.chunks * self.chunk + self.visibility)

    def required(self) -> int:
        return self.heard() + self.look_ahead


class PassthroughStream:
    """A `Stream` at the session's own rate."""

    def __init__(self, config: PassthroughConfig, capacity: int = CAPACITY) -> None:
        self.config, self.capacity = config, capacity
        self.spec = make_spec(config)
        self._rows: dict[int, Row] = {}

    def open(self, config: SessionConfig) -> int:
        free = free_row(self._rows, self.capacity)
        self._rows[free] = Row(
            chunk=config.chunk_seconds * config.sample_rate,
            # The fraction that was meant: a visibility of just the chunk must not miss its last sample.
            visibility=Fraction(config.visibility_seconds).limit_denominator(1_000_000) * config.sample_rate,
            look_ahead=self._look_ahead(config),
            held=np.zeros((config.channels, 0), np.float32),
        )
        return free

    def close(self, row: int) -> None:
        del self._rows[row]

    def required_input(self, row: int) -> int:
        return self._rows[row].required()

    def step(self, inputs: Sequence[ChunkInput]) -> list[ChunkOutput | RowFailed]:
        return one_by_one(inputs, lambda given: self._chunk(self._rows[given.row], given))

    def latency(self, config: SessionConfig) -> tuple[LatencyItem, ...]:
        look_ahead = self._look_ahead(config) / config.sample_rate
        return (
            LatencyItem("front_end", look_ahead, "look-ahead that the pack declares"),
            LatencyItem("visibility", config.visibility_seconds, "newest input that a chunk hears, from its start"),
        )

    def warm_up(self, config: SessionConfig) -> float:
        row = self.open(config)
        try:
            return warmed_up(self, row, config, chunks=1, timed=WARM_UP_CHUNKS, device="cpu")
        finally:
            self.close(row)

    def resident_bytes(self) -> int:
        return sum(row.held.nbytes for row in tuple(self._rows.values()))

    def row_bytes(self, row: int) -> RowBytes:
        playing = self._rows.get(row)
        return RowBytes() if playing is None else RowBytes(other=playing.held.nbytes)

    def _look_ahead(self, config: SessionConfig) -> int:
        return round(self.config.latency_seconds * config.sample_rate) + self.config.latency_samples

    def _chunk(self, row: Row, given: ChunkInput) -> ChunkOutput:
        start, end = row.start(row.chunks), row.start(row.chunks + 1)
        row.held = np.concatenate((row.held, given.audio), axis=1)
        audio = np.zeros((row.held.shape[0], end - start), np.float32)
        # Not later than `heard`: look-ahead delays a chunk, it does not let it hear more.
        first, last = max(start, row.held_from), min(end, row.heard(), row.held_from + row.held.shape[1])
        if first < last:
            audio[:, first - start : last - start] = row.held[:, first - row.held_from : last - row.held_from]
        row.clicks += [notes.position for notes in given.notes if any(map(begins_a_note, notes.messages()))]
        for click in [click for click in row.clicks if click < end]:
            row.clicks.remove(click)
            audio[:, max(0, click - start)] += CLICK
        gain = given.parameters.get(GAIN.name, GAIN.default)
        if gain != 1.0:
            audio *= np.float32(gain)
        spent = max(0, min(end - row.held_from, row.held.shape[1]))
        row.held = row.held[:, spent:]
        row.held_from += spent
        row.chunks += 1
        return ChunkOutput(given.row, start, (audio,) * len(self.spec.ports))


def make_spec(config: PassthroughConfig) -> StreamSpec:
    return StreamSpec(
        input_rate=None,
        output_rate=None,
        input_channels=None,
        ports=tuple(Port(name, channels=0, description="the input, bit for bit") for name in config.ports),
        parameters=(GAIN,),
        chunk_quantum_seconds=config.chunk_quantum,
        default_chunk_seconds=config.default_chunk,
        maximum_chunk_seconds=config.maximum_chunk,
        default_visibility_seconds=float(config.maximum_chunk),  # all of the chunk, however long
        takes_notes=config.clicks,
    )


def begins_a_note(message: bytes) -> bool:
    """Whether a MIDI channel message does."""
    return message[0] & 0xF0 == 0x90 and message[2] > 0  # a velocity of 0 ends it


def read_config(config: Mapping[str, Any]) -> PassthroughConfig:
    """The [passthrough] table of a pack.toml.

    Raises:
        PackError: it holds what no passthrough can be; names every fault.
    """
    try:
        return read_table(PassthroughConfig, config.get("passthrough", {}), "passthrough")
    except TableError as error:
        raise PackError(error.problems, str(config.get("name", ""))) from error


def load(config: Mapping[str, Any], tensors: Mapping[str, Any], device: str) -> PassthroughStream:
    """The stream of a pack.toml. A passthrough has no weights and lives on no device."""
    return PassthroughStream(read_config(config), rows_of(config, CAPACITY))


def describe(config: Mapping[str, Any]) -> StreamSpec:
    """What `load` would serve."""
    return make_spec(read_config(config))
