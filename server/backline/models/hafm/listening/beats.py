"""Hears beats and bars from a voice's tokens, as they come: for hosts that tell no transport.

Songs are sung in phrases of two bars of four: notes begin on eighths, more of them and with wider leaps on beats, and
a phrase ends in a rest. A table says how much likelier every kind of frame is at each position of such a phrase than
anywhere. Every tempo and position is a hypothesis, which adds up what the table says to it as it moves on, and forgets
slowly; that there is no beat is one more, to which the table says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from backline.models.hafm.score import VOICE_PROTOTYPES, Tokens, pitch_and_colour
from backline.models.stream import Transport

FRAME_RATE = 50
PHRASE_BARS, PHRASE_BEATS, PHRASE_EIGHTHS = 2, 8, 16
POSITIONS = 12 * PHRASE_EIGHTHS  # of a phrase: 25 ms each at 100 beats a minute
TEMPI = np.exp(np.arange(np.log(76.0), np.log(132.0), 0.005))  # none is another's double: no octave to mistake

# Every frame is of two kinds: its colour, and whether its pitch class is new; and what has become of the note.
COLOURS = 2 * (VOICE_PROTOTYPES + 1)
HELD, RESTED, ENTERED, STEP, THIRD, LEAP, SILENT = range(COLOURS, COLOURS + 7)
KINDS = COLOURS + 7
LONGEST_REST = 100  # frames of silence from which on it says nothing: the singer pauses
STEADY = 4  # frames of one pitch class that make a note: glides pass through others
# Neighbouring frames, and phrases of the same rhythm, say the same: what they say counts in part.
COLOUR_SHARE, NOTE_SHARE = 0.15, 0.7

MEMORY_FRAMES = 800  # 16 s: after that many frames what was heard counts 1/e
MEMORY_FRAMES_BEFORE = 25  # before the first note, which may be a while
MEMORY_FRAMES_PAUSED = 400
NO_BEAT = 8.0  # nats by which that there is none is likelier at first than any one hypothesis is
NEAR = 1 / (4 * PHRASE_EIGHTHS)  # phrases: the same eighth
SURE, LOST = 0.8, 0.3  # share of the belief that agrees on the eighths: from where the band follows, and until where
LEAD = 4.0  # nats by which another place in the phrase must be likelier before the band goes there
SLEW = 0.03  # of the tempo: as much faster or slower the band plays to be in time

Floats = NDArray[np.float64]
SILENCE_PITCH = 12


class NoteListener:
    """What kinds of frames a voice sings, by its tokens so far."""

    def __init__(self) -> None:
        self._newest, self._lasted = SILENCE_PITCH, STEADY  # pitch class, and frames for which it has
        self._note = self._sung = SILENCE_PITCH  # the newest that was steady; and the newest but silence

    @property
    def heard_any(self) -> bool:
        """Whether there was a note yet."""
        return self._sung != SILENCE_PITCH

    @property
    def paused(self) -> bool:
        """Whether it has been silent for longer than between phrases, after a note."""
        return self.heard_any and self._newest == SILENCE_PITCH and self._lasted > LONGEST_REST

    def kinds(self, tokens: Tokens) -> Iterator[tuple[int, int]]:
        """Both kinds of each of the tokens [1, frame] in turn."""
        for pitch, colour in pitch_and_colour(tokens).T.tolist():
            new = pitch != self._newest
            self._newest, self._lasted = pitch, 1 if new else self._lasted + 1
            yield 2 * colour + new, self._note_kind()

    def _note_kind(self) -> int:
        if self._lasted != STEADY or self._newest == self._note:
            return SILENT if self._note == SILENCE_PITCH else HELD
        before, self._note = self._note, self._newest
        if self._note == SILENCE_PITCH:
            return RESTED
        up = (self._note - self._sung) % 12
        self._sung = self._note
        if before == SILENCE_PITCH:
            return ENTERED
        return STEP if min(up, 12 - up) <= 2 else THIRD if min(up, 12 - up) <= 4 else LEAP


@dataclass(frozen=True)
class _Clock:
    """Where the band is at the end of a chunk."""

    at: float  # seconds
    phase: float  # phrases
    rate: float  # phrases a second


class BeatListener:
    """Where in its bar a song is, by what has been heard of it."""

    def __init__(self, table: NDArray[np.float32]) -> None:
        """
        Args:
            table: [kind, position] log likelihood, against that of the kind at any position.
        """
        shares = np.where(np.arange(KINDS) < COLOURS, COLOUR_SHARE, NOTE_SHARE)[:, None]
        self._table = np.tile(shares * table, 2)
        self._notes = NoteListener()
        self._rates = TEMPI / (60 * PHRASE_BEATS)  # phrases a second
        self._scores = np.zeros((len(TEMPI), POSITIONS))  # nats, by the position at 0 s
        self._frames = 0  # heard
        self._clock: _Clock | None = None

    def hear(self, tokens: Tokens) -> None:
        """The voice's next tokens [1, frame]."""
        for colour, note in self._notes.kinds(tokens):
            self._scores *= np.exp(-1 / self._memory_frames())
            if not self._notes.paused:
                row = self._table[colour] + self._table[note]
                now = (self._frames * (self._rates * POSITIONS / FRAME_RATE)).astype(np.int64) % POSITIONS
                self._scores += sliding_window_view(row, POSITIONS)[now]
            self._frames += 1

    def _memory_frames(self) -> int:
        if not self._notes.heard_any:
            return MEMORY_FRAMES_BEFORE
        return MEMORY_FRAMES_PAUSED if self._notes.paused else MEMORY_FRAMES

    def transport(self, begin: float, end: float) -> Transport | None:
        """What a host would tell of the chunk from `begin` to `end` seconds, by what has been heard; None while unsure.

        Chunks follow each other: from one to the next the band only hurries or waits, unless it was clearly wrong.
        """
        seconds, clock, phases = end - begin, self._clock, self._phases(end)
        if clock is not None and clock.at != begin:  # meanwhile the host has told
            clock = None
        belief = np.exp(self._scores - self._scores.max())
        if self._agreed(belief, phases) < (SURE if clock is None else LOST):
            self._clock = None
            return None
        likely = self._scores
        if clock is not None:
            near = np.abs(_around(phases - clock.phase - clock.rate * seconds)) <= NEAR
            if likely[near].max() + LEAD < likely.max():
                clock = None
            else:
                likely = np.where(near, likely, -np.inf)
        best = phases.flat[likely.argmax()]
        off = _around(phases - best)
        weights = np.where(np.abs(off) <= NEAR, belief, 0)
        weights /= weights.sum()
        phase, rate = float(best + (weights * off).sum()), float(weights.sum(axis=1) @ self._rates)
        if clock is None:
            start = phase - rate * seconds
        else:
            start = clock.phase
            behind = float(_around(phase - start - rate * seconds)) / seconds
            rate += max(-SLEW * rate, min(SLEW * rate, behind))
        self._clock = _Clock(end, start + rate * seconds, rate)
        return Transport(begin, True, rate * 60 * PHRASE_BEATS, song_position=start * PHRASE_BEATS)

    def _agreed(self, belief: Floats, phases: Floats) -> float:
        """The share of the belief, that there is no beat included, that agrees with the likeliest on the eighths."""
        if not self._notes.heard_any:
            return 0.0
        eighths = PHRASE_EIGHTHS * (phases - phases.flat[belief.argmax()])
        no_beat = belief.size * np.exp(min(100.0, NO_BEAT - self._scores.max()))
        return float(belief[np.abs(_around(eighths)) <= NEAR * PHRASE_EIGHTHS].sum() / (belief.sum() + no_beat))

    def _phases(self, at: float) -> Floats:
        """[tempo, position] of every hypothesis `at` seconds, in phrases."""
        return (np.arange(POSITIONS) + 0.5) / POSITIONS + at * self._rates[:, None]


def _around(phases: Any) -> Any:
    """Phases as differences: the nearest way round a phrase, -1/2 to 1/2."""
    return phases - np.rint(phases)
