"""A seat at the desk: a session, whose it is, what it has said, and how much of that its client has for sure.

A seat with a lease outlives its call: the messages that a cut may have swallowed are kept until the client has
acknowledged them, within bounds, and a further call goes on from there (the contract's proto says how both count).
Everything here runs on the event loop, but for `Outbox.put`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backline.engine.errors import BadInput
from backline.engine.events import Event
from backline.engine.limits import KEPT_BYTES, UNSENT_EVENTS
from backline.engine.session import Session
from backline.service.access import Guest
from backline.service.session_log import SessionLog
from backline_protos.v1 import backline_pb2 as pb

if TYPE_CHECKING:
    from backline.service.call import SessionCall

KEPT_SECONDS = 10  # of output that is kept for a client that has not acknowledged it
OBJECT_BYTES = 1_000  # that a message in memory takes beside what is on the wire: measured, with its place in the queue


@dataclass(frozen=True)
class LogLine:
    """A line of the session's log, which its client has asked for."""

    line: str


class Outbox:
    """Events on their way from an engine thread to the event loop; many of them cost one wake-up."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._events: deque[Event | LogLine] = deque()
        self._arrived = asyncio.Event()
        self._taken = asyncio.Event()
        self._signalled = False

    def put(self, event: Event | LogLine) -> None:
        """Any thread. The engine bounds what output waits here: it pauses a session whose blocks are not acknowledged.
        What answers a client's own messages is bounded by whoever reads them, who waits for `room`.
        """
        self._events.append(event)
        if not self._signalled:
            self._signalled = True
            with contextlib.suppress(RuntimeError):  # the loop has ended, and with it everyone who would read this
                self._loop.call_soon_threadsafe(self._arrived.set)

    def next_line(self) -> LogLine | None:
        """The next line of the log that waits, which is taken out, with all before it. The event loop."""
        while self._events:
            if isinstance(event := self._events.popleft(), LogLine):
                return event
        return None

    def put_back(self, event: Event | LogLine) -> None:
        """What was got, and could not be passed on, is the next again. The event loop."""
        self._events.appendleft(event)

    async def room(self) -> None:
        """Until no more waits than may. The event loop, one at a time."""
        while len(self._events) >= UNSENT_EVENTS:
            self._taken.clear()
            await self._taken.wait()

    async def get(self) -> Event | LogLine:
        """The next event. The event loop."""
        while not self._events:
            self._arrived.clear()
            self._signalled = False  # from here on, a put wakes us; what came before is seen below
            if not self._events:
                await self._arrived.wait()
        self._taken.set()
        return self._events.popleft()


class Kept:
    """The newest messages that a client may not have got, by their numbers: the first of a session is message 0."""

    def __init__(self, samples: int, limit: int = KEPT_BYTES) -> None:
        """`samples` of output are kept at most, and `limit` bytes of memory; the newest message in any case."""
        self.sent = 0  # messages so far: the number of the next one
        self._samples, self._limit = samples, limit
        self._messages: deque[tuple[Any, int, int]] = deque()  # with their sizes, and how far output had come by then
        self._bytes, self._end = 0, 0

    @property
    def first(self) -> int:
        """The number of the oldest message that is kept."""
        return self.sent - len(self._messages)

    @property
    def bytes(self) -> int:
        """Of all that are kept."""
        return self._bytes

    def add(self, message: Any) -> None:
        """The next message is about to be sent."""
        if message.WhichOneof("message") == "audio":
            self._end = message.audio.committed
        size = message.ByteSize() + OBJECT_BYTES
        self._messages.append((message, size, self._end))
        self._bytes += size
        self.sent += 1
        while len(self._messages) > 1 and (
            self._bytes > self._limit or self._end - self._messages[0][2] > self._samples
        ):
            self._drop()

    def acknowledge(self, received: int) -> None:
        """The client has so many messages of the session.

        Raises:
            BadInput: there have not been so many.
        """
        if received > self.sent:
            raise BadInput(
                f"{received} messages acknowledged, and {self.sent} have been sent: count every ServerMessage of the "
                "session but Ready and Error"
            )
        while self.first < received:
            self._drop()

    def after(self, sequence: int) -> int:
        """The number of the message that follows the AudioBlock of a sequence number, or of the oldest that is kept."""
        for index, message in enumerate(self.messages()):
            if message.WhichOneof("message") == "audio" and message.audio.sequence >= sequence:
                return self.first + index + (message.audio.sequence == sequence)
        return self.sent if self._messages else self.first

    def messages(self) -> list[Any]:
        """Those that are kept, oldest first."""
        return [message for message, _, _ in self._messages]

    def _drop(self) -> None:
        self._bytes -= self._messages.popleft()[1]


class Seat:
    """One session at the desk."""

    def __init__(self, session: Session, guest: Guest, outbox: Outbox, want_frames: bool, lease_seconds: float) -> None:
        """`lease_seconds`: for which it is kept once its call has broken off; 0: not at all."""
        self.session, self.guest, self.outbox = session, guest, outbox
        self.want_frames, self.lease_seconds = want_frames, lease_seconds
        self.received = 0  # messages of the client that the session has, over all calls
        self.kept = Kept(KEPT_SECONDS * session.config.sample_rate)
        self.log: SessionLog | None = None
        self.want_log = False  # the client wants its lines
        self.stopped = False  # the client has said that its transport stands still
        self.call: SessionCall | None = None  # that has it
        self.expiry: asyncio.TimerHandle | None = None  # of its lease
        self.has_place = True  # of those that the server, and the guest's key, have
        self.given_up = False  # nobody takes it up any more

    @property
    def detached(self) -> bool:
        """Whether its call has broken off, and it waits for another one."""
        return self.expiry is not None

    def resume(self, resume: pb.Resume) -> None:
        """Takes in what the client says that it has.

        Raises:
            BadInput: it cannot have so much.
        """
        exact = resume.HasField("received")
        self.kept.acknowledge(resume.received if exact else self.kept.after(resume.last_sequence))
