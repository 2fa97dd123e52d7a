"""A beat from outside, by the machine's clock, and how it becomes the transport of a session, by its samples."""

from __future__ import annotations

import math
from dataclasses import dataclass

from backline_client import Transport

TOLERANCE_SECONDS = 0.003  # by which the session's beat may be off before it is told anew
AHEAD_SECONDS = 4.0  # for which what is told must hold


@dataclass(frozen=True)
class Beat:
    """A beat that goes on by itself."""

    seconds: float  # monotonic, at which the rest is true
    quarters: float  # from the start of the song
    tempo: float  # quarter notes per minute
    playing: bool = True

    def quarters_at(self, seconds: float) -> float:
        """Where in the song it is at that moment; stands still while it does not play."""
        return self.quarters + (seconds - self.seconds) * self.tempo / 60.0 * self.playing


@dataclass(frozen=True)
class Metre:
    """The signature, which neither MIDI clock nor Link tells."""

    numerator: int = 4
    denominator: int = 4

    @property
    def quarters_per_bar(self) -> float:
        return self.numerator * 4.0 / self.denominator


class ToldBeat:
    """What a session has been told of a beat, and whether there is something new to tell.

    A beat that is measured trembles, and its clock and the sound card's run apart: the session is told again when it
    would be off by more than TOLERANCE_SECONDS, now or soon, and else is left alone.
    """

    def __init__(self, rate: int, metre: Metre) -> None:
        self._rate, self._metre = rate, metre
        self._told: Transport | None = None

    def news(self, beat: Beat, position: int, seconds: float) -> Transport | None:
        """The transport at sample `position`, whose moment is `seconds`; None: the session knows."""
        quarters, bar = beat.quarters_at(seconds), self._metre.quarters_per_bar
        transport = Transport(
            beat.tempo, position, beat.playing, self._metre.numerator, self._metre.denominator, quarters,
            bar_start=math.floor(quarters / bar) * bar,
        )  # fmt: skip
        if self._told is not None and self._follows(self._told, transport):
            return None
        self._told = transport
        return transport

    def _follows(self, told: Transport, now: Transport) -> bool:
        if told.playing != now.playing:
            return False
        if not now.playing:
            return told.song_position == now.song_position
        off = [self._ahead(now, seconds) - self._ahead(told, seconds, now) for seconds in (0.0, AHEAD_SECONDS)]
        return max(map(abs, off)) * 60.0 / now.tempo <= TOLERANCE_SECONDS

    def _ahead(self, transport: Transport, seconds: float, of: Transport | None = None) -> float:
        """Where in the song `transport` puts the sample that comes so long after that `of` another one."""
        assert transport.position is not None
        since = 0 if of is None or of.position is None else of.position - transport.position
        return transport.song_position + (since / self._rate + seconds) * transport.tempo / 60.0
