"""MIDI clock: where a song is, from 24 ticks a quarter note that come early and late, and from start, stop and pointer.

The tempo is the slope of the line through the ticks of the last four beats, and the beat's phase lies on it, so that
what one tick is late by moves neither. Ticks that stay off the line are another tempo, or the clock has been set anew:
then it begins with them.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from backline.cli.beat import Beat

TICKS = 24  # a quarter note
POINTER_TICKS = 6  # a unit of the song position pointer, a sixteenth note
TICK, SONG_POSITION, START, CONTINUE, STOP = 0xF8, 0xF2, 0xFA, 0xFB, 0xFC

WINDOW = 4 * TICKS  # ticks that the line goes through
FEWEST = 6  # that make a line; and that, one after the other, are no chance
SURE = 0.002  # of the period: standard error with which a line is taken by itself
UNLIKELY = 4.0  # standard errors, beyond which two lines are not of one tempo
PASSES = 4  # in which outliers are left out, the farthest first
OUTLIER = 3.0  # standard deviations of what the ticks are off
LEAST_SPREAD = 0.0003  # seconds; six ticks may lie in line by chance
LEAST_STEP = 0.002  # seconds off the line, that may be a new tempo
WHOLE = 0.25  # of a tick, within which ticks count as late by whole ones
LOSS_SECONDS = (
    10.0  # after which messages that were lost have left their gap: an inbox holds four seconds of a full cable
)
SILENCE_SECONDS = 0.5  # without a tick: the clock has been away
SLOWEST, FASTEST = 5.0, 999.0  # quarter notes per minute


class MidiClock:
    """One sender's clock. One thread."""

    def __init__(self) -> None:
        self.begins = False  # with the next tick, at the pointer
        self.lost_place = False  # it ticks, and has never said from where
        self._ticks: deque[tuple[int, float]] = deque(maxlen=WINDOW)  # number, and monotonic seconds
        self._number = -1  # of the newest tick
        self._off: deque[float] = deque(maxlen=FEWEST)  # seconds by which the newest ticks came after the line
        self._line: tuple[float, float] | None = None  # seconds of tick 0, and of a tick
        self._spread = LEAST_SPREAD  # standard deviation of the ticks around it, seconds
        self._origin: int | None = None  # number of the tick with which the song begins; None: nothing was started yet
        self._pointer = 0  # ticks from the song's start, at which it stands or goes on
        self._playing = False
        self._lost = 0  # messages of its port, as far as it has been told
        self._may_lack = 0  # ticks, that may be among those: the next step may be theirs
        self._lost_at = -LOSS_SECONDS  # the moment of the message with which that was known

    def hear(self, message: bytes, seconds: float, lost: int = 0) -> None:
        """A system message, and the monotonic moment at which it came; what is no clock's is passed over.

        Args:
            lost: messages of its port so far that found no room, any of which may have been ticks. Where none is known
                to be lost each tick counts: a sender that comes late has stalled.
        """
        if lost > self._lost:
            self._may_lack, self._lost, self._lost_at = self._may_lack + lost - self._lost, lost, seconds
        kind = message[0]
        if kind == TICK:
            self._tick(seconds)
        elif kind == START:
            self._pointer, self.begins = 0, True
        elif kind == CONTINUE:
            self.begins = True
        elif kind == STOP:
            if self._playing and self._origin is not None:
                self._pointer = self._number + 1 - self._origin
            self.begins = self._playing = False
        elif kind == SONG_POSITION and len(message) == 3:
            self._pointer = (message[1] | message[2] << 7) * POINTER_TICKS
            self.begins |= self._playing

    def silent_since(self, seconds: float) -> bool:
        """Whether it plays, as far as it has said, and no tick has come for a while."""
        return self._playing and seconds - self._ticks[-1][1] > SILENCE_SECONDS

    @property
    def beat(self) -> Beat | None:
        """Where the song is; None: not known yet, or never started."""
        if self._line is None or self._origin is None:
            return None
        first, period = self._line
        tempo = 60.0 / (TICKS * period) if period > 0 else math.inf
        if not SLOWEST <= tempo <= FASTEST:
            return None
        at = self._number - self._origin if self._playing else self._pointer
        return Beat(first + self._number * period, at / TICKS, tempo, self._playing)

    def _tick(self, seconds: float) -> None:
        away = bool(self._ticks) and seconds - self._ticks[-1][1] > SILENCE_SECONDS
        if away:
            self._come_back(seconds)
        if self.begins:
            self._set_anew(seconds)
        self._number += 1
        if self.begins:
            self._origin = self._number - self._pointer
            self.begins, self._playing = False, True
        self._ticks.append((self._number, seconds))
        if self._line is not None:
            first, period = self._line
            self._off.append(seconds - first - self._number * period)
            if self._has_stepped():
                self._begin_anew(period)
        self._fit()
        self.lost_place = self._origin is None and self._number >= 2 * WINDOW

    def _set_anew(self, seconds: float) -> None:
        """The song begins with the next tick, which senders let wait: of what was before only the tempo counts."""
        self._ticks.clear()
        self._off.clear()
        self._may_lack = 0
        if self._line is not None:
            period = self._line[1]
            self._line = seconds - (self._number + 1) * period, period

    def _come_back(self, seconds: float) -> None:
        """The sender has been away. Where it plays, it has gone on meanwhile; else it begins with the next tick."""
        if self._line is not None and self._playing and not self.begins:
            first, period = self._line
            self._number = max(self._number, round((seconds - first) / period) - 1)
        else:
            self._line = None
        self._ticks.clear()
        self._off.clear()

    def _has_stepped(self) -> bool:
        """Whether the newest ticks all lie off the line, to one side, and do not come back to it, as those do that were
        held up somewhere and come all at once.
        """
        off = np.array(self._off)
        least = max(LEAST_STEP, UNLIKELY * self._spread)
        aside = len(off) == FEWEST and bool((off > least).all() or (off < -least).all())
        return aside and abs(off[-1]) > abs(off[0]) - least

    def _begin_anew(self, period: float) -> None:
        """With the newest ticks. Where they are late by whole ticks that may be lacking, so many have been lost."""
        ticks_off = np.array(self._off) / period
        lost = max(0, round(float(np.median(ticks_off))))
        known = self._may_lack if self._ticks[-1][1] - self._lost_at < LOSS_SECONDS else 0
        self._may_lack = 0
        if lost > known or abs(float(np.median(ticks_off)) - lost) > WHOLE or np.ptp(ticks_off) > 3 * WHOLE:
            lost = 0
        newest = [(number + lost, seconds) for number, seconds in self._ticks][-FEWEST:]
        kept = list(self._ticks)[:-FEWEST] if lost else []
        self._ticks.clear()
        self._ticks.extend([*kept, *newest])
        self._number += lost
        self._off.clear()

    def _fit(self) -> None:
        """The line through the ticks: by itself where it is sure enough, else with the period known before."""
        if len(self._ticks) < FEWEST and self._line is None:
            return
        numbers, seconds = np.array(self._ticks).T
        period = None if self._line is None else self._line[1]
        kept = np.ones(len(numbers), bool)
        if len(numbers) >= FEWEST:
            for _ in range(PASSES):
                own, off, spread = _regression(numbers, seconds, kept)
                kept = np.abs(off - np.median(off[kept])) <= OUTLIER * spread
            error = spread * math.sqrt(12.0 / kept.sum() ** 3)
            if error < SURE * own or (period is not None and abs(own - period) > UNLIKELY * error):
                period, self._spread = own, spread
        if period is not None:
            self._line = float((seconds[kept] - period * numbers[kept]).mean()), period


def _regression(numbers: np.ndarray, seconds: np.ndarray, kept: np.ndarray) -> tuple[float, np.ndarray, float]:
    """The period by least squares over the ticks that are kept, how far off all of them are, and their spread."""
    x, y = numbers - numbers[kept].mean(), seconds - seconds[kept].mean()
    period = float(x[kept] @ y[kept] / (x[kept] @ x[kept]))
    off = y - period * x
    deviation = 1.4826 * np.median(np.abs(off - np.median(off)))
    return period, off, max(LEAST_SPREAD, float(deviation))
