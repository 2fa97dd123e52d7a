"""Composes pieces by program: in styles (arranger.py), or plain, from a verse and a chorus (parts in backing.py).

Everything is drawn from one generator made of the seed, so a seed and a world name one piece for ever.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator

from backline.music.arranger import arrange
from backline.music.backing import bass_line, comping, drum_part, pad_part
from backline.music.melody import PHRASE_BARS, sung_melody
from backline.music.piece import ChordSpan, Piece, Section
from backline.music.theory import Key, Metre
from backline.music.world import NARROW, World

# Four-bar loops, as degrees counted from 0; the drawn loop is what makes a section.
LOOPS = {
    "major": ((0, 4, 5, 3), (0, 5, 3, 4), (5, 3, 0, 4), (0, 3, 5, 4), (0, 3, 0, 4), (0, 5, 1, 4), (3, 0, 4, 5)),
    "minor": ((0, 5, 2, 6), (0, 3, 6, 2), (0, 6, 5, 4), (0, 5, 3, 4), (0, 3, 0, 4), (5, 6, 0, 0), (0, 2, 6, 3)),
}
# What may stand in the second half of a bar, by the degree of the first half.
PASSING = {0: (2, 5), 1: (4,), 2: (5, 3), 3: (1, 4), 4: (4, 6), 5: (3, 2), 6: (4, 2)}


def compose(seed: int, world: World = NARROW) -> Piece:
    """The piece of that seed in that world: in one of its styles, or plain where it has none.

    Raises:
        ValueError: the world asks for what cannot be composed; says what, and what can.
    """
    rng = np.random.default_rng(seed)
    return arrange(rng, seed, world) if world.styles else _plain(rng, seed, world)


def _plain(rng: Generator, seed: int, world: World) -> Piece:
    """A verse and a chorus of equal length, over drawn chords. Packs are trained on these: they must not change."""
    if world.bars % (2 * PHRASE_BARS):
        raise ValueError(f"a piece of {world.bars} bars has no two halves: choose a multiple of {2 * PHRASE_BARS}")
    mode = world.modes[rng.integers(len(world.modes))]
    relative = 0 if mode == "major" else 9
    key = Key((world.tonics[rng.integers(len(world.tonics))] + relative) % 12, mode)
    tempo = float(rng.integers(world.tempi[0], world.tempi[1] + 1))
    metre = Metre(world.beats_per_bar[rng.integers(len(world.beats_per_bar))])
    beats_per_bar = metre.beats_per_bar
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
    melody = sung_melody(rng, key, chords, voice, world.bars, metre)
    return Piece(seed, key, tempo, metre, world.bars, band, voice, sections, chords, melody, parts, world.onset_grid)


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
