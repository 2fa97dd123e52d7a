"""What a session has to say to its server: in order, over as many calls as it takes, within bounds."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

from backline_protos.v1 import backline_pb2 as pb

Entry = tuple[pb.ClientMessage, int]  # with its samples, where it is audio

KEPT_MESSAGES = 65_536  # that a call has taken: of a session that sends little audio, or none


class Upstream:
    """Any thread puts messages in; one call at a time takes them out.

    What a call has taken is kept, since a cut may have swallowed it; the next call goes on from where the server says.
    Of audio a few seconds are kept: what is dropped beyond that is the oldest, and what no call has taken is counted.
    """

    def __init__(self, kept_samples: int) -> None:
        """`kept_samples` of audio, per channel, may be kept or wait; 0: nothing is kept, and everything may wait."""
        self.dropped_samples = 0  # that no call has taken
        self._kept_samples = kept_samples
        self._changed = threading.Condition()  # of all that follows
        self._sent: deque[Entry] = deque()  # that a call has taken
        self._first = 0  # the number, as the server counts, of the oldest of them
        self._waiting: deque[Entry] = deque()
        self._samples = 0  # of both
        self._call = 0  # that takes them
        self._open = False  # and knows from where on
        self._complete = False  # nothing more is said
        self._unwanted = False  # the session of the call at hand is not gone on with
        self._ack: int | None = None

    def put(self, message: pb.ClientMessage, samples: int = 0) -> None:
        """The next message; `samples` of audio are in it."""
        with self._changed:
            self._waiting.append((message, samples))
            self._samples += samples
            if self._kept_samples:
                self._drop_oldest()
            self._changed.notify_all()

    def acknowledge(self, received: int) -> None:
        """The session has got so many messages."""
        with self._changed:
            self._ack = received
            self._changed.notify_all()

    def await_news(self, seconds: float) -> bool:
        """Whether something is there to say, or is put in within so many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(self._waiting), seconds)

    def complete(self) -> None:
        """Nothing more is put in: the call's half is closed once everything has been taken."""
        with self._changed:
            self._complete = True
            self._changed.notify_all()

    def discard(self) -> None:
        """Only the end is said, and nothing that waits."""
        with self._changed:
            self._waiting = deque([(_discard(), 0)])
            self._complete = True
            self._changed.notify_all()

    def give_up(self) -> None:
        """The call at hand says the end of its session; what waits is for another one."""
        with self._changed:
            self._unwanted = True
            self._changed.notify_all()

    def leave(self) -> None:
        """No call takes anything any more."""
        with self._changed:
            self._call += 1
            self._changed.notify_all()

    def requests(self, first: pb.ClientMessage) -> Iterator[pb.ClientMessage]:
        """What one call sends: `first`, and once it is known from where on, the rest. It ends with the next call."""
        with self._changed:
            self._call += 1
            self._open, self._unwanted, self._ack = False, False, None
            self._changed.notify_all()
            return self._requests(first, self._call)

    def begin(self) -> None:
        """The call at hand has opened the session: it gets everything."""
        with self._changed:
            self._open = True
            self._changed.notify_all()

    def go_on(self, received: int, skip_to: int | None = None) -> None:
        """The server has so many messages: the call at hand gets what follows on them, or of audio only what lies
        beyond position `skip_to`, with which another take begins.
        """
        with self._changed:
            for _ in range(min(max(0, received - self._first), len(self._sent))):
                self._samples -= self._sent.popleft()[1]
            self._waiting.extendleft(reversed(self._sent))
            self._sent.clear()
            self._first = received
            if skip_to is not None:
                self._skip(skip_to)
                take = pb.Take(position=skip_to, skipped=True)
                self._waiting.appendleft((pb.ClientMessage(take=take), 0))
            self._open = True
            self._changed.notify_all()

    def start_over(self, state: list[pb.ClientMessage], skip_before: int) -> None:
        """Another session has been opened: the call at hand gets `state`, and what no call has taken yet, but audio
        that ends at `skip_before` or earlier.
        """
        with self._changed:
            self._samples -= sum(samples for _, samples in self._sent)
            self._sent.clear()
            self._first = 0
            self._skip(skip_before)
            self._waiting.extendleft((message, 0) for message in reversed(state))
            self._open = True
            self._changed.notify_all()

    def _requests(self, first: pb.ClientMessage, call: int) -> Iterator[pb.ClientMessage]:
        yield first
        while (message := self._next(call)) is not None:
            yield message

    def _next(self, call: int) -> pb.ClientMessage | None:
        with self._changed:
            while self._call == call:
                if self._unwanted:
                    self._unwanted = False
                    return _discard()
                if self._open and self._ack is not None:
                    received, self._ack = self._ack, None
                    return pb.ClientMessage(ack=pb.Ack(received=received))
                if self._open and self._waiting:
                    message, samples = self._waiting.popleft()
                    if self._kept_samples:
                        self._sent.append((message, samples))
                    else:
                        self._samples -= samples
                    return message
                if self._open and self._complete:
                    return None
                self._changed.wait()
            return None

    def _skip(self, before: int) -> None:
        """Drops audio that waits and lies before a position."""
        kept: deque[Entry] = deque()
        for message, samples in self._waiting:
            if samples and message.audio.position + samples <= before:
                self._samples -= samples
                self.dropped_samples += samples
            else:
                kept.append((message, samples))
        self._waiting = kept

    def _drop_oldest(self) -> None:
        while self._sent and (self._samples > self._kept_samples or len(self._sent) > KEPT_MESSAGES):
            self._samples -= self._sent.popleft()[1]
            self._first += 1
        while self._samples > self._kept_samples:
            oldest = next(index for index, (_, samples) in enumerate(self._waiting) if samples)
            samples = self._waiting[oldest][1]
            del self._waiting[oldest]
            self._samples -= samples
            self.dropped_samples += samples


def _discard() -> pb.ClientMessage:
    return pb.ClientMessage(close=pb.Close(discard=True))
