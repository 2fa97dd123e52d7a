"""Keys, scales, chords and metres: the little theory that the composer needs and that labels are written in."""

from __future__ import annotations

import re
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
    "hdim7": (0, 3, 6, 10),
}
_SUFFIXES = {"maj": "", "min": "m", "dim": "dim", "7": "7", "maj7": "maj7", "min7": "m7", "hdim7": "m7b5"}
_SEVENTHS = {"maj": "maj7", "min": "min7", "dim": "dim"}
_ROMAN = ("i", "ii", "iii", "iv", "v", "vi", "vii")
_NUMERAL = re.compile(r"(b?)([iv]+|[IV]+)(o|7|maj7|m7b5)?")


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
    def harte(self) -> str:
        """In the notation of chord annotations (Harte et al., ISMIR 2005), which mir_eval reads."""
        return f"{NAMES[self.root]}:{self.quality}"

    @property
    def index(self) -> int:
        """A number for labels: root + 12 * quality, in the order of QUALITIES; 84 chords in all."""
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

    def numeral(self, text: str) -> Chord:
        """The chord of a Roman numeral on this key's own scale: "ii7", "V", "viio", "iim7b5", "bVII", "Imaj7".

        Small letters are minor, a 7 after capitals is a dominant seventh.

        Raises:
            ValueError: the text is no numeral.
        """
        match = _NUMERAL.fullmatch(text)
        if match is None or match[2].lower() not in _ROMAN:
            raise ValueError(f"{text!r} is no chord: write a Roman numeral, for example ii7, V, bVII, Imaj7 or viio")
        flat, roman, suffix = match.groups()
        root = (self.pitch_classes[_ROMAN.index(roman.lower())] - len(flat)) % 12
        major = roman.isupper()
        qualities = {None: "maj" if major else "min", "7": "7" if major else "min7", "o": "dim", "m7b5": "hdim7"}
        return Chord(root, qualities.get(suffix, "maj7"))

    def with_seventh(self, chord: Chord) -> Chord:
        """A triad with the seventh that the scale has above its root; diminished and other chords as they are."""
        seventh = next((step for step in (10, 11) if (chord.root + step) % 12 in self.pitch_classes), 10)
        qualities = {("maj", 10): "7", ("maj", 11): "maj7", ("min", 10): "min7"}
        return Chord(chord.root, qualities.get((chord.quality, seventh), chord.quality))

    def scale_over(self, chord: Chord) -> tuple[int, ...]:
        """The pitch classes that fit over a chord: the scale, bent where the chord is.

        A raised third, as the leading note in minor, takes the place of the note below it; a lowered root, third, fifth
        or seventh, as in a blues, that of the note above it.
        """
        bent = {}
        for pitch in chord.pitch_classes:
            if pitch not in self.pitch_classes:
                lowered = (pitch - chord.root) % 12 in (0, 3, 6, 10)
                bent[(pitch + 1 if lowered else pitch - 1) % 12] = pitch
        return tuple(bent.get(pitch, pitch) for pitch in self.pitch_classes)


@dataclass(frozen=True)
class Metre:
    """A time signature. Beats are quarter notes throughout; the pulse is what feet tap."""

    numerator: int
    denominator: int = 4

    @property
    def beats_per_bar(self) -> int:
        """Quarter notes."""
        return 4 * self.numerator // self.denominator

    @property
    def pulse(self) -> float:
        """Quarter notes from one tap to the next."""
        return 1.5 if self.denominator == 8 else 1.0

    @property
    def strong(self) -> tuple[float, ...]:
        """Quarter notes of the bar on which melodies keep to the chord."""
        return {(4, 4): (0, 2), (3, 4): (0,), (5, 4): (0, 3), (6, 8): (0, 1.5), (12, 8): (0, 3)}[
            self.numerator, self.denominator
        ]

    @property
    def name(self) -> str:
        return f"{self.numerator}/{self.denominator}"


def pitches_in(pitch_classes: tuple[int, ...], low: int, high: int) -> list[int]:
    """All MIDI pitches from `low` to `high`, both included, whose pitch class is given."""
    return [pitch for pitch in range(low, high + 1) if pitch % 12 in pitch_classes]
