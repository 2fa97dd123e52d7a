"""A take: one unbroken timeline of a session, from its first sample to its last; takes.py has one follow another.

The *client's thread* feeds it; the *engine thread* takes its chunks out of it and lays what the model answers.
Positions are the client's, "session samples" count from the take's first sample, at the session's rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import cast

from backline.engine.changes import Changes, LateControls
from backline.engine.clock import CLOCK, Clock
from backline.engine.conversion import InputPath, OutputPath
from backline.engine.errors import BadInput, EngineError
from backline.engine.frames import FrameQueue
from backline.engine.seams import Seam
from backline.engine.timeline import sent_ahead, zero_non_finite
from backline.engine.warnings import Warnings
from backline.models.stream import (
    Audio,
    ChunkInput,
    ChunkOutput,
    Codes,
    Notes,
    Port,
    SessionConfig,
    Stream,
    StreamSpec,
    TokenStream,
    Transport,
)

PADDING_LIMIT_SECONDS = 120  # of silence after the input's end within which a model must have answered


@dataclass(frozen=True)
class Needs:
    """What a row's next chunk needs, since the take's start."""

    samples: int  # of input, at the model's rate
    frames: int = 0  # of a codec, where the model takes some


def needs(spec: StreamSpec, stream: Stream, row: int) -> Needs:
    """What the next chunk of a row needs. The engine thread."""
    frames = cast(TokenStream, stream).required_frames(row) if spec.takes else 0
    return Needs(stream.required_input(row), frames)


@dataclass
class UnfinishedChunk:
    """A chunk that takes steps: how long it waited for the first, and what they have cost so far."""

    waited_seconds: float
    begun: float  # by the clock
    compute_seconds: float = 0.0
    step_seconds: float = 0.0  # by the clock, of the steps so far
    model_seconds: float = 0.0  # of these, in the model's calls


class Take:
    """Where its input belongs, the ways of its audio, what changes in it, and how far it has come."""

    def __init__(
        self,
        name: str,
        spec: StreamSpec,
        config: SessionConfig,
        *,
        block_size: int,
        first: Needs,
        warnings: Warnings,
        changes: Changes,
        clock: Clock = CLOCK,
        origin: int | None = None,
    ) -> None:
        """
        Args:
            name: the model's.
            block_size: the largest block that is written.
            first: what the first chunk needs.
            changes: the session's.
            origin: position of its first sample; None: that of the first that comes.

        Raises:
            Refused: its input takes more memory than a session may hold.
        """
        self.spec, self.config = spec, config
        self.ports = ports_of(spec, config)
        self.origin, self.received = origin, 0  # samples of its input
        self.seam: Seam | None = None  # with which another take follows
        self.until: int | None = None  # position up to which it is heard, if not to the input's end
        self.end: int | None = None  # and that up to which it plays, to become the other
        self.fixed = False  # it is over: its seam stays where it is
        self.heard_from: int | None = None  # position from which it is heard, where another take was before
        self.input = InputPath(spec, config, ring_capacity(spec, config, block_size, first))
        self.output = OutputPath(spec, config, [port.channels for port in self.ports])
        self.frames = FrameQueue(spec.takes) if spec.takes else None
        self.changes = changes
        self.chunks = 0  # that have been answered
        self.begun = False  # the first of the input is there
        self.closed = False  # the input is complete
        self._chunk_samples = config.chunk_seconds * config.sample_rate  # not rounded
        self._name, self._warnings, self._clock = name, warnings, clock
        self._begun_at = 0.0  # by the clock
        self._metre = (0, 0)  # of the newest transport
        self._look(first)

    # ---- the client's thread -------------------------------------------------------------------------

    def room(self, position: int, count: int) -> int:
        """How many of `count` samples from `position` on it can be fed; all where it hears less of them."""
        wanted = count if self.end is None else min(count, self.end - position)
        free = self.input.ring.free
        return count if free >= wanted else free

    def feed(self, position: int, audio: Audio) -> None:
        """The next of its input [channel, sample], for which there is room; what lies behind its end is not its."""
        audio = audio if self.end is None else audio[:, : self.end - position]
        self.input.write(audio)
        self.received += audio.shape[1]
        self.closed = self.closed or (self.end is not None and (self.origin or 0) + self.received >= self.end)
        self._begin(audio.shape[1])

    def follow(self, before: Take) -> None:
        """It begins, on a client's timeline, where `before` ends."""
        assert before.origin is not None
        assert self.origin is not None
        self._begun_at = before._begun_at + (self.origin - before.origin) / self.config.sample_rate
        self.begun, self._metre = True, before._metre
        self.heard_from = before.until

    def finish(self, seam: Seam | None, earliest: int, fade: int) -> None:
        """It ends with `seam`, or goes on; heard up to there, but to `earliest` at least, and `fade` samples beyond.

        Under the lock of the takes, before it has come to its end.
        """
        until = end = None
        if seam is not None:
            place = seam.heard_from
            if place is None:
                place = earliest if seam.skipped else seam.position
            until = max(place, earliest)
            end = until + (0 if seam.skipped else fade)
        self.seam, self.until, self.end = seam, until, end  # each at once: the engine thread reads them

    def write_frames(self, first: int, codes: Codes) -> None:
        """The next codec frames [frame, codebook], the first of which is frame `first`.

        Raises:
            BadInput: the model takes none, they do not follow on those before, or are no codes of its codebooks.
            Refused: too many wait already.
        """
        if self.frames is None:
            raise BadInput(f"{self._name!r} takes no codec frames: send audio")
        if self.closed:
            raise BadInput("frames after the end of the input: open a new session")
        self.frames.add(first, codes)
        self._begin(0)  # they may lie far ahead

    def frames_must_wait(self, count: int) -> bool:
        """Whether so many more frames of a render do not fit yet, and will: its next chunk wants for nothing."""
        return self.frames is not None and self.config.offline and self.has_chunk and not self.frames.fits(count)

    def add_transport(self, position: int, transport: Transport, after: int | None = None) -> Transport | None:
        """See `Changes.add_transport`."""
        news = self.changes.add_transport(position, transport, after)
        metre = (transport.numerator, transport.denominator)
        if metre != self._metre and not self.spec.knows_metre(*metre):
            message = (
                f"{self._name!r} has learnt {', '.join(self.spec.metre_names)}: in {metre[0]}/{metre[1]} it keeps your "
                "beats and begins its bar on yours"
            )
            self._warnings.warn("foreign_metre", message, 1, position)
        self._metre = metre
        return news

    def add_midi(self, position: int, data: bytes, after: int | None = None) -> None:
        """See `Changes.add_midi`; a model that takes none passes them over."""
        self.changes.add_midi(position, data, after)
        if not self.spec.takes_notes and "midi_unused" not in self._warnings.counts:
            self._warnings.warn("midi_unused", f"{self._name!r} takes no MIDI: it is passed over", 1, position)

    def _begin(self, samples: int) -> None:
        """The first of the input is there, so long: its end is now."""
        if not self.begun:
            self._begun_at = self._clock() - samples / self.config.sample_rate
            self.begun = True

    # ---- any thread ----------------------------------------------------------------------------------

    @property
    def length(self) -> int:
        """Session samples for which there has been input, be it audio or codec frames."""
        if self.frames is None:
            return self.received
        return max(self.received, int(self.frames.received * self.config.sample_rate / self.spec.frame_rate))

    @property
    def elapsed(self) -> int:
        """Samples of real time since its first one."""
        return int((self._clock() - self._begun_at) * self.config.sample_rate)

    @property
    def has_chunk(self) -> bool:
        """Whether all the input is there that the next chunk may wait for."""
        if self.closed or not self.begun:
            return self.begun
        if self.input.ring.written < self.needed:
            return False
        if self.frames is not None and self.frames.received < self._needs.frames:
            return False
        # Output of a render never runs ahead of its input, to whose end it must keep.
        return not self.config.offline or self.length >= (self.chunks + 1) * self._chunk_samples

    @property
    def ahead(self) -> bool:
        """Whether the client has sent what the next chunk needs more than a chunk ahead of real time."""
        seconds = self.needed / self.config.sample_rate
        if self.frames is not None:
            seconds = max(seconds, float(self._needs.frames / self.spec.frame_rate))
        return sent_ahead(seconds, self._clock() - self._begun_at, float(self.config.chunk_seconds))

    # ---- the engine thread ---------------------------------------------------------------------------

    def begin_chunk(self) -> list[LateControls]:
        """Puts the changes in force that the next chunk must obey; returns those that came too late for theirs."""
        rate, start = self.config.sample_rate, self._chunk_start
        previous = start - self._chunk_samples if self.chunks else None
        heard = self._needs.samples * rate // (self.spec.input_rate or rate)
        seam = self.seam
        until = None if seam is None else seam.position
        return self.changes.apply(self.origin or 0, start, previous, heard, until)

    @property
    def chunk_position(self) -> int:
        """Of the next chunk, as the client counts."""
        return (self.origin or 0) + math.ceil(self._chunk_start)

    def begin(self, first: Needs) -> None:
        """Its row is there: `first` is what the first chunk needs."""
        self._look(first)

    @property
    def chunk_floor(self) -> int:
        """Position of the last sample that starts no later than the next chunk."""
        return (self.origin or 0) + math.floor(self._chunk_start)

    def gather(self, row: int, *, further: bool) -> ChunkInput:
        """What a row gets for the next chunk, or for a `further` step of it."""
        changes = self.changes
        audio = self.input.take(self._needs.samples)
        frames = None if self.frames is None else self.frames.take(self._needs.frames)
        texts = {name: text.value for name, text in changes.texts.items()}
        notes = () if further else self._notes()
        return ChunkInput(row, audio, changes.transport, changes.parameters, texts, notes, frames)

    def lay(self, output: ChunkOutput) -> tuple[int, Audio]:
        """What a whole chunk makes final: [channel of all ports, sample] from which session sample on."""
        finite = tuple(zero_non_finite(audio) for audio in output.audio)
        start, left_out = self.output.end, self.output.timeline.missing
        position = (self.origin or 0) + start
        if zeroed := sum(count for _, count in finite):
            message = "the model gave NaN or infinite samples; they are silence"
            self._warnings.warn("non_finite_output", message, zeroed, position)
        audio = self.output.add(replace(output, audio=tuple(audio for audio, _ in finite)))
        if missing := self.output.timeline.missing - left_out:
            self._warnings.warn("output_gap", "the model left samples out; they are silence", missing, position)
        return start, self._within(start, audio)

    def advance(self, following: Needs) -> None:
        """A chunk has been answered; `following` is what the next one needs.

        Raises:
            EngineError: that is more than the ring holds.
        """
        self.chunks += 1
        self._look(following)

    @property
    def over(self) -> bool:
        """Whether it has an end, and the model has said all that it has to say up to there."""
        return (self.closed or self.end is not None) and self.output.covers(self._whole)

    @property
    def overdue(self) -> bool:
        """Whether a take that has an end should have come to it long ago."""
        limit = PADDING_LIMIT_SECONDS * self.config.sample_rate
        return (self.closed or self.end is not None) and self._chunk_start > self._whole + limit

    def rest(self) -> tuple[int, Audio]:
        """What a take that is over still holds, as `lay` gives it."""
        start = self.output.end
        return start, self._within(start, self.output.finish(self._whole))

    def _look(self, following: Needs) -> None:
        ring = self.input.ring
        self._needs, self.needed = following, self.input.needed(following.samples)
        if self.needed - ring.read_count > ring.capacity and not self.closed:
            raise EngineError(
                f"{self._name!r} wants {self.needed - ring.read_count} samples for one chunk, which exceeds "
                f"the session's ring of {ring.capacity}: its chunks must advance evenly"
            )

    @property
    def _whole(self) -> int:
        """Samples from its first to its end, or to that of what it has heard."""
        end = self.end
        return self.length if end is None else end - (self.origin or 0)

    def _within(self, start: int, audio: Audio) -> Audio:
        """As far as it goes, once that is sure."""
        return audio[:, : max(0, self._whole - start)] if self.closed or self.fixed else audio

    def _notes(self) -> tuple[Notes, ...]:
        """What the chunk at hand has heard of MIDI, at the model's rate."""
        if not self.spec.takes_notes:
            return ()
        rate, model_rate = self.config.sample_rate, self.spec.input_rate or self.config.sample_rate
        return tuple(Notes(at * model_rate // rate, data) for at, data in self.changes.notes)

    @property
    def _chunk_start(self) -> Fraction:
        """Session samples, not rounded, at which the next chunk starts."""
        return self.chunks * self._chunk_samples


def ports_of(spec: StreamSpec, config: SessionConfig) -> tuple[Port, ...]:
    """The model's outputs with the channels they have in a session; one that wants no audio has none of them."""
    if not config.want_audio:
        return ()
    channels = spec.input_channels or config.channels
    return tuple(replace(port, channels=port.channels or channels) for port in spec.ports)


def ring_capacity(spec: StreamSpec, config: SessionConfig, block_size: int, first: Needs) -> int:
    """Room for what one chunk can need at most, for a chunk that arrives meanwhile, and for blocks on their way."""
    rate = config.sample_rate
    seconds = Fraction(max(0, first.samples), spec.input_rate or rate) + 2 * config.chunk_seconds + Fraction(1, 2)
    return math.ceil(seconds * rate) + 2 * block_size
