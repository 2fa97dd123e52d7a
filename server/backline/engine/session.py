"""A session: one client's streaming state on one row of a model, from its first block to its totals.

Three threads meet here. The *client's thread* (one, whichever serves this client) writes audio and events. The *engine
thread* takes chunks from it and calls `on_event`. Any thread may read counters or abort.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import replace
from enum import Enum

from backline.engine.audience import Audience, Listener
from backline.engine.changes import SHORTEST_LOOP, Control
from backline.engine.checks import check_one_line, checked_change
from backline.engine.clock import CLOCK, Clock
from backline.engine.errors import BadInput, EngineError, is_out_of_memory, out_of_memory
from backline.engine.events import (
    ChunkBegan,
    Failed,
    Finished,
    Frames,
    InputBlock,
    LedgerChanged,
    TakeBegan,
    TextInForce,
    Totals,
)
from backline.engine.ledger import Ledger, LedgerBook
from backline.engine.limits import check_quarters, check_sample
from backline.engine.outlet import Outlet
from backline.engine.seams import Seam
from backline.engine.take import PADDING_LIMIT_SECONDS, Take, UnfinishedChunk, needs
from backline.engine.takes import Takes
from backline.engine.texts import Prepared, TextDesk, TextQueue, check_text
from backline.engine.warnings import Warnings
from backline.models.stream import Audio, ChunkInput, ChunkOutput, Codes, MeasuresRows, RowBytes, Stream, Transport


class State(Enum):
    """Where a session is in its life."""

    OPEN = "open"  # no audio yet, so no time 0
    STREAMING = "streaming"
    CLOSED = "closed"


class Session:
    """Made by `Engine.open_session`; its row is already open."""

    def __init__(
        self,
        *,
        name: str,
        stream: Stream,
        row: int,
        client_name: str,
        block_size: int,
        takes: Takes,
        book: LedgerBook,
        warnings: Warnings,
        audience: Audience,
        wake: Callable[[], None],
        post: Callable[[Callable[[], None]], None],
        desk: TextDesk | None = None,
        clock: Clock = CLOCK,
    ) -> None:
        """
        Args:
            name: the model's.
            takes: of which it plays the first one.
            book: its ledger.
            warnings: which its takes have, too.
            desk: which prepares the model's texts, where it has some.

        Raises:
            Refused: its output takes more memory than a session may hold.
        """
        self.id = secrets.token_hex(8)
        self.token = secrets.token_hex(16)
        self.stream_name, self.stream, self.row = name, stream, row
        self.client_name, self.block_size = client_name, block_size
        self.takes, self.book, self.warnings = takes, book, warnings
        self.spec, self.config, self.ports = self.take.spec, self.take.config, self.take.ports
        self.opened_at = clock()
        self.state = State.OPEN
        self.totals = Totals()
        self.closed = threading.Event()  # set when the row has been given back and the last event is out
        self.ready_since: float | None = None  # by the clock
        self.detached_until: float | None = None  # by the clock, while its call has broken off; the service's
        self.unfinished: UnfinishedChunk | None = None  # that takes another step; the engine thread's

        self._audience, self._wake, self._post, self._clock = audience, wake, post, clock
        self._outlet = Outlet(audience, warnings, book, self.config, self.ports)
        self._lock = threading.Lock()  # of the room that somebody waits for
        self._texts = None if desk is None else TextQueue(desk, self._text_ready, self.abort, self._wake)
        self._room: tuple[Callable[[], bool], Callable[[], None]] | None = None  # whether there is, and who waits
        self._in_call = False  # a chunk of it is being computed
        self._has_row = True

    @property
    def take(self) -> Take:
        """The one that plays. Any thread."""
        return self.takes.playing

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
        if self.takes.closed:
            raise BadInput("audio after the end of the input: open a new session")
        if self.state is State.CLOSED:
            return True  # nobody listens any more; the last event has said why
        before = None if self.takes.timeline.origin is None else self.takes.timeline.end
        written = self.takes.write(position, audio)
        if self._audience.listeners and (end := self.takes.timeline.end) != before:
            # What has been taken, and no more: the rest of it may never be. Where that is silence only, it ends there.
            start = min(end, position if before is None else max(position, before))
            self._audience.show(InputBlock(start, audio[:, start - position : end - position]))
        self._begin()
        self._input_arrived()
        return written

    def write_frames(self, first: int, codes: Codes) -> None:
        """The next codec frames [frame, codebook], the first of which is frame `first` of the session. Client's thread.

        Raises:
            BadInput, Refused: see `Take.write_frames`.
        """
        if self.state is State.CLOSED:
            return
        self.take.write_frames(first, codes)
        self._begin()
        self._input_arrived()

    def free_input(self) -> int:
        """Samples that can be written now. Any thread."""
        return self.takes.free

    def when_room(self, samples: int, callback: Callable[[], None]) -> None:
        """Calls `callback` once, as soon as `samples` fit or the session has ended. The client's thread.

        The callback runs on this thread where there is room already, else on the engine thread; it must not block. From
        an event loop: `while not session.try_write(position, audio)`, call this with
        `lambda: loop.call_soon_threadsafe(room.set)` for an `asyncio.Event` of its own, and await that.
        """
        self._when(lambda: self.free_input() >= samples, callback)

    def when_frames_fit(self, count: int, callback: Callable[[], None]) -> None:
        """As `when_room`, for codec frames: at once where they fit, or where waiting would not help."""
        self._when(lambda: not self.take.frames_must_wait(count), callback)

    def control(self, parameter: str, value: float, position: int | None = None) -> None:
        """Sets a parameter from the first chunk that starts at or after `position`. The client's thread.

        Without a position: a live session takes it with its next chunk, an offline one at the input's present end, so
        that a render depends on nothing but the order of its messages.

        Raises:
            NotFound: no such parameter.
            BadInput: out of range, not to be changed during a session, or at a position that no session reaches.
            Refused: too many changes wait already.
        """
        value = checked_change(self.stream_name, self.spec, parameter, value)
        if position is None and self.config.offline:
            position = self.takes.timeline.end
        self.take.changes.add_control(Control(position, parameter, value))

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
            position = self.takes.timeline.end
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
        loop: tuple[float, float] | None = None,
        after: int | None = None,
    ) -> None:
        """The host's transport at `position`; what follows from the one before is no news. The client's thread.

        Where the session has been asked to, it begins another take with a start or a jump, and where the song comes to
        the end of its loop.

        Args:
            loop: quarter notes; one shorter than SHORTEST_LOOP is none.
            after: chunks that start before obey it no more than if it had not come; so a replay repeats what came late.

        Raises:
            BadInput: a tempo, signature or position that no music has.
            Refused: too many changes wait already.
        """
        for quarters in loop or ():
            check_quarters(quarters, "transport with a loop to")
        if loop is not None and loop[1] - loop[0] < SHORTEST_LOOP:
            loop = None
        transport = Transport(0.0, playing, tempo, numerator, denominator, song_position, bar_start, loop)
        news = self.take.add_transport(position, transport, after)
        if news is not None:
            self.takes.add_transport(position, news)
            self._post(self._settle)

    def begin_take(self, position: int, heard_from: int | None = None, *, skipped: bool = False) -> None:
        """Another take from `position` on, or from the input's end if that lies beyond. The client's thread.

        A take is a chunk long at least: what comes sooner is passed over.

        Args:
            heard_from: where it is heard from; without, from `position`, or as soon as nothing older has gone out.
            skipped: the take before ends where it has been heard up to, or at `heard_from`; then there is silence.

        Raises:
            BadInput: a position that no session reaches, or the model takes codec frames.
            Refused: too many wait already.
        """
        check_one_line(self.spec)
        self.takes.begin(Seam(position, heard_from, skipped))
        self._post(self._settle)

    def midi(self, position: int, data: bytes, after: int | None = None) -> None:
        """Whole MIDI 1.0 channel messages at `position`; a model that takes none passes them over. The client's thread.

        Args:
            after: see `set_transport`.

        Raises:
            BadInput: other bytes, too many of them, or a position that the session cannot have.
            Refused: too many changes wait already.
        """
        self.takes.timeline.check(position)
        self.take.add_midi(position, data, after)

    def mark(self, marker: int, position: int) -> None:
        """Has `Marked` tell when the output at `position` has been sent. The client's thread.

        Raises:
            BadInput, Refused: see `Outlet.mark`.
        """
        self._outlet.mark(marker, position)
        self._post(self._outlet.tell_marked)

    def grant(self, samples: int) -> None:
        """From now on chunks begin only while the client wants them: so many samples more. Any thread."""
        self._outlet.grant(samples)
        self._input_arrived()

    def close_input(self) -> None:
        """The input is complete: the rest of the output comes, as long as the input, then `Finished`. Any thread."""
        self.takes.close()
        self._post(self._settle)
        self._input_arrived()

    def discard(self) -> None:
        """The client wants nothing more: `Finished` follows at once. Any thread."""
        self.take.closed = True
        self._post(lambda: self.end(finished=True))

    @property
    def input_closed(self) -> bool:
        """Whether the input is complete, whoever said so. Any thread."""
        return self.takes.closed

    @property
    def phase(self) -> str:
        """What it is called where sessions are listed: its state, or detached. Any thread."""
        detached = self.detached_until is not None and self.state is not State.CLOSED
        return "detached" if detached else self.state.value

    @property
    def origin(self) -> int:
        """Position of time 0 of the take that plays; 0 before its first block. Any thread."""
        return self.take.origin or 0

    def listen(self, listener: Listener) -> None:
        """From now on `listener` is told all that the client is, of the input, and what the model hears. Any thread.

        It is called on the engine thread and on the client's, and must not block.
        """
        self._audience.listen(listener)

    def unlisten(self, listener: Listener) -> None:
        """From now on it is told nothing any more. Any thread."""
        self._audience.unlisten(listener)

    def acknowledge(self, blocks: int = 1) -> None:
        """The client has taken this many `OutputBlock`s, or `Frames` where it wants no audio. Any thread.

        A session whose blocks are not taken pauses after some seconds of output, so memory stays bounded.
        """
        self._outlet.acknowledge(blocks)
        self._input_arrived()

    def abort(self, error: Exception | None = None) -> None:
        """Ends the session and frees its row at once; at most `Failed`, with the error given, follows. Any thread."""
        self._post(lambda: self.end(error))

    @property
    def waits_for_client(self) -> bool:
        """Whether nothing goes on before the client sends something, or takes what it has been sent. Any thread."""
        return not (self._in_call or self._waits_for_text() or self.ready())

    @property
    def memory(self) -> RowBytes:
        """Of its row, as far as the model tells it, and of the rings that hold its input. Any thread."""
        row = self.stream.row_bytes(self.row) if isinstance(self.stream, MeasuresRows) else RowBytes()
        return replace(row, other=row.other + self.takes.memory_bytes)

    @property
    def ledger(self) -> Ledger:
        """The latency as it stands. Any thread."""
        return self.book.current

    @property
    def realtime_factor(self) -> float:
        """Compute seconds per second of its audio so far. Any thread."""
        totals = self.totals
        played = float(totals.chunks * self.config.chunk_seconds)
        return totals.compute_seconds / played if played else 0.0

    # ---- the engine thread ---------------------------------------------------------------------------

    def ready(self) -> bool:
        """Whether the next chunk can be computed. Any thread."""
        if self.state is not State.STREAMING or self._outlet.full or self._waits_for_text():
            return False
        return self.takes.has_chunk and (self.takes.closed or self._outlet.wanted)

    def urgent(self) -> bool:
        """Whether the next chunk, when it is ready, is about to be heard. Any thread.

        It has time where the session is offline, or its client has sent more than a chunk ahead of real time.
        """
        return not (self.config.offline or self.take.ahead)

    def gather(self) -> ChunkInput:
        """What the row gets for its next chunk, or for a further step of it. Engine thread, when `ready`."""
        self._in_call = True
        if self.unfinished is None:
            self._begin_chunk()
        chunk = self.take.gather(self.row, further=self.unfinished is not None)
        self._offer_room()
        return chunk

    def deliver(self, output: ChunkOutput, compute_seconds: float) -> bool:
        """Sends what the row has answered and books its share of the engine's time; whether some of it was too late.

        Engine thread. A step that leaves its chunk unfinished is booked, and no more.
        """
        self.totals = replace(self.totals, compute_seconds=self.totals.compute_seconds + compute_seconds)
        if not output.advanced:
            self._in_call = False
            return False
        late = self._send(*self.take.lay(output)) > 0
        if output.frames is not None and len(output.frames):
            self._outlet.send_frames(Frames(output.first_frame, output.frames, self.takes.number))
        for heard in output.heard:
            self._audience.show(heard)
        self.totals = replace(
            self.totals,
            samples_in=self.takes.timeline.received,
            chunks=self.totals.chunks + 1,
            late_chunks=self.totals.late_chunks + late,
        )
        self.take.advance(needs(self.spec, self.stream, self.row))
        self.ready_since = self._clock() if self.ready() else None
        self._in_call = False  # after the look: until then the next chunk may be ready unseen
        self._settle()
        return late

    def observe(self, queued_seconds: float, call_seconds: float) -> None:
        """Takes how long the last chunk waited and how long its call took into the ledger. Engine thread."""
        if self.state is State.STREAMING and not self.config.offline:
            self.announce(self.book.observe(queued_seconds, call_seconds))

    def announce(self, ledger: Ledger | None) -> None:
        """Tells the client of a ledger that has changed. Engine thread."""
        if ledger is not None:
            self._audience(LedgerChanged(ledger))

    def end(self, error: Exception | None = None, *, finished: bool = False) -> None:
        """Gives the row back; `Finished` or `Failed` is the last event. Engine thread; twice does no harm."""
        if self.state is State.CLOSED:
            return
        with self._lock:
            self.state = State.CLOSED
        self.totals = replace(self.totals, samples_in=self.takes.timeline.received)
        try:
            if self._has_row:
                self.stream.close(self.row)
        finally:
            self._offer_room()
            try:
                if finished or error is not None:
                    self.warnings.tell()
                if finished:
                    self._audience(Finished(self.totals))
                elif error is not None:
                    self._audience(Failed(error))
            finally:
                self.closed.set()
                self._wake()

    # ---- parts ---------------------------------------------------------------------------------------

    def _when(self, there_is_room: Callable[[], bool], callback: Callable[[], None]) -> None:
        with self._lock:
            if self.state is not State.CLOSED and not there_is_room():
                self._room = (there_is_room, callback)
                return
        callback()

    def _begin(self) -> None:
        if self.state is State.OPEN and self.take.begun:
            with self._lock:
                if self.state is State.OPEN:  # the engine thread may have closed it
                    self.state = State.STREAMING

    def _waits_for_text(self) -> bool:
        """Whether a render must not go on before a text is prepared, or it would depend on how long that takes."""
        return self.config.offline and self._texts is not None and self._texts.busy

    def _text_ready(self, name: str, text: Prepared, position: int | None) -> None:
        """A text has been prepared. A thread of the desk."""
        self.take.changes.add_text(name, text, position)

    def _input_arrived(self) -> None:
        if self.ready_since is None and self.ready():
            self.ready_since = self._clock()
            self._wake()

    def _offer_room(self) -> None:
        with self._lock:
            if self._room is None or not (self.state is State.CLOSED or self._room[0]()):
                return
            callback, self._room = self._room[1], None
        callback()

    def _begin_chunk(self) -> None:
        """Puts the changes in force that the next chunk must obey, and tells of them."""
        late_controls = self.take.begin_chunk()
        if self._audience.listeners and self.take.changes.applied:
            self._audience.show(
                ChunkBegan(self.takes.number, self.take.chunk_floor, self.take.changes.applied),
            )
        for name, text in self.take.changes.new_texts.items():
            self._audience(TextInForce(name, text.text, self.take.chunk_position))
        for late in late_controls:
            message = f"a change of {late.parameter!r} came after the chunk it was meant for: send it before the audio"
            self.warnings.warn("late_event", message, late.count, late.position)

    def _send(self, start: int, audio: Audio) -> int:
        """Sends [channel of all ports, sample] from session sample `start` on; returns how much of it is too late."""
        now = None if self.config.offline else self.takes.now
        late, sent = self._outlet.send(self.take, *self.takes.join(start, audio), now)
        self.totals = replace(self.totals, samples_out=self.totals.samples_out + sent)
        return late

    def _turn_to(self, over: Take, following: Take) -> None:
        """The row begins anew, as that of a session that has just been opened."""
        assert over.origin is not None
        assert following.origin is not None
        assert following.heard_from is not None
        changes = following.changes
        self.unfinished, self._has_row = None, False
        self.stream.close(self.row)
        self.row = self.stream.open(replace(self.config, parameters=changes.parameters))
        self._has_row = True
        following.begin(needs(self.spec, self.stream, self.row))
        changes.begin_take(over.origin, following.origin)
        skipped = over.seam is not None and over.seam.skipped
        self._audience(TakeBegan(self.takes.number, following.origin, following.heard_from, skipped))
        self.ready_since = self._clock() if self.ready() else None
        self._offer_room()

    def _settle(self) -> None:
        """Goes on with the next take where one is over; ends the session after the last. Engine thread."""
        while self.state is not State.CLOSED and self.takes.over():
            over = self.take
            self._send(*over.rest())
            following = self.takes.next()
            if following is None:
                self.end(finished=True)
                return
            try:
                self._turn_to(over, following)
            except Exception as error:
                self.end(out_of_memory(self.stream_name, error) if is_out_of_memory(error) else error)
        if self.state is not State.CLOSED and self.take.overdue:
            self.end(
                EngineError(
                    f"{self.stream_name!r} has not answered all of its input after {PADDING_LIMIT_SECONDS} s of "
                    "silence: its chunks do not advance"
                )
            )
