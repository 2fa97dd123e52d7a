"""What the engine knows of a model: a Stream, its description, and what goes in and out of one chunk.

Every model family serves this interface and the engine serves nothing else. All positions count samples of one
channel from the start of the session, at the rate that the name says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from backline.models.names import names_problem

Audio = NDArray[np.float32]  # [channel, sample]


@dataclass(frozen=True)
class Port:
    """One output of a model."""

    name: str
    channels: int  # 0: as many as the session has
    description: str = ""


@dataclass(frozen=True)
class Parameter:
    """A named number that a session may set, within [minimum, maximum]."""

    name: str
    default: float
    minimum: float
    maximum: float
    unit: str = ""
    description: str = ""
    integer: bool = False
    automatable: bool = True  # may change during a session

    def check(self, value: float) -> float:
        """`value` as the model may use it.

        Raises:
            ValueError: it is out of range, not finite, or not whole where it must be; the message names the range.
        """
        if not self.minimum <= value <= self.maximum:  # false for NaN, too
            raise ValueError(
                f"parameter {self.name!r} is {value:g}: use {self.minimum:g} to {self.maximum:g} {self.unit}".rstrip()
            )
        if self.integer and value != int(value):
            raise ValueError(f"parameter {self.name!r} is {value:g}: use a whole number")
        return float(value)


@dataclass(frozen=True)
class StreamSpec:
    """What a resident model takes and gives. A rate of None means: the session's own rate, no resampling."""

    input_rate: int | None
    output_rate: int | None
    input_channels: int | None  # None: as many as the session has
    ports: tuple[Port, ...]
    parameters: tuple[Parameter, ...] = ()
    frame_rate: Fraction = Fraction(0)  # codec frames per second; 0: no codec
    chunk_quantum_seconds: Fraction = Fraction(1, 25)  # chunks are multiples of this
    default_chunk_seconds: Fraction = Fraction(4, 5)
    maximum_chunk_seconds: Fraction = Fraction(16, 5)
    default_visibility_seconds: float = 0.8
    minimum_visibility_seconds: float = -2.0
    lookahead_seconds: float = 0.0  # by which the visibility may exceed the session's chunk
    metres: tuple[tuple[int, int], ...] = ()  # that the model has learnt, such as (4, 4); none: it plays by no bar
    revision_seconds: Fraction = Fraction(0)  # how far before the end of earlier output a chunk may begin

    def __post_init__(self) -> None:
        """Raises ValueError where two ports or parameters have one name, or one has a name that no file may have."""
        for kind, named in (("port", self.ports), ("parameter", self.parameters)):
            if problem := names_problem([each.name for each in named]):
                raise ValueError(f"{kind} {problem}")

    def latest_visibility(self, chunk_seconds: Fraction) -> float:
        """The most that a session with such chunks may hear before it plays one, in seconds from the chunk's start."""
        return float(chunk_seconds) + self.lookahead_seconds

    @property
    def metre_names(self) -> list[str]:
        """As people write them: 4/4."""
        return [f"{numerator}/{denominator}" for numerator, denominator in self.metres]

    def knows_metre(self, numerator: int, denominator: int) -> bool:
        """Whether bars of this signature are, or make, or are made of, bars that the model has learnt."""
        ratios = [Fraction(learnt * denominator, beat * numerator) for learnt, beat in self.metres]
        return not ratios or any(1 in (ratio.numerator, ratio.denominator) for ratio in ratios)

    def visibility(self, chunk_seconds: Fraction) -> float:
        """What a session with such chunks gets that asks for nothing."""
        return min(self.default_visibility_seconds, self.latest_visibility(chunk_seconds))


class ChannelLayout(Enum):
    """What the channels of a session are, in SMPTE's order."""

    DISCRETE = "discrete"  # voices of their own, as many as there are
    MONO = "mono"
    STEREO = "stereo"
    SURROUND_5_1 = "5.1"  # L R C LFE Ls Rs
    SURROUND_7_1 = "7.1"  # L R C LFE Ls Rs Lrs Rrs


@dataclass(frozen=True)
class SessionConfig:
    """What a session asked for, complete and checked."""

    sample_rate: int
    channels: int
    chunk_seconds: Fraction
    visibility_seconds: float
    seed: int
    parameters: Mapping[str, float] = field(default_factory=dict)
    offline: bool = False
    channel_layout: ChannelLayout | None = None  # None: 5.1 and 7.1 for 6 and 8 channels


@dataclass(frozen=True)
class Transport:
    """The host's transport at a moment of the session; holds, extrapolated by its tempo, until the next one."""

    at_seconds: float  # session time at which the rest is true
    playing: bool
    tempo: float  # quarter notes per minute
    numerator: int = 4
    denominator: int = 4
    song_position: float = 0.0  # quarter notes from the start of the song
    bar_start: float = 0.0  # song position of the current bar's first beat

    @property
    def quarters_per_bar(self) -> float:
        """Of the signature."""
        return self.numerator * 4.0 / self.denominator

    def song_position_at(self, seconds: float) -> float:
        """Quarter notes from the start of the song at session time `seconds`; stands still while not playing."""
        if not self.playing:
            return self.song_position
        return self.song_position + (seconds - self.at_seconds) * self.tempo / 60.0

    def bar_phase_at(self, seconds: float) -> float:
        """Where in its bar session time `seconds` lies, in [0, 1)."""
        return ((self.song_position_at(seconds) - self.bar_start) / self.quarters_per_bar) % 1.0


@dataclass(frozen=True)
class LatencyItem:
    """A part of the latency: capture, network, queue, front_end, visibility, compute, codec or jitter_buffer."""

    name: str
    seconds: float
    explanation: str = ""
    measured: bool = False


@dataclass(frozen=True)
class ChunkInput:
    """What one row gets for its next chunk: exactly the input up to `Stream.required_input`, none of it seen before."""

    row: int
    audio: Audio  # [channel, sample] at the input rate; may be empty while the model plays ahead
    transport: Transport | None  # the newest before the end of `audio`
    parameters: Mapping[str, float]


@dataclass(frozen=True)
class ChunkOutput:
    """What one row answers. `position` may lie before the end of earlier output: that much is revised."""

    row: int
    position: int  # output rate; of the first sample of `audio`
    audio: tuple[Audio, ...]  # [channel, sample] per port, all of one length; may be empty
    first_frame: int = 0
    frames: NDArray[np.int32] | None = None  # [frame, codebook]


@dataclass(frozen=True)
class RowFailed:
    """What a row answers that could not play its chunk. Its state is lost; the engine closes it."""

    row: int
    error: Exception


class Stream(Protocol):
    """A resident model and its rows. One row is one session's state; all calls come from one thread.

    Equal seeds, inputs, parameters and transports give equal outputs, whatever else shares the batch.
    """

    spec: StreamSpec
    capacity: int  # rows at most

    def open(self, config: SessionConfig) -> int:
        """Takes a free row and resets it. Raises NoRowFree (models/errors.py) when none is."""
        ...

    def close(self, row: int) -> None:
        """Gives the row back."""
        ...

    def required_input(self, row: int) -> int:
        """Input samples since the session's start that the row's next chunk needs (0 or less: none yet)."""
        ...

    def step(self, inputs: Sequence[ChunkInput]) -> Sequence[ChunkOutput | RowFailed]:
        """One chunk for every row given, each at most once, answered in this order; they may be out of step.

        What goes wrong with one row is that row's answer (models/rows.py). Where `step` itself raises, no row has
        moved: the engine asks again, row by row.
        """
        ...

    def latency(self, config: SessionConfig) -> tuple[LatencyItem, ...]:
        """What the model itself costs under `config`: front_end, visibility, codec. Computed, never measured."""
        ...

    def warm_up(self, config: SessionConfig) -> float:
        """Runs a few chunks on a scratch row so that nothing is compiled later (models/warm_up.py).

        Returns the compute seconds that one second of audio costs, which admission uses until it has measured.
        """
        ...

    def resident_bytes(self) -> int:
        """Memory held by weights and rows."""
        ...
