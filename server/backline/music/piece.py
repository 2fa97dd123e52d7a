"""A composed piece as data: who plays what when, over which chords. Times are in beats, which are quarter notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from backline.music.theory import Chord, Key, Metre
from backline.music.world import Band, Voice


@dataclass(frozen=True)
class Note:
    """One note of a part."""

    start: float  # beats
    length: float  # beats
    pitch: int  # MIDI
    velocity: int  # 1..127
    syllable: str = ""  # what a singer sings on it: consonant and vowel; empty on a slur, and for instruments


@dataclass(frozen=True)
class ChordSpan:
    """A chord and how long it lasts."""

    start: float  # beats
    length: float  # beats
    chord: Chord


@dataclass(frozen=True)
class Section:
    """A stretch of bars that belong together."""

    name: str
    first_bar: int
    bars: int


@dataclass(frozen=True)
class Piece:
    """A whole piece. `parts` are the instruments, by the names of world.PARTS; the melody is the singer's."""

    seed: int
    key: Key
    tempo: float  # beats per minute
    metre: Metre
    bars: int
    band: Band
    voice: Voice
    sections: tuple[Section, ...]
    chords: tuple[ChordSpan, ...]
    melody: tuple[Note, ...]
    parts: dict[str, tuple[Note, ...]]
    onset_grid: Fraction | None = None  # seconds; as in world.World
    style: str = "plain"
    tune: str = ""  # whose melody it is, if it is an old one: its name and where it stands

    @property
    def beats_per_bar(self) -> int:
        return self.metre.beats_per_bar

    @property
    def beats(self) -> int:
        return self.bars * self.beats_per_bar

    @property
    def seconds_per_beat(self) -> float:
        return 60.0 / self.tempo

    @property
    def seconds(self) -> float:
        return self.beats * self.seconds_per_beat

    def samples(self, sample_rate: int) -> int:
        """How long the piece is, as audio."""
        return round(self.seconds * sample_rate)

    def beat_at(self, frames: int, frame_rate: float) -> NDArray[np.float64]:
        """Position in beats [frame] at the centre of each frame."""
        return (np.arange(frames, dtype=np.float64) + 0.5) / (frame_rate * self.seconds_per_beat)

    def chord_at(self, frames: int, frame_rate: float) -> NDArray[np.int64]:
        """Chord.index [frame] at the centre of each frame; the last chord lasts on."""
        starts = np.array([span.start for span in self.chords])
        indices = np.array([span.chord.index for span in self.chords])
        return indices[np.searchsorted(starts, self.beat_at(frames, frame_rate), side="right") - 1]


def chord_under(chords: Sequence[ChordSpan], beat: float) -> Chord:
    """The chord that sounds at a beat."""
    return next(span.chord for span in reversed(chords) if span.start <= beat)
