"""Keys, scales and chords: the little theory that the composer needs and that labels are written in."""

from __future__ import annotations

from dataclasses import dataclass

NAMES = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
QUALITIES = {
    "maj": (0, 4, 7),
    "min": (0, 3, 7),
    "dim": (0, 3, 6),
    "7": (0, 4, 7, 10),
    "maj7": (0, 4, 7, 11),
    "min7": (0, 3, 7, 10),
}
_SUFFIXES = {"maj": "", "min": "m", "dim": "dim", "7": "7", "maj7": "maj7", "min7": "m7"}
_SEVENTHS = {"maj": "maj7", "min": "min7", "dim": "dim"}


@dataclass(frozen=True)
class Chord:
    """A root and a quality."""

    root: int  # pitch class, C is 0
    quality: str  # one of QUALITIES

    @property
    def pitch_classes(self) -> tuple[int, ...]:
        """Root first, then upwards in thirds."""
        return tuple((self.root + interval) % 12 for interval in QUALITIES[self.quality])

    @property
    def name(self) -> str:
        return NAMES[self.root] + _SUFFIXES[self.quality]

    @property
    def index(self) -> int:
        """A number for labels: root + 12 * quality, in the order of QUALITIES; 72 chords in all."""
        return self.root + 12 * list(QUALITIES).index(self.quality)


@dataclass(frozen=True)
class Key:
    """A tonic and a mode."""

    tonic: int  # pitch class, C is 0
    mode: str  # "major" or "minor"

    @property
    def name(self) -> str:
        return f"{NAMES[self.tonic]} {self.mode}"

    @property
    def pitch_classes(self) -> tuple[int, ...]:
        """The scale from the tonic upwards; minor is natural minor."""
        return tuple((self.tonic + step) % 12 for step in SCALES[self.mode])

    def chord(self, degree: int, seventh: bool = False) -> Chord:
        """The chord on a degree of the scale, counted from 0.

        The fifth degree of minor is major, as cadences want it, and a seventh on any fifth degree is dominant.
        """
        scale = self.pitch_classes
        root = scale[degree % 7]
        third = (scale[(degree + 2) % 7] - root) % 12
        fifth = (scale[(degree + 4) % 7] - root) % 12
        quality = {(4, 7): "maj", (3, 7): "min", (3, 6): "dim"}[third, fifth]
        if degree % 7 == 4:
            return Chord(root, "7" if seventh else "maj")
        return Chord(root, _SEVENTHS[quality] if seventh else quality)

    def scale_over(self, chord: Chord) -> tuple[int, ...]:
        """The pitch classes that fit over a chord: the scale, bent where the chord is (the leading note in minor)."""
        foreign = [pitch for pitch in chord.pitch_classes if pitch not in self.pitch_classes]
        bent = {(pitch - 1) % 12: pitch for pitch in foreign}
        return tuple(bent.get(pitch, pitch) for pitch in self.pitch_classes)


def pitches_in(pitch_classes: tuple[int, ...], low: int, high: int) -> list[int]:
    """All MIDI pitches from `low` to `high`, both included, whose pitch class is given."""
    return [pitch for pitch in range(low, high + 1) if pitch % 12 in pitch_classes]
