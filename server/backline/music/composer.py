"""Composes pieces by program: form, chords and the singer's melody; the band's parts are in backing.py.

Everything is drawn from one generator made of the seed, so a seed and a world name one piece for ever.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator

from backline.music.backing import bass_line, comping, drum_part, pad_part
from backline.music.piece import ChordSpan, Note, Piece, Section
from backline.music.theory import Chord, Key, pitches_in
from backline.music.world import NARROW, Voice, World

PHRASE_BARS = 2

# Four-bar loops, as degrees counted from 0; the drawn loop is what makes a section.
LOOPS = {
    "major": ((0, 4, 5, 3), (0, 5, 3, 4), (5, 3, 0, 4), (0, 3, 5, 4), (0, 3, 0, 4), (0, 5, 1, 4), (3, 0, 4, 5)),
    "minor": ((0, 5, 2, 6), (0, 3, 6, 2), (0, 6, 5, 4), (0, 5, 3, 4), (0, 3, 0, 4), (5, 6, 0, 0), (0, 2, 6, 3)),
}
# What may stand in the second half of a bar, by the degree of the first half.
PASSING = {0: (2, 5), 1: (4,), 2: (5, 3), 3: (1, 4), 4: (4, 6), 5: (3, 2), 6: (4, 2)}

CONSONANTS = ("l", "n", "m", "d", "b", "s", "h", "w", "y", "t", "")
CONSONANT_SHARES = np.array([0.17, 0.15, 0.12, 0.12, 0.09, 0.09, 0.08, 0.07, 0.05, 0.04, 0.02])
VOWELS = ("a", "e", "i", "o", "u")
VOWEL_SHARES = np.array([0.3, 0.2, 0.14, 0.2, 0.16])


def compose(seed: int, world: World = NARROW) -> Piece:
    """The piece of that seed in that world.

    Raises:
        ValueError: the world asks for an odd number of phrases, from which no two sections can be made.
    """
    if world.bars % (2 * PHRASE_BARS):
        raise ValueError(f"a piece of {world.bars} bars has no two halves: choose a multiple of {2 * PHRASE_BARS}")
    rng = np.random.default_rng(seed)
    mode = world.modes[rng.integers(len(world.modes))]
    relative = 0 if mode == "major" else 9
    key = Key((world.tonics[rng.integers(len(world.tonics))] + relative) % 12, mode)
    tempo = float(rng.integers(world.tempi[0], world.tempi[1] + 1))
    beats_per_bar = world.beats_per_bar[rng.integers(len(world.beats_per_bar))]
    band = world.bands[rng.integers(len(world.bands))]
    voice = world.voices[rng.integers(len(world.voices))]
    half = world.bars // 2
    sections = (Section("verse", 0, half), Section("chorus", half, half))
    chords = _chords(rng, key, sections, beats_per_bar, world.sevenths)
    parts = {
        "drums": drum_part(rng, sections, beats_per_bar, world.dynamics),
        "bass": bass_line(rng, chords, sections, beats_per_bar, world.dynamics),
        "comp": comping(rng, chords, sections, beats_per_bar, world.dynamics, world.led),
        "pad": pad_part(rng, chords, world.dynamics, world.led) if band.pad is not None else (),
    }
    melody = _melody(rng, key, chords, voice, world.bars, beats_per_bar)
    return Piece(
        seed, key, tempo, beats_per_bar, world.bars, band, voice, sections, chords, melody, parts, world.onset_grid
    )


def _chords(
    rng: Generator, key: Key, sections: Sequence[Section], beats_per_bar: int, sevenths: float
) -> tuple[ChordSpan, ...]:
    """One chord a bar, now and then two; the piece ends on its tonic."""
    loops = LOOPS[key.mode]
    last_bar = sections[-1].first_bar + sections[-1].bars - 1
    spans: list[ChordSpan] = []
    loop = loops[rng.integers(len(loops))]
    for section in sections:
        if rng.random() < 0.6:
            loop = loops[rng.integers(len(loops))]
        for bar in range(section.first_bar, section.first_bar + section.bars):
            degree = 0 if bar == last_bar else loop[(bar - section.first_bar) % len(loop)]
            start, length = float(bar * beats_per_bar), float(beats_per_bar)
            chord = key.chord(degree, seventh=bool(rng.random() < sevenths))
            second = PASSING[degree][rng.integers(len(PASSING[degree]))]
            if bar != last_bar and second != degree and rng.random() < 0.2:
                first_beats = beats_per_bar - beats_per_bar // 2
                spans.append(ChordSpan(start, float(first_beats), chord))
                start, length = start + first_beats, length - first_beats
                chord = key.chord(second, seventh=bool(rng.random() < sevenths))
            spans.append(ChordSpan(start, length, chord))
    return tuple(spans)


def chord_under(chords: Sequence[ChordSpan], beat: float) -> Chord:
    """The chord that sounds at a beat."""
    return next(span.chord for span in reversed(chords) if span.start <= beat)


def _melody(
    rng: Generator, key: Key, chords: Sequence[ChordSpan], voice: Voice, bars: int, beats_per_bar: int
) -> tuple[Note, ...]:
    """Phrases of two bars, each with a rest to breathe in, rhythms as A A B A, an arch each, the end on the tonic."""
    rhythms = {name: _rhythm(rng, beats_per_bar) for name in "AB"}
    notes: list[Note] = []
    pitch = (voice.low + voice.high) // 2
    phrases = bars // PHRASE_BARS
    for phrase in range(phrases):
        name = "B" if phrase % 4 == 2 else "A"
        peak = voice.high - rng.integers(0, 4) - (0 if name == "B" else 3)
        base = voice.low + rng.integers(2, 6)
        start = phrase * PHRASE_BARS * beats_per_bar
        rhythm = rhythms[name]
        for index, (onset, length) in enumerate(rhythm):
            beat = start + onset
            last = index == len(rhythm) - 1
            progress = index / max(1, len(rhythm) - 1)
            arch = base + (peak - base) * np.sin(np.pi * (0.12 + 0.8 * progress))
            chord = chord_under(chords, beat)
            strong = onset % 2 == 0 or length >= 1.5 or last
            if last and phrase == phrases - 1:
                classes: tuple[int, ...] = (key.tonic,)
            elif strong:
                classes = chord.pitch_classes[:3]
            else:
                classes = key.scale_over(chord)
            pitch = _next_pitch(rng, pitches_in(classes, voice.low, voice.high), pitch, arch, strong)
            slur = index > 0 and length <= 0.5 and abs(notes[-1].pitch - pitch) <= 2 and rng.random() < 0.25
            velocity = int(np.clip(84 + 10 * (onset % beats_per_bar == 0) + rng.normal(0, 5), 60, 115))
            notes.append(Note(beat, length, pitch, velocity, "" if slur else _syllable(rng)))
    return tuple(notes)


def _rhythm(rng: Generator, beats_per_bar: int) -> list[tuple[float, float]]:
    """(onset, length) in beats of one phrase, on the eighths; notes are joined, the phrase ends in a rest."""
    eighths = 2 * PHRASE_BARS * beats_per_bar
    first = int(rng.choice([0, 0, 0, 1, 2]))
    rest = int(rng.choice([2, 3, 4]))  # eighths of silence at the end
    end = eighths - rest
    density = rng.uniform(0.7, 1.1)
    onsets = [first]
    for eighth in range(first + 1, end - 1):
        weight = 0.85 if eighth % (2 * beats_per_bar) == 0 else 0.7 if eighth % 2 == 0 else 0.42
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


def _syllable(rng: Generator) -> str:
    consonant = CONSONANTS[rng.choice(len(CONSONANTS), p=CONSONANT_SHARES)]
    return consonant + VOWELS[rng.choice(len(VOWELS), p=VOWEL_SHARES)]
