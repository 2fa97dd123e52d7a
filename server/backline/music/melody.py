"""Melodies to sing over given chords: rhythm, pitch and syllables; and old tunes, to which chords are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.random import Generator

from backline.music.piece import ChordSpan, Note, chord_under
from backline.music.theory import Key, Metre, pitches_in
from backline.music.tunes import Tune
from backline.music.world import Voice

PHRASE_BARS = 2
BREATH = 0.5  # beats, after a phrase of a tune

CONSONANTS = ("l", "n", "m", "d", "b", "s", "h", "w", "y", "t", "")
CONSONANT_SHARES = np.array([0.17, 0.15, 0.12, 0.12, 0.09, 0.09, 0.08, 0.07, 0.05, 0.04, 0.02])
VOWELS = ("a", "e", "i", "o", "u")
VOWEL_SHARES = np.array([0.3, 0.2, 0.14, 0.2, 0.16])


def sung_melody(
    rng: Generator,
    key: Key,
    chords: Sequence[ChordSpan],
    voice: Voice,
    bars: int,
    metre: Metre,
    lift: int = 0,
    home: bool = True,
) -> tuple[Note, ...]:
    """Phrases of two bars, each with a rest to breathe in, rhythms as A A B A, an arch each.

    Args:
        lift: semitones by which the arches lie higher than usual, or lower.
        home: ends on the tonic, else on a note of the chord.
    """
    beats_per_bar = metre.beats_per_bar
    rhythms = {name: _rhythm(rng, metre) for name in "AB"}
    notes: list[Note] = []
    pitch = (voice.low + voice.high) // 2
    phrases = bars // PHRASE_BARS
    for phrase in range(phrases):
        name = "B" if phrase % 4 == 2 else "A"
        peak = voice.high - rng.integers(0, 4) - (0 if name == "B" else 3) + lift
        base = voice.low + rng.integers(2, 6) + lift
        start = phrase * PHRASE_BARS * beats_per_bar
        rhythm = rhythms[name]
        for index, (onset, length) in enumerate(rhythm):
            beat = start + onset
            last = index == len(rhythm) - 1
            progress = index / max(1, len(rhythm) - 1)
            arch = base + (peak - base) * np.sin(np.pi * (0.12 + 0.8 * progress))
            chord = chord_under(chords, beat)
            strong = onset % beats_per_bar in metre.strong or length >= 1.5 or last
            if home and last and phrase == phrases - 1:
                classes: tuple[int, ...] = (key.tonic,)
            elif strong:
                classes = chord.pitch_classes[:3]
            else:
                classes = key.scale_over(chord)
            pitch = _next_pitch(rng, pitches_in(classes, voice.low, voice.high), pitch, arch, strong)
            slur = index > 0 and length <= 0.5 and abs(notes[-1].pitch - pitch) <= 2 and rng.random() < 0.25
            velocity = int(np.clip(84 + 10 * (onset % beats_per_bar == 0) + rng.normal(0, 5), 60, 115))
            notes.append(Note(beat, length, pitch, velocity, "" if slur else syllable(rng)))
    return tuple(notes)


def sung_tune(rng: Generator, tune: Tune) -> tuple[Note, ...]:
    """A tune with syllables. At the end of each phrase of two bars the singer breathes, for which a note is cut short,
    or left out where it is short already.
    """
    per_bar = tune.metre.beats_per_bar
    notes: list[Note] = []
    for phrase in range(-(-tune.bars // PHRASE_BARS)):
        begin, end = phrase * PHRASE_BARS * per_bar, (phrase + 1) * PHRASE_BARS * per_bar
        own = [tone for tone in tune.melody if begin <= tone.start < end]
        if own and own[-1].start + own[-1].length > end - BREATH:
            length = end - BREATH - own[-1].start
            own[-1:] = [replace(own[-1], length=length)] if length >= BREATH else []
        for tone in own:
            slurred = bool(notes) and tone.length <= 0.5 and abs(notes[-1].pitch - tone.pitch) <= 2
            slur = slurred and notes[-1].start + notes[-1].length >= tone.start - 1e-6 and rng.random() < 0.25
            velocity = int(np.clip(84 + 10 * (tone.start % per_bar == 0) + rng.normal(0, 5), 60, 115))
            notes.append(Note(tone.start, tone.length, tone.pitch, velocity, "" if slur else syllable(rng)))
    return tuple(notes)


def _rhythm(rng: Generator, metre: Metre) -> list[tuple[float, float]]:
    """(onset, length) in beats of one phrase, on the eighths; notes are joined, the phrase ends in a rest."""
    bar, pulse = 2 * metre.beats_per_bar, int(2 * metre.pulse)  # eighths
    eighths = PHRASE_BARS * bar
    first = int(rng.choice([0, 0, 0, 1, 2]))
    rest = int(rng.choice([2, 3, 4]))  # eighths of silence at the end
    end = eighths - rest
    density = rng.uniform(0.7, 1.1)
    onsets = [first]
    for eighth in range(first + 1, end - 1):
        weight = 0.85 if eighth % bar == 0 else 0.7 if eighth % pulse == 0 else 0.42
        if rng.random() < density * weight:
            onsets.append(eighth)
    bounds = [*onsets, end]
    return [(onset / 2, (following - onset) / 2) for onset, following in zip(onsets, bounds[1:], strict=True)]


def _next_pitch(rng: Generator, candidates: list[int], previous: int, arch: float, strong: bool) -> int:
    """Draws near the note before and near the arch; weak notes move by step."""
    pitches = np.array(candidates)
    leap = np.abs(pitches - previous)
    cost = 0.35 * np.maximum(0, leap - 2) + 0.16 * np.abs(pitches - arch) + 0.9 * (leap == 0)
    if not strong:
        cost = cost + 1.2 * np.maximum(0, leap - 2)
    shares = np.exp(-(cost - cost.min()))
    return int(rng.choice(pitches, p=shares / shares.sum()))


def syllable(rng: Generator) -> str:
    """What is sung on one note."""
    consonant = CONSONANTS[rng.choice(len(CONSONANTS), p=CONSONANT_SHARES)]
    return consonant + VOWELS[rng.choice(len(VOWELS), p=VOWEL_SHARES)]
