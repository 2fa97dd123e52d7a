"""Whoever sends: how much of it is heard, and who is told what, until when."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Protocol

from backline.doors.packets import Value
from backline.engine.clock import Clock

MESSAGES_PER_SECOND = 1_000.0  # of one sender; a fader that is moved sends a tenth of that
BURST = 1_000.0  # that one may send at once
EVERYBODY = 4.0  # times as much is heard of all senders together: addresses can be invented
SENDERS = 256  # that are told apart
BYTES_A_MESSAGE = 256.0  # a longer one counts as several
LEASE_SECONDS = 10.0  # after which whoever has not renewed it is told nothing more
SUBSCRIBERS = 64
PATTERNS = 32  # of one subscriber
LISTENED = 1_024  # addresses that one may name, beside its patterns


class Peer(Protocol):
    """Somebody who sends, and can be answered."""

    @property
    def key(self) -> Hashable:
        """Tells peers apart: the address and port that they really send from."""
        ...

    def send(self, packet: bytes) -> bool:
        """Sends it, or drops it where too much waits already; whether it was sent. Never waits."""
        ...


class Allowance:
    """A bucket that fills steadily, of which every message takes some."""

    def __init__(self, rate: float, burst: float, clock: Clock) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._left, self._at = burst, clock()

    def take(self, amount: float) -> bool:
        """Whether there is so much; then it is taken."""
        now = self._clock()
        self._left, self._at = min(self._burst, self._left + (now - self._at) * self._rate), now
        if self._left < amount:
            return False
        self._left -= amount
        return True


class Allowances:
    """One for each sender, of the newest, and one for all of them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._all = Allowance(EVERYBODY * MESSAGES_PER_SECOND, EVERYBODY * BURST, clock)
        self._each: OrderedDict[Hashable, Allowance] = OrderedDict()

    def take(self, key: Hashable, amount: float) -> bool:
        """Whether the sender may be heard."""
        own = self._each.setdefault(key, Allowance(MESSAGES_PER_SECOND, BURST, self._clock))
        self._each.move_to_end(key)
        while len(self._each) > SENDERS:
            self._each.popitem(last=False)
        return own.take(amount) and self._all.take(amount)


@dataclass
class Subscriber:
    """Somebody who is told what changes."""

    peer: Peer
    expires: float  # by the clock
    patterns: dict[str, float] = field(default_factory=dict)  # and the seconds between two words about one of each
    listened: set[str] = field(default_factory=set)  # addresses, told at every look, as long as the peer is there
    intervals: dict[str, float | None] = field(default_factory=dict)  # by address: of its patterns, None: of none
    told: dict[str, tuple[float, tuple[Value, ...]]] = field(default_factory=dict)  # by address: when, and what

    def forget(self, prefix: str) -> None:
        """What has been told of the addresses that begin so."""
        self.told = {address: told for address, told in self.told.items() if not address.startswith(prefix)}
        self.intervals = {address: each for address, each in self.intervals.items() if not address.startswith(prefix)}
