"""One session: the half that sends and knows its state, shared by `Session` and `AsyncSession`.

Where the connection breaks off, it calls again by itself, and the session goes on where it was; or, where the server
has forgotten it, a like one is opened at the present position.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import grpc
import numpy as np
from numpy.typing import ArrayLike

from backline_client.endpoint import Endpoint
from backline_client.errors import BacklineError, NotFound, ServerBusy, SessionEnded, TimedOut, from_rpc
from backline_client.upstream import Upstream
from backline_client.wire import (
    Change,
    Control,
    Event,
    Frames,
    Incoming,
    Link,
    Notes,
    Outgoing,
    Take,
    Text,
    Transport,
    fields,
)
from backline_protos.v1 import backline_pb2 as pb
from backline_protos.v1.backline_pb2_grpc import BacklineStub

RECONNECT_SECONDS = 30.0  # for which a live session looks for its server, as long as a server keeps one
KEPT_SECONDS = 10  # of input, in case it has to be sent again
LONGEST_GAP_SECONDS = 50  # of input that a session may miss; after more of it another one is opened
STALL_SECONDS = 2.0  # beyond its latency and two chunks, for which a server that gets audio may say nothing
ACK_SECONDS = 0.5  # between two acknowledgements
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # seconds between two calls that find no server; each is twice the one before
AWAKE_SECONDS = 0.5  # within which a client that was taken for idle says something, if it plays on
CLOSING_SECONDS = 2.0  # for which a server that is lost is looked for once the input has ended
FAREWELL_SECONDS = 1.0  # that a server gets to hear that a session is not wanted any more
LOST = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL}


class SessionCall:
    """A session and its calls. Any thread may use any member; no public one waits,
    but for `ended`.

    A thread of its own reads the calls and hands each event to `deliver`, and None when the session has ended. What the
    server does not take yet is kept in memory: of a live client 10 s of audio at most, of an offline one its file.
    """

    def __init__(
        self,
        stub: Callable[[], BacklineStub],
        endpoint: Endpoint,
        opening: pb.Open,
        timeout: float,
        deliver: Callable[[Event | None], None],
    ) -> None:
        """Returns when the server is ready for audio; raises BacklineError if it is not within `timeout` seconds.

        Args:
            stub: the way to a call, or BacklineError where there is none.
            opening: with a lease where the session is to outlive its connection, and for so long.
        """
        self._stub, self._endpoint, self._opening, self._deliver = stub, endpoint, opening, deliver
        self._patience = opening.lease_seconds
        self._upstream = Upstream(KEPT_SECONDS * opening.sample_rate if self._patience else 0)
        self._sending = threading.Lock()
        self._frames_sent = self._marks = 0
        self._state: dict[tuple[str, str], pb.ClientMessage] = {}  # newest control, text and transport that was sent
        self._received = 0  # messages of the session
        self._linked = False  # the call at hand has its Ready
        self._resumes = False  # the session of the newest one can be taken up
        self._wanted = True  # output comes by itself
        self._sent_at = self._heard_at = self._ended_at = 0.0  # monotonic seconds
        self._acknowledged_at = 0.0
        self._input_ended = self._cancelled = False
        self._error: BacklineError | None = None
        self._ready = threading.Event()
        self._ended = threading.Event()
        self._hurry = threading.Event()  # a pause between two calls is over
        self._call: grpc.Call | None = None
        self._reader = threading.Thread(target=self._run, name="backline-session", daemon=True)
        self._reader.start()
        if not self._ready.wait(timeout):
            self.cancel()
            raise BacklineError(f"the server at {endpoint} did not open the session within {timeout:g} s: is it stuck?")
        if self._error is not None:
            raise self._error
        # A server that names no limit takes blocks of the size that was asked for.
        self._outgoing = Outgoing(opening.channels, self.ready.max_block or opening.block_size)

    @property
    def ready(self) -> pb.Ready:
        """What the server granted: session id, seed, ports, chunk, visibility, parameters."""
        return self._incoming.ready

    @property
    def ledger(self) -> pb.Ledger:
        """The newest itemised latency."""
        return self._incoming.ledger

    @property
    def latency_samples(self) -> int:
        """Play output p together with input p + this."""
        return int(self.ledger.latency_samples)

    @property
    def warnings(self) -> dict[str, pb.Warning]:
        """The newest warning of each code."""
        return self._incoming.warnings

    @property
    def totals(self) -> pb.Closed | None:
        """The server's sums, once the session has ended in order."""
        return self._incoming.totals

    @property
    def position(self) -> int:
        """Where the next block starts."""
        return self._outgoing.position

    @property
    def dropped_samples(self) -> int:
        """Of input that was never sent, because it was too old by the time there was a server to take it."""
        return self._upstream.dropped_samples

    def send(self, audio: ArrayLike, position: int | None = None) -> None:
        """Sends input [channel, sample] (a vector for mono), by default right after the last.

        Raises:
            ValueError: the array is not audio with the session's channels.
            BacklineError: the session has failed or is closed.
        """
        with self._sending:
            self._notice_stall()
            for block in self._outgoing.blocks(audio, position):
                self._put(pb.ClientMessage(audio=block), len(block.pcm) // (4 * self._opening.channels))

    def transport(self, transport: Transport) -> None:
        """Sets tempo and beat, by default from the next block on."""
        self.change(transport)

    def control(self, parameter: str, value: float, position: int | None = None) -> None:
        """Sets a parameter, by default as soon as possible."""
        self.change(Control(parameter, value, position))

    def text(self, name: str, text: str, position: int | None = None) -> None:
        """Sets a text, by default as soon as possible; an event `Text` tells from where on it is in force."""
        self.change(Text(name, text, position))

    def midi(self, position: int, data: bytes) -> None:
        """Plays whole MIDI 1.0 channel messages at a sample position, to a pack that takes notes."""
        self.change(Notes(position, data))

    def midi_live(self, position: int, data: bytes) -> int:
        """As `midi`, for what is played meanwhile: where that position has been sent already, it comes with the next
        block. Returns where it lies, so that a render of the same gives the same.
        """
        with self._sending:
            notes = Notes(max(position, self.position), data)
            self._put(pb.ClientMessage(midi=notes.message()))
        return notes.position

    def mark(self, position: int | None = None) -> int:
        """Has an event `Marked` come as soon as the output at `position` has (by default that of the next block's first
        sample): the time in between is the latency, as it is. Returns the marker's id.
        """
        with self._sending:
            self._marks += 1
            at = self.position if position is None else position
            self._put(pb.ClientMessage(marker=pb.Marker(id=self._marks, position=at)))
            return self._marks

    def credit(self, samples: int) -> None:
        """Wants so many samples of output more; from the first time on the server computes no more than is wanted, so
        that a change is heard at once after that.
        """
        with self._sending:
            self._wanted = False
            self._put(pb.ClientMessage(credit=pb.Credit(samples=samples)))

    def take(self, position: int | None = None) -> None:
        """Begins another take, as if the session were opened anew; by default where the next block starts."""
        self.change(Take(self.position if position is None else position))

    def frames(self, codes: ArrayLike) -> None:
        """Sends codec frames [frame, codebook], which follow on those before, to a pack that takes some."""
        array = np.asarray(codes, np.int64)
        with self._sending:
            self._put(pb.ClientMessage(frames=Frames(self._frames_sent, array).message()))
            self._frames_sent += len(array)

    def change(self, change: Change) -> None:
        """Sends anything that may happen in a session beside its audio."""
        with self._sending:
            message = pb.ClientMessage(**fields(change, self.position))
            self._put(message)
            match change:
                case Control():
                    self._state["control", change.parameter] = message
                case Text():
                    self._state["text", change.name] = message
                case Transport():
                    self._state["transport", ""] = message

    def end_input(self) -> None:
        """Says that no more input comes; output that is still due can be received until the session ends."""
        with self._sending:
            if not self._input_ended:
                self._input_ended, self._ended_at = True, time.monotonic()
                self._upstream.put(pb.ClientMessage(close=pb.Close()))
                if not self._patience:
                    self._upstream.complete()  # with a lease the other half stays open, for what is acknowledged

    def cancel(self) -> None:
        """Ends the session at once; what is due is lost."""
        if self._ended.is_set():
            return
        self._input_ended = self._cancelled = True
        self._hurry.set()
        call = self._call
        if self._patience and self._ready.is_set() and not self._ended.is_set():
            self._upstream.discard()  # a call that just broke off would leave it detached
            self._part()
        elif call is not None:
            call.cancel()

    def ended(self, timeout: float) -> bool:
        """Waits until the session has ended, and returns whether it has within `timeout` seconds."""
        return self._ended.wait(timeout)

    def _close(self, timeout: float) -> pb.Closed:
        self.end_input()
        if not self._ended.wait(timeout):
            raise TimeoutError(f"the server at {self._endpoint} was not done within {timeout:g} s of closing")
        if self._error is not None:
            raise self._error
        return self.totals or pb.Closed()

    def _put(self, message: pb.ClientMessage, samples: int = 0) -> None:
        if self._error is not None:
            raise self._error
        if self._input_ended or self._ended.is_set():
            raise SessionEnded("the session is closed: open a new one to send more", grpc.StatusCode.CANCELLED)
        self._upstream.put(message, samples)

    def _part(self) -> None:
        """The call at hand ends once the server has heard that its session does, or a little later."""
        if (call := self._call) is not None:
            farewell = threading.Timer(FAREWELL_SECONDS, call.cancel)
            farewell.daemon = True
            farewell.start()

    def _notice_stall(self) -> None:
        """A server that has stopped, or a connection that only seems to be there, is called anew: as soon as it answers
        the session goes on at the present, and not with what nobody can play any more.
        """
        now = time.monotonic()
        if now - self._sent_at > STALL_SECONDS:
            self._heard_at = now  # nothing was sent, so nothing was due
        self._sent_at = now
        patience = STALL_SECONDS + self.latency_samples / self._opening.sample_rate + 2 * self.ready.chunk_seconds
        if self._patience and self._wanted and self._linked and now - self._heard_at > patience:
            self._heard_at = now
            if self._call is not None:
                self._call.cancel()

    # ---- the reader's thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        """Call after call, until the session has ended or there is no hope for it."""
        first = pb.ClientMessage(open=self._opening)
        lost: BacklineError | None = None
        lost_at, pause = 0.0, FIRST_PAUSE
        try:
            while (error := self._converse(first)) is not None:
                if not self._hopeful(error, first):
                    break
                now = time.monotonic()
                if self._linked:
                    self._linked = False
                    lost, lost_at, pause = error, now, FIRST_PAUSE
                    self._deliver(Link(False, str(error)))
                elif now - lost_at >= self._patience or (
                    self._input_ended and now - max(lost_at, self._ended_at) >= CLOSING_SECONDS
                ):
                    error = lost
                    break
                if isinstance(error, NotFound):  # the server has forgotten the session, or is another one
                    self._resumes = False
                first = self._resumption() if self._resumes else self._opening_anew()
                self._hurry.wait(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, LONGEST_PAUSE)
            self._error = None if self._cancelled and self._ready.is_set() else error
        finally:
            self._ended.set()
            self._upstream.leave()
            self._deliver(None)
            self._ready.set()

    def _resumption(self) -> pb.ClientMessage:
        return pb.ClientMessage(resume=pb.Resume(token=self.ready.token, received=self._received))

    def _opening_anew(self) -> pb.ClientMessage:
        """As the session was opened, and with its seed."""
        opening = pb.Open()
        opening.CopyFrom(self._opening)
        opening.seed = self.ready.seed
        return pb.ClientMessage(open=opening)

    def _hopeful(self, error: BacklineError, first: pb.ClientMessage) -> bool:
        """Whether another call may do better."""
        if not self._patience or not self._ready.is_set() or self._cancelled:
            return False
        if first.WhichOneof("message") == "resume" and isinstance(error, NotFound):
            return not self._input_ended  # the rest of an input that was closed is lost
        if isinstance(error, TimedOut):  # whoever goes on after that was not idle: it was asleep
            return self._upstream.await_news(AWAKE_SECONDS) and not self._cancelled
        opens_anew = not self._linked and first.WhichOneof("message") == "open"
        return error.status in LOST or (opens_anew and isinstance(error, ServerBusy))

    def _converse(self, first: pb.ClientMessage) -> BacklineError | None:
        """One call; what it failed of, None where the session has ended in order."""
        try:
            call = self._call = self._stub().Stream(self._upstream.requests(first))
        except BacklineError as error:
            return error
        if self._cancelled and not self._ready.is_set():
            call.cancel()
        try:
            for message in call:
                kind = message.WhichOneof("message")
                if kind == "ready":
                    self._take_ready(message.ready, first)
                elif kind != "error" and self._linked:
                    self._take(message, kind)
        except grpc.RpcError as error:
            return from_rpc(error, self._endpoint, established=self._ready.is_set())
        if not self._ready.is_set():
            return BacklineError(f"the server at {self._endpoint} ended the call before it was ready")
        if not self._linked:
            return BacklineError("the session had missed too much of its input", grpc.StatusCode.CANCELLED)
        return None

    def _take(self, message: pb.ServerMessage, kind: str | None) -> None:
        self._received += 1
        self._heard_at = now = time.monotonic()
        if self._patience and (now - self._acknowledged_at >= ACK_SECONDS or kind == "closed"):
            self._acknowledged_at = now
            self._upstream.acknowledge(self._received)
        event = self._incoming.event(message)
        if event is not None:
            self._deliver(event)

    def _take_ready(self, ready: pb.Ready, first: pb.ClientMessage) -> None:
        self._linked, self._resumes, self._heard_at = True, ready.lease_seconds > 0, time.monotonic()
        if not self._ready.is_set():
            self._incoming = Incoming(ready)
            self._upstream.begin()
            self._ready.set()
            return
        rate, present = self._opening.sample_rate, self._outgoing.position
        if first.WhichOneof("message") == "resume":
            behind = present - ready.input_position
            if behind > LONGEST_GAP_SECONDS * rate:
                self._linked = self._resumes = False  # another session is opened, and this one not left to its lease
                self._upstream.give_up()
                self._part()
                return
            self._incoming.renew(ready)
            self._received = ready.sent
            # Within the latency everything still comes in time; beyond it, what is old would only hold up the present.
            skips = behind > max(self.latency_samples, ready.chunk_seconds * rate)
            self._upstream.go_on(ready.received, present if skips else None)
            self._deliver(Link(True, f"{behind} samples behind", resumed=True))
        else:
            self._incoming.renew(ready)
            self._received = 0
            state = [_at_once(message) for message in self._state.values()]
            self._upstream.start_over(state, present)
            self._deliver(Link(True, "another session"))


def _at_once(message: pb.ClientMessage) -> pb.ClientMessage:
    """A change that has been in force, for a session that begins with it."""
    now = pb.ClientMessage()
    now.CopyFrom(message)
    for kind in ("control", "text"):
        if message.WhichOneof("message") == kind:
            getattr(now, kind).ClearField("position")
    return now
