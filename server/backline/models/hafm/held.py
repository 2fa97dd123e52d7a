"""Which notes a player holds on a keyboard, and which chord they are: the band plays what its leader's hands say."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from backline.models.hafm.score import TRIADS
from backline.models.stream import Notes, Parameter

NOTE_OFF, NOTE_ON, CONTROL = 0x80, 0x90, 0xB0  # kinds of MIDI messages
PEDAL, SOUND_OFF, RESET, NOTES_OFF = 64, 120, 121, 123  # controllers
TOGETHER_SECONDS = 0.1  # within which notes are struck that are one chord
OVERLAP_SECONDS = 0.5  # for which the chord before may sound on in the next one
DRUMS = 9  # the channel on which pitches are no pitches

INTERVALS = {"maj": (0, 4, 7), "min": (0, 3, 7), "dim": (0, 3, 6)}
# [chord, pitch class]: 1 where it belongs to the chord; chord: root + 12 * its place in TRIADS
TEMPLATES: NDArray[np.float64] = np.array(
    [[float((pitch - root) % 12 in INTERVALS[triad]) for pitch in range(12)] for triad in TRIADS for root in range(12)]
)
# What counts for a chord, beside a held note of it, which counts 1, and another, which counts -1.
MISSING = -0.5  # a note of it that is not held
ROOT_BELOW = 0.25  # its root is the lowest note
LIKELY = 0.1  # the voice is sure of it


class Leading(IntEnum):
    """Who says which chord the band plays."""

    HEARD = 0  # the voice, whatever is held
    NOTES = 1  # the keyboard; when it is let go of, its last chord stays
    BOTH = 2  # the keyboard as long as something is held, else the voice


CHORD_SOURCE = Parameter(
    "chords",
    Leading.BOTH,
    min(Leading),
    max(Leading),
    "",
    "what the band takes its chord from: the voice, notes that are held (MIDI), or notes while some are held",
    integer=True,
    labels=tuple(member.name.lower() for member in Leading),
)


class HeldNotes:
    """One session's keyboard, from its MIDI messages.

    What is held is taken anew with every note that is struck. Fingers leave a chord one after the other: it is held
    until the last has gone. But what is left of the chord before, played legato or under the pedal, goes by itself.
    """

    def __init__(self) -> None:
        self._times: list[float] = [float("-inf")]  # seconds of the session at which something else is held
        self._held: list[frozenset[int]] = [frozenset()]  # pitches, from each of them on
        self._last: frozenset[int] = frozenset()  # held before all of these
        self._down: set[tuple[int, int]] = set()  # channel and pitch
        self._sounding: set[tuple[int, int]] = set()  # those, and what the pedal holds
        self._struck: dict[tuple[int, int], float] = {}  # seconds at which each that sounds was
        self._newest = float("-inf")  # of them
        self._pedals: set[int] = set()  # channels on which it is down

    def hear(self, notes: Iterable[Notes], rate: int) -> None:
        """Takes in what was played since the last call; positions are samples at `rate`."""
        for some in notes:
            seconds, before = some.position / rate, set(self._sounding)
            struck = False
            for message in some.messages():
                self._take(message)
                if message[0] & 0xF0 == NOTE_ON and message[2] and message[0] & 0x0F != DRUMS:
                    struck, self._newest = True, seconds
                    self._struck[message[0] & 0x0F, message[1]] = seconds
            gone = before - self._sounding
            legato = seconds - self._newest <= OVERLAP_SECONDS and any(
                self._struck[note] < self._newest - TOGETHER_SECONDS for note in gone
            )
            if struck or legato or not self._sounding:
                self._times.append(max(self._times[-1], seconds))
                self._held.append(frozenset(pitch for _, pitch in self._sounding))
            self._struck = {note: at for note, at in self._struck.items() if note in self._sounding}

    def at(self, seconds: float, keep: bool = False) -> frozenset[int]:
        """Pitches held at a time of the session, as far as it is known now; `keep`: or the last that were."""
        index = bisect_right(self._times, seconds) - 1
        while keep and index > 0 and not self._held[index]:
            index -= 1
        return self._held[index] or (self._last if keep else frozenset())

    def forget(self, seconds: float) -> None:
        """Nobody will ask for anything before."""
        known = bisect_right(self._times, seconds) - 1
        self._last = next((held for held in reversed(self._held[:known]) if held), self._last)
        del self._times[:known], self._held[:known]

    def _take(self, message: bytes) -> None:
        kind, channel = message[0] & 0xF0, message[0] & 0x0F
        if channel == DRUMS:
            return
        if kind == NOTE_ON and message[2]:
            self._down.add((channel, message[1]))
            self._sounding.add((channel, message[1]))
        elif kind in (NOTE_ON, NOTE_OFF):
            self._down.discard((channel, message[1]))
            if channel not in self._pedals:
                self._sounding.discard((channel, message[1]))
        elif kind == CONTROL and message[1] == PEDAL and message[2] >= 64:
            self._pedals.add(channel)
        elif kind == CONTROL and message[1] in (PEDAL, SOUND_OFF, RESET, NOTES_OFF):
            self._pedals.discard(channel)
            if message[1] in (SOUND_OFF, NOTES_OFF):
                self._down = {each for each in self._down if each[0] != channel}
            self._sounding = {each for each in self._sounding if each[0] != channel or each in self._down}


def chord_of(held: frozenset[int], likely: NDArray[np.float64]) -> int:
    """The triad that held pitches are, at least one; sevenths and tensions are left out, what is missing is filled in.

    Where they leave it open, a lowest note is the root; and where that does, the chord is what the voice tells.

    Args:
        likely: [chord] probabilities by the voice; zeros where nothing was heard.
    """
    sounding = np.zeros(12)
    sounding[[pitch % 12 for pitch in held]] = 1
    inside = TEMPLATES @ sounding
    scores = inside + MISSING * (3 - inside) - (sounding.sum() - inside) + LIKELY * likely
    scores[min(held) % 12 :: 12] += ROOT_BELOW
    return int(scores.argmax())
