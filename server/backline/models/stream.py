"""What the engine knows of a model: a Stream, its description, and what goes in and out of one chunk.

Every model family serves this interface and the engine serves nothing else. All positions count samples of one
channel from the start of the session, at the rate that the name says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from fractions import Fraction
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from backline.models.names import names_problem

Audio = NDArray[np.float32]  # [channel, sample]
Codes = NDArray[np.int32]  # [frame, codebook]


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
    labels: tuple[str, ...] = ()  # what its whole values are called, from `minimum` on; none: a number

    def __post_init__(self) -> None:
        """Raises ValueError where there is not a label for every value."""
        if self.labels and not (self.integer and len(self.labels) == self.maximum - self.minimum + 1):
            raise ValueError(
                f"parameter {self.name!r} has {len(self.labels)} labels: give every whole value from "
                f"{self.minimum:g} to {self.maximum:g} one"
            )

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
class Text:
    """A named text that a session may set, such as a prompt."""

    name: str
    default: str = ""
    description: str = ""
    suggestions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Input:
    """Channels of a model's input that belong together, such as a voice beside its band."""

    name: str
    channels: int
    description: str = ""


@dataclass(frozen=True)
class Codebook:
    """One of a codec's codebooks: a code of each frame is an entry of it."""

    name: str
    size: int  # entries
    track: str = ""  # whose sound it says, where there are several


@dataclass(frozen=True)
class Task:
    """One of several things that a model can do: by which ports, inputs, texts and parameters, and of which frames."""

    name: str
    description: str = ""
    ports: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()  # codebooks of the frames that it wants


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
    inputs: tuple[Input, ...] = ()  # channel groups that `input_channels` is the sum of; none: one input of no name
    texts: tuple[Text, ...] = ()  # that a session may set: see TextStream
    takes_notes: bool = False  # MIDI: ChunkInput.notes
    codebooks: tuple[Codebook, ...] = ()  # of the frames that it gives, in their order
    takes: tuple[Codebook, ...] = ()  # of the frames that it wants: see TokenStream
    tokenizer: tuple[str, ...] = ()  # parts of its pack by which alone its codes mean what they do; none: all of it
    tasks: tuple[Task, ...] = ()  # of which a session does one, the first unless it says; none: it does all there is

    def __post_init__(self) -> None:
        """Raises ValueError where two of a kind have one name, one has a name that no file may have, or parts that
        belong together do not fit.
        """
        parts = self._names()
        named = {**parts, "codebook": _names(self.codebooks), "task": _names(self.tasks)}
        for kind, names in named.items():
            if problem := names_problem(names):
                raise ValueError(f"{kind} {problem}")
        if self.inputs and self.input_channels != sum(group.channels for group in self.inputs):
            raise ValueError(f"input_channels is {self.input_channels}: use the sum of the inputs' channels")
        if (self.codebooks or self.takes) and not self.frame_rate:
            raise ValueError("codebooks have no frame_rate: give the codec frames a second")
        for task in self.tasks:
            for kind, there in parts.items():
                if missing := set(getattr(task, f"{kind}s")) - set(there):
                    raise ValueError(f"task {task.name!r} names {kind} {min(missing)!r}: use {', '.join(there)}")
            if task.takes and task.takes != tuple(_names(self.takes)):
                raise ValueError(f"task {task.name!r} takes {', '.join(task.takes)}: name all of `takes`, or none")

    def _names(self) -> dict[str, list[str]]:
        """Of what a task has some of, by kind."""
        return {
            "port": _names(self.ports),
            "input": _names(self.inputs),
            "text": _names(self.texts),
            "parameter": _names(self.parameters),
        }

    @property
    def defaults(self) -> dict[str, float]:
        """Of every parameter, by its name."""
        return {parameter.name: parameter.default for parameter in self.parameters}

    def for_task(self, name: str) -> StreamSpec:
        """What the model takes and gives in one of its tasks; "" is the first, or all there is where it has none.

        Raises:
            ValueError: there is no such task.
        """
        if not (self.tasks or name):
            return self
        found = [task for task in self.tasks if task.name == (name or self.tasks[0].name)]
        if not found:
            raise ValueError(f"there is no such task: use {', '.join(task.name for task in self.tasks) or 'none'}")
        task = found[0]
        inputs = tuple(group for group in self.inputs if group.name in task.inputs)
        return replace(
            self,
            ports=tuple(port for port in self.ports if port.name in task.ports),
            inputs=inputs,
            input_channels=sum(group.channels for group in inputs) or 1 if self.inputs else self.input_channels,
            texts=tuple(text for text in self.texts if text.name in task.texts),
            parameters=tuple(parameter for parameter in self.parameters if parameter.name in task.parameters),
            takes=self.takes if task.takes else (),
            tasks=(task,),
        )

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


class _Named(Protocol):
    @property
    def name(self) -> str: ...


def _names(entries: Sequence[_Named]) -> list[str]:
    return [entry.name for entry in entries]


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
    inputs: tuple[Input, ...] = ()  # groups of its channels, in their order; none: one input of no name
    texts: Mapping[str, str] = field(default_factory=dict)
    task: str = ""  # "": the model's first
    want_audio: bool = True  # False: the session takes the frames alone


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
    loop: tuple[float, float] | None = None  # quarter notes: what reaches the second goes on at the first

    @property
    def quarters_per_bar(self) -> float:
        """Of the signature."""
        return self.numerator * 4.0 / self.denominator

    def song_position_at(self, seconds: float) -> float:
        """Quarter notes from the start of the song at session time `seconds`; stands still while not playing."""
        if not self.playing:
            return self.song_position
        straight = self.song_position + (seconds - self.at_seconds) * self.tempo / 60.0
        if self.loop is None or not self.song_position < self.loop[1] <= straight:
            return straight
        start, end = self.loop
        return start + (straight - end) % (end - start)

    def moved_to(self, seconds: float, zero: float = 0.0) -> Transport:
        """What this one has become by session time `seconds`, as told at that moment; `zero` of the session's time is
        its time 0 from then on.
        """
        position = self.song_position_at(seconds)
        bars = math.floor(round((position - self.bar_start) / self.quarters_per_bar, 9)) if self.playing else 0
        bar_start = self.bar_start + bars * self.quarters_per_bar
        return replace(self, at_seconds=seconds - zero, song_position=position, bar_start=bar_start)

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
class Notes:
    """MIDI 1.0 channel messages of one moment."""

    position: int  # samples since the session's start, at the input rate
    data: bytes  # whole messages

    def messages(self) -> Iterator[bytes]:
        """One after the other."""
        at = 0
        while at < len(self.data):
            length = 2 if self.data[at] & 0xF0 in (0xC0, 0xD0) else 3
            yield self.data[at : at + length]
            at += length


@dataclass(frozen=True)
class ChunkInput:
    """What one row gets for its next chunk: exactly the input up to `Stream.required_input`, none of it seen before."""

    row: int
    audio: Audio  # [channel, sample] at the input rate; may be empty while the model plays ahead
    transport: Transport | None  # the newest before the end of `audio`
    parameters: Mapping[str, float]
    texts: Mapping[str, Any] = field(default_factory=dict)  # by name, what `TextStream.prepare` made of each
    notes: tuple[Notes, ...] = ()  # those before the end of `audio` that no chunk has been given, in order
    frames: Codes | None = None  # [frame, codebook] up to `TokenStream.required_frames`, none of it seen before


@dataclass(frozen=True)
class Heard:
    """What a model hears, and plays by from a moment on: for displays. It changes nothing."""

    at_seconds: float  # session time
    chord: str = ""  # such as Am or Bdim; "": none yet
    transport: Transport | None = None  # tempo and beat that it hears, where the host plays none


@dataclass(frozen=True)
class ChunkOutput:
    """What one row answers. What lies before the end of earlier output is too late, and dropped."""

    row: int
    position: int  # output rate; of the first sample of `audio`
    audio: tuple[
        Audio, ...
    ]  # [channel, sample] per port, all of one length; may be empty. Of no port: one of 0 channels
    first_frame: int = 0
    frames: Codes | None = None  # [frame, codebook]
    advanced: bool = True  # False: the chunk takes another step, for which the row is given nothing new
    heard: tuple[Heard, ...] = ()  # in the order of their moments, of a model that tells it


@dataclass(frozen=True)
class RowFailed:
    """What a row answers that could not play its chunk. Its state is lost; the engine closes it."""

    row: int
    error: Exception


@dataclass(frozen=True)
class RowBytes:
    """Memory that one row takes."""

    kv: int = 0  # of KV caches, filled or not
    other: int = 0  # all else that is its own


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


@runtime_checkable
class MeasuresRows(Protocol):
    """A model that can tell what a row takes. Those that cannot are none the worse."""

    def row_bytes(self, row: int) -> RowBytes:
        """Memory of an open row; nothing for any other. Any thread, while `step` runs: it reads sizes only."""
        ...


class TextStream(Stream, Protocol):
    """A model whose `spec.texts` are not empty."""

    def prepare(self, name: str, text: str) -> Any:
        """What a chunk is given for this text, such as its embedding. On a thread of its own, never the engine's: it
        must touch nothing that `step` changes. The engine keeps what it returns, by name and text.

        Raises:
            ValueError: the model cannot take such a text; the message says what to write.
        """
        ...


class TokenStream(Stream, Protocol):
    """A model whose `spec.takes` is not empty."""

    def required_frames(self, row: int) -> int:
        """Codec frames since the session's start that the row's next chunk needs."""
        ...
