"""A session: one client's streaming state on one row of a model, from its first block to its totals.

Three threads meet here. The *client's thread* (one, whichever serves this client) writes audio and events. The *engine
thread* takes chunks from it and calls `on_event`. Any thread may read counters or abort.
"""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from fractions import Fraction
from typing import cast

from backline.engine.changes import Changes, Control
from backline.engine.clock import CLOCK, Clock
from backline.engine.conversion import InputPath, OutputPath
from backline.engine.errors import BadInput, EngineError, NotFound, Refused
from backline.engine.events import (
    Event,
    Failed,
    Finished,
    Frames,
    InputBlock,
    LedgerChanged,
    OutputBlock,
    TextInForce,
    Totals,
    Warned,
)
from backline.engine.frames import FrameQueue
from backline.engine.ledger import Ledger, LedgerBook
from backline.engine.limits import INPUT_BYTES, UNREAD_BYTES, check_sample, quoted
from backline.engine.texts import Prepared, TextDesk, TextQueue, check_text
from backline.engine.timeline import InputTimeline, late_samples, sent_ahead, zero_non_finite
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

UNREAD_SECONDS = 4  # of output that may wait for an unread client before its session pauses; see UNREAD_BYTES, too
PADDING_LIMIT_SECONDS = 120  # of silence after the input's end within which a model must have answered


class State(Enum):
    """Where a session is in its life."""

    OPEN = "open"  # no audio yet, so no time 0
    STREAMING = "streaming"
    CLOSED = "closed"


@dataclass
class UnfinishedChunk:
    """A chunk that takes steps: how long it waited for the first, and what they have cost so far."""

    waited_seconds: float
    begun: float  # by the clock
    compute_seconds: float = 0.0


class Session:
    """Made by `Engine.open_session`; its row is already open."""

    def __init__(
        self,
        *,
        stream_name: str,
        stream: Stream,
        row: int,
        config: SessionConfig,
        client_name: str,
        block_size: int,
        on_event: Callable[[Event], None],
        wake: Callable[[], None],
        post: Callable[[Callable[[], None]], None],
        required: int,
        required_frames: int = 0,
        texts: Mapping[str, Prepared] | None = None,
        desk: TextDesk | None = None,
        clock: Clock = CLOCK,
    ) -> None:
        """
        Args:
            required: the model's input samples that the first chunk needs (`Stream.required_input`).
            required_frames: likewise its codec frames, where the model takes some.
            texts: those that the session opens with.
            desk: which prepares the model's texts.
        """
        self.id = secrets.token_hex(8)
        self.token = secrets.token_hex(16)
        self.stream_name, self.stream, self.row, self.config = stream_name, stream, row, config
        self.client_name, self.block_size = client_name, block_size
        self.spec = stream.spec.for_task(config.task)
        self.ports = session_ports(self.spec, config)
        self.opened_at = time.monotonic()
        self.state = State.OPEN
        self.totals = Totals()
        self.changes = Changes(config.sample_rate, config.parameters, texts or {})
        self.closed = threading.Event()  # set when the row has been given back and the last event is out
        self.ready_since: float | None = None  # by the clock
        self.unfinished: UnfinishedChunk | None = None  # that takes another step; the engine thread's
        self.book: LedgerBook  # set by the engine, which knows the others on the model
        self.input_seconds, self.output_seconds = 0.0, 0.0

        def tell(event: Event) -> None:
            on_event(event)
            for listener in self._listeners:
                listener(event)

        self._listeners: tuple[Callable[[Event | InputBlock], None], ...] = ()
        self._on_event, self._wake, self._post, self._clock = tell, wake, post, clock
        self._lock = threading.Lock()  # of what both threads change: room, warnings, unread blocks
        self._timeline = InputTimeline(config.sample_rate)
        self._input = InputPath(self.spec, config, self._ring_capacity(required))
        self._output = OutputPath(self.spec, config, [port.channels for port in self.ports])
        self._frames = FrameQueue(self.spec.takes) if self.spec.takes else None
        self._texts = None if desk is None else TextQueue(desk, self._text_ready, self.abort, self._input_arrived)
        self.input_seconds, self.output_seconds = self._input.delay_seconds, self._output.delay_seconds
        self._input_closed = False
        self._started_at = 0.0  # by the clock, at the first block
        self._room: tuple[int, Callable[[], None]] | None = None
        self._counts: dict[str, int] = {}  # of warnings, by code
        self._warnings: list[Warned] = []  # still to be told
        self._metre = ""  # of the newest transport
        self._unread = 0  # output blocks that the client has not acknowledged
        self._unread_limit = (len(self.ports) if config.want_audio else 1) * self._unread_chunks()
        self._in_call = False  # a chunk of it is being computed
        self._sequence = 0
        self._required = self._needed = self._required_frames = 0
        self._look(required, required_frames)

    # ---- the client's thread -------------------------------------------------------------------------

    def write(self, position: int, audio: Audio) -> None:
        """The next input block [channel, sample] at `position`; waits for room. The client's thread, never a loop's.

        Raises:
            BadInput: see `try_write`.
        """
        while not self.try_write(position, audio):
            room = threading.Event()
            self.when_room(audio.shape[1], room.set)
            room.wait()

    def try_write(self, position: int, audio: Audio) -> bool:
        """The same without waiting: false where there is no room yet; then call again with the same block.

        What is not finite becomes zero, what is missing before `position` silence; both are counted and warned of.

        Raises:
            BadInput: wrong shape, a block over the session's limit, time going backwards, or a closed input.
        """
        channels, count = self.config.channels, audio.shape[-1]
        if audio.ndim != 2 or audio.shape[0] != channels:
            raise BadInput(f"audio block of shape {audio.shape}: send [channel, sample] with {channels} channels")
        if count > self.block_size:
            raise BadInput(f"audio block of {count} samples: this session takes at most {self.block_size} at once")
        if self._input_closed:
            raise BadInput("audio after the end of the input: open a new session")
        if self.state is State.CLOSED:
            return True  # nobody listens any more; the last event has said why
        gap = self._timeline.gap_before(position)
        ring = self._input.ring
        filled = min(gap, ring.free)
        if filled:
            self._input.write_silence(filled)
            self._timeline.advance(filled)
            self._warn("input_gap", "missing input was filled with silence: send every block", filled, position)
        if self._timeline.end < position or ring.free < count:
            self._input_arrived()
            return False
        audio, zeroed = zero_non_finite(audio)
        if zeroed:
            self._warn("non_finite_input", "NaN or infinite input samples were set to zero", zeroed, position)
        self._input.write(audio)
        self._timeline.advance(count)
        for listener in self._listeners:
            listener(InputBlock(position, audio))
        self._begin(count)
        self._input_arrived()
        return True

    def write_frames(self, first: int, codes: Codes) -> None:
        """The next codec frames [frame, codebook], the first of which is frame `first` of the session. Client's thread.

        Raises:
            BadInput: the model takes none, they do not follow on those before, or are no codes of its codebooks.
            Refused: too many wait already.
        """
        if self._frames is None:
            raise BadInput(f"{self.stream_name!r} takes no codec frames: send audio")
        if self._input_closed:
            raise BadInput("frames after the end of the input: open a new session")
        if self.state is State.CLOSED:
            return
        self._frames.add(first, codes)
        self._begin(0)  # they may lie far ahead
        self._input_arrived()

    def free_input(self) -> int:
        """Samples that can be written now. Any thread."""
        return self._input.ring.free

    def when_room(self, samples: int, callback: Callable[[], None]) -> None:
        """Calls `callback` once, as soon as `samples` fit or the session has ended. The client's thread.

        The callback runs on this thread where there is room already, else on the engine thread; it must not block. From
        an event loop: `while not session.try_write(position, audio)`, call this with
        `lambda: loop.call_soon_threadsafe(room.set)` for an `asyncio.Event` of its own, and await that.
        """
        with self._lock:
            if self.state is not State.CLOSED and self.free_input() < samples:
                self._room = (samples, callback)
                return
        callback()

    def control(self, parameter: str, value: float, position: int | None = None) -> None:
        """Sets a parameter from the first chunk that starts at or after `position`. The client's thread.

        Without a position: a live session takes it with its next chunk, an offline one at the input's present end, so
        that a render depends on nothing but the order of its messages.

        Raises:
            NotFound: no such parameter.
            BadInput: out of range, not to be changed during a session, or at a position that no session reaches.
            Refused: too many changes wait already.
        """
        known = {entry.name: entry for entry in self.spec.parameters}
        if parameter not in known:
            names = ", ".join(known) or "none"
            raise NotFound(f"no parameter {quoted(parameter)} in {self.stream_name!r}: use {names}")
        if not known[parameter].automatable:
            raise BadInput(f"parameter {parameter!r} is fixed when the session opens: open a new session with it")
        try:
            value = known[parameter].check(value)
        except ValueError as error:
            raise BadInput(str(error)) from error
        if position is None and self.config.offline:
            position = self._timeline.end
        self.changes.add_control(Control(position, parameter, value))

    def set_text(self, name: str, text: str, position: int | None = None) -> None:
        """Sets a text from the first chunk that starts at or after `position`, once the model has prepared it: then
        `TextInForce` tells where. Without a position, as a control. The client's thread; preparing waits on others.

        A text that the model cannot take ends the session.

        Raises:
            NotFound: no such text.
            BadInput: it is too long, holds a NUL, or its position is one that no session reaches.
            Refused: too many wait already.
        """
        check_text(self.stream_name, self.spec, name, text)
        if position is not None:
            check_sample(position, "text")
        elif self.config.offline:
            position = self._timeline.end
        assert self._texts is not None  # a model that has texts has a desk for them
        self._texts.add(name, text, position)

    def set_transport(
        self,
        position: int,
        *,
        playing: bool,
        tempo: float,
        numerator: int = 4,
        denominator: int = 4,
        song_position: float = 0.0,
        bar_start: float = 0.0,
    ) -> None:
        """The host's transport at `position`; what follows from the one before is no news. The client's thread.

        Raises:
            BadInput: a tempo, signature or position that no music has.
            Refused: too many changes wait already.
        """
        transport = Transport(0.0, playing, tempo, numerator, denominator, song_position, bar_start)
        self.changes.add_transport(position, transport)
        metre = f"{numerator}/{denominator}"
        if metre != self._metre and not self.spec.knows_metre(numerator, denominator):
            learnt = ", ".join(self.spec.metre_names)
            self._warn(
                "foreign_metre",
                f"{self.stream_name!r} has learnt {learnt}: in {metre} it keeps your beats and begins its bar on yours",
                1,
                position,
            )
        self._metre = metre

    def midi(self, position: int, data: bytes) -> None:
        """Whole MIDI 1.0 channel messages at `position`; a model that takes none passes them over. The client's thread.

        Raises:
            BadInput: other bytes, too many of them, or a position that the session cannot have.
            Refused: too many changes wait already.
        """
        self._timeline.check(position)
        self.changes.add_midi(position, data)
        if not self.spec.takes_notes and "midi_unused" not in self._counts:
            self._warn("midi_unused", f"{self.stream_name!r} takes no MIDI: it is passed over", 1, position)

    def close_input(self) -> None:
        """The input is complete: the rest of the output comes, as long as the input, then `Finished`. Any thread."""
        self._input_closed = True
        self._post(self._settle)
        self._input_arrived()

    @property
    def input_closed(self) -> bool:
        """Whether the input is complete, whoever said so. Any thread."""
        return self._input_closed

    @property
    def origin(self) -> int:
        """Position of the session's time 0; 0 before its first block. Any thread."""
        return self._timeline.origin or 0

    def listen(self, listener: Callable[[Event | InputBlock], None]) -> None:
        """From now on `listener` is told all that the client is, and of the input. Any thread.

        It is called on the engine thread and on the client's, and must not block.
        """
        self._listeners = (*self._listeners, listener)

    def acknowledge(self, blocks: int = 1) -> None:
        """The client has taken this many `OutputBlock`s, or `Frames` where it wants no audio. Any thread.

        A session whose blocks are not taken pauses after some seconds of output, so memory stays bounded.
        """
        with self._lock:
            self._unread = max(0, self._unread - blocks)
        self._input_arrived()

    def abort(self, error: Exception | None = None) -> None:
        """Ends the session and frees its row at once; at most `Failed`, with the error given, follows. Any thread."""
        self._post(lambda: self.end(error))

    @property
    def waits_for_client(self) -> bool:
        """Whether nothing goes on before the client sends something, or takes what it has been sent. Any thread."""
        return not (self._in_call or self._waits_for_text() or self.ready())

    @property
    def ledger(self) -> Ledger:
        """The latency as it stands. Any thread."""
        return self.book.current

    @property
    def realtime_factor(self) -> float:
        """Compute seconds per second of its audio so far. Any thread."""
        totals = self.totals
        return totals.compute_seconds / max(1e-9, float(totals.chunks * self.config.chunk_seconds))

    # ---- the engine thread ---------------------------------------------------------------------------

    def ready(self) -> bool:
        """Whether the next chunk can be computed. Any thread."""
        if self.state is not State.STREAMING or self._unread >= self._unread_limit or self._waits_for_text():
            return False
        if self._input_closed:
            return True
        if self._input.ring.written < self._needed:
            return False
        if self._frames is not None and self._frames.received < self._required_frames:
            return False
        # Output of a render never runs ahead of its input, to whose end it must keep.
        return not self.config.offline or self._length() >= self._chunk_end()

    def urgent(self) -> bool:
        """Whether the next chunk, when it is ready, is about to be heard. Any thread.

        It has time where the session is offline, or its client has sent more than a chunk ahead of real time.
        """
        if self.config.offline:
            return False
        needed, chunk = self._needed / self.config.sample_rate, float(self.config.chunk_seconds)
        if self._frames is not None:
            needed = max(needed, float(self._required_frames / self.spec.frame_rate))
        return not sent_ahead(needed, self._clock() - self._started_at, chunk)

    def gather(self) -> ChunkInput:
        """What the row gets for its next chunk, or for a further step of it. Engine thread, when `ready`."""
        self._in_call = True
        changes = self.changes
        notes: tuple[Notes, ...] = ()
        if self.unfinished is None:
            self._apply_changes()
            notes = self._notes()
        audio = self._input.take(self._required)
        frames = None if self._frames is None else self._frames.take(self._required_frames)
        self._offer_room()
        texts = {name: text.value for name, text in changes.texts.items()}
        return ChunkInput(self.row, audio, changes.transport, changes.parameters, texts, notes, frames)

    def deliver(self, output: ChunkOutput, compute_seconds: float) -> bool:
        """Sends what the row has answered and books its share of the engine's time; whether some of it was too late.

        Engine thread. A step that leaves its chunk unfinished is booked, and no more.
        """
        if not output.advanced:
            self.totals = replace(self.totals, compute_seconds=self.totals.compute_seconds + compute_seconds)
            self._in_call = False
            return False
        finite = tuple(zero_non_finite(audio) for audio in output.audio)
        zeroed = sum(count for _, count in finite)
        output = replace(output, audio=tuple(audio for audio, _ in finite))
        start = self._output.end
        position = (self._timeline.origin or 0) + start
        if zeroed:
            self._warn(
                "non_finite_output", "the model gave NaN or infinite samples; they are silence", zeroed, position
            )
        missing = self._output.timeline.missing
        late = self._send(start, self._output.add(output))
        if self._output.timeline.missing > missing:
            count = self._output.timeline.missing - missing
            self._warn("output_gap", "the model left samples out; they are silence", count, position)
        if output.frames is not None and len(output.frames):
            if not self.config.want_audio:  # then these are what may wait for an unread client
                with self._lock:
                    self._unread += 1
            self._on_event(Frames(output.first_frame, output.frames))
        self.totals = replace(
            self.totals,
            samples_in=self._timeline.received,
            chunks=self.totals.chunks + 1,
            late_chunks=self.totals.late_chunks + (late > 0),
            compute_seconds=self.totals.compute_seconds + compute_seconds,
        )
        self._look(self.stream.required_input(self.row), required_frames(self.spec, self.stream, self.row))
        self._in_call = False  # after the look: until then the next chunk may be ready unseen
        self._settle()
        return late > 0

    def observe(self, queued_seconds: float, call_seconds: float) -> None:
        """Takes how long the last chunk waited and how long its call took into the ledger. Engine thread."""
        if self.state is State.STREAMING and not self.config.offline:
            self.announce(self.book.observe(queued_seconds, call_seconds))

    def announce(self, ledger: Ledger | None) -> None:
        """Tells the client of a ledger that has changed. Engine thread."""
        if ledger is not None:
            self._on_event(LedgerChanged(ledger))

    def end(self, error: Exception | None = None, *, finished: bool = False) -> None:
        """Gives the row back; `Finished` or `Failed` is the last event. Engine thread; twice does no harm."""
        if self.state is State.CLOSED:
            return
        with self._lock:
            self.state = State.CLOSED
        self.totals = replace(self.totals, samples_in=self._timeline.received)
        try:
            self.stream.close(self.row)
        finally:
            self._offer_room()
            try:
                if finished or error is not None:
                    self._tell_warnings()
                if finished:
                    self._on_event(Finished(self.totals))
                elif error is not None:
                    self._on_event(Failed(error))
            finally:
                self.closed.set()
                self._wake()

    # ---- parts ---------------------------------------------------------------------------------------

    def _begin(self, samples: int) -> None:
        """The first of the input is there, so long: its end is now."""
        if self.state is State.OPEN:
            self._started_at = self._clock() - samples / self.config.sample_rate
            self.state = State.STREAMING

    def _samples_of_frames(self, frames: int) -> int:
        return int(frames * self.config.sample_rate / self.spec.frame_rate)

    def _length(self) -> int:
        """Session samples for which there has been input, be it audio or codec frames."""
        if self._frames is None:
            return self._timeline.received
        return max(self._timeline.received, self._samples_of_frames(self._frames.received))

    def _waits_for_text(self) -> bool:
        """Whether a render must not go on before a text is prepared, or it would depend on how long that takes."""
        return self.config.offline and self._texts is not None and self._texts.busy

    def _text_ready(self, name: str, text: Prepared, position: int | None) -> None:
        """A text has been prepared. A thread of the desk."""
        self.changes.add_text(name, text, position)

    def _notes(self) -> tuple[Notes, ...]:
        """What the chunk at hand has heard of MIDI, at the model's rate."""
        if not self.spec.takes_notes:
            return ()
        rate, model_rate = self.config.sample_rate, self.spec.input_rate or self.config.sample_rate
        return tuple(Notes(at * model_rate // rate, data) for at, data in self.changes.notes)

    def _unread_chunks(self) -> int:
        """Chunks whose output may wait for the client: seconds of them, as far as they take no more than their memory.

        Raises:
            Refused: three chunks, which the playing needs, take too much of it.
        """
        channels = sum(port.channels for port in self.ports)
        chunk_bytes = max(1, math.ceil(channels * 4 * self.config.chunk_seconds * self.config.sample_rate))
        if 3 * chunk_bytes > INPUT_BYTES:
            raise Refused(
                f"three chunks of output take {3 * chunk_bytes >> 20} MiB, and a session may hold {INPUT_BYTES >> 20}: "
                "choose a shorter chunk, a lower sample rate, or fewer channels"
            )
        return max(3, min(math.ceil(UNREAD_SECONDS / self.config.chunk_seconds), UNREAD_BYTES // chunk_bytes))

    def _ring_capacity(self, required: int) -> int:
        """Room for what one chunk can need at most, for a chunk that arrives meanwhile, and for blocks on their way."""
        rate = self.config.sample_rate
        first = Fraction(max(0, required), self.spec.input_rate or rate)
        seconds = first + 2 * self.config.chunk_seconds + Fraction(1, 2)
        return math.ceil(seconds * rate) + 2 * self.block_size

    def _chunk_start(self) -> Fraction:
        """Session samples, not rounded, at which the next chunk starts."""
        return self.totals.chunks * self.config.chunk_seconds * self.config.sample_rate

    def _chunk_end(self) -> int:
        """Session samples, rounded up, at which the next chunk ends."""
        return math.ceil(self._chunk_start() + self.config.chunk_seconds * self.config.sample_rate)

    def _look(self, required: int, required_frames: int) -> None:
        """Notes what the next chunk needs."""
        self._required, self._required_frames = required, required_frames
        self._needed = self._input.needed(self._required)
        ring = self._input.ring
        if self._needed - ring.read_count > ring.capacity and not self._input_closed:
            raise EngineError(
                f"{self.stream_name!r} wants {self._needed - ring.read_count} samples for one chunk, which exceeds "
                f"the session's ring of {ring.capacity}: its chunks must advance evenly"
            )
        self.ready_since = self._clock() if self.ready() else None

    def _input_arrived(self) -> None:
        if self.ready_since is None and self.ready():
            self.ready_since = self._clock()
            self._wake()

    def _offer_room(self) -> None:
        with self._lock:
            if self._room is None or (self.state is not State.CLOSED and self.free_input() < self._room[0]):
                return
            callback, self._room = self._room[1], None
        callback()

    def _apply_changes(self) -> None:
        """Puts the changes in force that the next chunk must obey."""
        start = self._chunk_start()
        previous = start - self.config.chunk_seconds * self.config.sample_rate if self.totals.chunks else None
        heard = self._required * self.config.sample_rate // (self.spec.input_rate or self.config.sample_rate)
        origin = self._timeline.origin or 0
        late_controls = self.changes.apply(origin, start, previous, heard)
        for name, text in self.changes.new_texts.items():
            self._on_event(TextInForce(name, text.text, origin + math.ceil(start)))
        for late in late_controls:
            message = f"a change of {late.parameter!r} came after the chunk it was meant for: send it before the audio"
            self._warn("late_event", message, late.count, late.position)

    def _send(self, start: int, audio: Audio) -> int:
        """Sends [channel of all ports, sample] from session sample `start` on; returns how much of it is too late."""
        if self._input_closed:
            audio = audio[:, : max(0, self._length() - start)]
        late = 0
        if not self.config.offline:
            late = late_samples(start, audio.shape[1], self._now(), self.book.promised_samples)
        origin = self._timeline.origin or 0
        if late:
            self._warn("late_output", "output came too late to be played and was dropped", late, origin + start)
        audio = audio[:, late:]
        if audio.shape[1] == 0 or not self.config.want_audio:
            return late
        position = origin + start + late
        for port, port_audio in enumerate(self._output.split(audio)):
            with self._lock:
                self._unread += 1
            self._on_event(OutputBlock(self._sequence, position, port, port_audio, committed=position + audio.shape[1]))
            self._sequence += 1
        self.totals = replace(self.totals, samples_out=self.totals.samples_out + audio.shape[1])
        return late

    def _now(self) -> int:
        """Session samples that the client has lived through: what it has sent, as far as real time has come.

        A client that sends ahead of time has not yet played what it would have to play by then.
        """
        elapsed = int((self._clock() - self._started_at) * self.config.sample_rate)
        return min(self._length(), elapsed)

    def _settle(self) -> None:
        """Ends the session if its input is closed and all of it is answered. Engine thread."""
        if not self._input_closed or self.state is State.CLOSED:
            return
        length = self._length()
        if self._output.covers(length):
            start = self._output.end
            self._send(start, self._output.finish(length))
            self.end(finished=True)
        elif self._chunk_start() > length + PADDING_LIMIT_SECONDS * self.config.sample_rate:
            self.end(
                EngineError(
                    f"{self.stream_name!r} has not answered all of its input after {PADDING_LIMIT_SECONDS} s of "
                    "silence: its chunks do not advance"
                )
            )

    def _warn(self, code: str, message: str, count: int, position: int) -> None:
        """Counts, and has the engine thread tell the client the first time and whenever the count has doubled."""
        with self._lock:
            before = self._counts.get(code, 0)
            self._counts[code] = now = before + count
            if now.bit_length() == before.bit_length():
                return
            self._warnings.append(Warned(code, message, now, position))
        self._post(self._tell_warnings)

    def _tell_warnings(self) -> None:
        with self._lock:
            warnings, self._warnings = self._warnings, []
        for warning in warnings:
            self._on_event(warning)


def session_ports(spec: StreamSpec, config: SessionConfig) -> tuple[Port, ...]:
    """The model's outputs with the channels they have in this session."""
    channels = spec.input_channels or config.channels
    return tuple(replace(port, channels=port.channels or channels) for port in spec.ports)


def required_frames(spec: StreamSpec, stream: Stream, row: int) -> int:
    """Codec frames that a row's next chunk needs; 0 where the model takes none."""
    return cast(TokenStream, stream).required_frames(row) if spec.takes else 0


def checked_parameters(stream_name: str, spec: StreamSpec, given: Mapping[str, float]) -> dict[str, float]:
    """Every parameter of the model with its value: the one given, or the default.

    Raises:
        NotFound: no such parameter.
        BadInput: out of range.
    """
    known = {parameter.name: parameter for parameter in spec.parameters}
    for name in given:
        if name not in known:
            raise NotFound(f"no parameter {quoted(name)} in {stream_name!r}: use {', '.join(known) or 'none'}")
    try:
        return {name: parameter.check(given.get(name, parameter.default)) for name, parameter in known.items()}
    except ValueError as error:
        raise BadInput(str(error)) from error
