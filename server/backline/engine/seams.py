"""Where one take ends and another begins: from transports and from what is asked for, by positions alone."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from dataclasses import dataclass
from fractions import Fraction

from backline.engine.errors import Refused
from backline.engine.limits import PENDING_JUMPS
from backline.models.stream import Transport

JUMP_QUARTERS = 0.1  # by which a song position must be another one than expected: less is a host that corrects its beat


@dataclass(frozen=True)
class Seam:
    """The place of the timeline at which a take begins."""

    position: int
    heard_from: int | None = None  # where it takes over from the one before, where that is told: not before `position`
    skipped: bool = False  # what the take before has not played of it is never played: silence from `heard_from` on


class Seams:
    """What is known of the takes to come. Whoever calls holds the lock of the takes.

    A take is as long as a chunk at least: what comes sooner moves the beat, and the take goes on.
    """

    def __init__(self, rate: int, chunk_samples: Fraction, on_jump: bool) -> None:
        """`on_jump`: a start, a jump, and the end of a loop's region begin a take; else only what is asked for."""
        self._rate, self._shortest, self._on_jump = rate, math.ceil(chunk_samples), on_jump
        self._told: list[tuple[int, Transport]] = []  # by position; `at_seconds` counts from position 0
        self._asked: list[Seam] = []

    @property
    def waiting(self) -> int:
        """Seams that have been asked for and not come."""
        return len(self._asked)

    def add_transport(self, position: int, transport: Transport) -> None:
        """From `position` on, no earlier than the input's end; it replaces one that is told for the same place.

        Raises:
            Refused: too many wait already.
        """
        if not self._on_jump:
            return
        at = bisect_left(self._told, position, key=lambda told: told[0])
        if at < len(self._told) and self._told[at][0] == position:
            self._told[at] = (position, transport)
        elif len(self._told) >= PENDING_JUMPS:
            raise Refused(
                f"{len(self._told)} transports wait in this session, as many as may where each can begin a take: send "
                "each with the audio that it belongs to"
            )
        else:
            self._told.insert(at, (position, transport))

    def add(self, seam: Seam) -> None:
        """A take is asked for, no earlier than the input's end."""
        insort(self._asked, seam, key=lambda asked: asked.position)

    def after(self, origin: int, end: int) -> Seam | None:
        """The first one that ends a take from `origin` on, where input has come up to `end`."""
        earliest = max(origin + self._shortest, end)
        at = bisect_left(self._asked, earliest, key=lambda asked: asked.position)
        asked = self._asked[at] if at < len(self._asked) else None
        found = self._by_transport(earliest)
        return min(filter(None, (asked, found)), key=lambda seam: seam.position, default=None)

    def forget(self, end: int) -> None:
        """Input has come up to `end`: of what lies before, only the newest transport is needed."""
        del self._told[: max(0, bisect_left(self._told, end, key=lambda told: told[0]) - 1)]
        del self._asked[: bisect_left(self._asked, end, key=lambda asked: asked.position)]

    def _by_transport(self, earliest: int) -> Seam | None:
        before: Transport | None = None
        for index, (position, transport) in enumerate(self._told):
            if position >= earliest and jumps(before, transport):
                return Seam(position)
            ends = loop_end(transport, max(position, earliest), self._rate)
            following = self._told[index + 1] if index + 1 < len(self._told) else None
            if ends is not None and (
                following is None or ends < following[0] or (ends == following[0] and following[1].playing)
            ):
                return Seam(ends)
            before = transport
        return None


def jumps(before: Transport | None, transport: Transport) -> bool:
    """Whether the song starts with `transport`, or is elsewhere than the one before has it."""
    if not transport.playing or before is None or not before.playing:
        return transport.playing
    return abs(before.song_position_at(transport.at_seconds) - transport.song_position) > JUMP_QUARTERS


def loop_end(transport: Transport, earliest: int, rate: int) -> int | None:
    """The first position from `earliest` on at which the song has come to its loop's end and is at the start again."""
    if transport.loop is None or not transport.playing or transport.song_position >= transport.loop[1]:
        return None
    start, end = transport.loop
    first = transport.at_seconds * rate + (end - transport.song_position) * 60.0 / transport.tempo * rate
    length = (end - start) * 60.0 / transport.tempo * rate
    passes = max(0, math.ceil((earliest - first) / length - 1e-9))
    return max(earliest, math.ceil(round(first + passes * length, 6)))
