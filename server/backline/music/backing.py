"""The band's parts over given chords: drums with fills, bass on roots and fifths, voice-led comping and pad."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import combinations

import numpy as np
from numpy.random import Generator

from backline.music.piece import ChordSpan, Note, Section
from backline.music.theory import Chord, pitches_in

KICK, SNARE, HAT, OPEN_HAT, CRASH, RIDE = 36, 38, 42, 46, 49, 51
TOMS = (50, 47, 43)  # high to low
BASS_LOW, BASS_HIGH = 28, 47
COMP_LOW, COMP_HIGH = 52, 72
PAD_LOW, PAD_HIGH = 55, 79

# Beats of the kick in a bar of four and of three.
KICKS = {
    4: ((0, 2), (0, 2, 2.5), (0, 1.5, 2), (0, 1.5, 2.5), (0, 0.5, 2), (0, 1, 2, 3)),
    3: ((0,), (0, 1.5), (0, 2.5)),
}
BACKBEATS = {4: (1, 3), 3: (1, 2)}
# Beats at which the comping plays its chord, within a bar of four and of three.
COMP_RHYTHMS = {
    4: ((0,), (0, 2), (0, 1, 2, 3), (0, 1.5, 3), (0, 1.5, 2.5), (0.5, 1.5, 2.5, 3.5)),
    3: ((0,), (0, 1, 2), (1, 2), (0, 1.5)),
}


def drum_part(rng: Generator, sections: Sequence[Section], beats_per_bar: int, dynamics: float) -> tuple[Note, ...]:
    """One groove per section, a crash at its start and a fill at its end."""
    notes: list[Note] = []
    for section in sections:
        kicks = KICKS[beats_per_bar][rng.integers(len(KICKS[beats_per_bar]))]
        cymbal = RIDE if section.name == "chorus" and rng.random() < 0.4 else HAT
        step = float(rng.choice([0.5, 0.5, 0.5, 0.25, 1.0]))
        fill_beats = int(rng.choice([1, 1, 2]))
        for bar in range(section.first_bar, section.first_bar + section.bars):
            origin = bar * beats_per_bar
            filled = bar == section.first_bar + section.bars - 1
            end = beats_per_bar - fill_beats if filled else beats_per_bar
            notes += [hit(rng, dynamics, origin + beat, KICK, 104) for beat in kicks if beat < end]
            notes += [hit(rng, dynamics, origin + beat, SNARE, 102) for beat in BACKBEATS[beats_per_bar] if beat < end]
            for beat in np.arange(0, end, step):
                if bar == section.first_bar and beat == 0:
                    notes.append(hit(rng, dynamics, origin, CRASH, 98))
                else:
                    notes.append(hit(rng, dynamics, origin + float(beat), cymbal, 82 if beat % 1 == 0 else 62))
            if filled:
                notes += drum_fill(rng, dynamics, origin + end, fill_beats)
            elif rng.random() < 0.3:
                notes.append(hit(rng, dynamics, origin + beats_per_bar - 0.5, OPEN_HAT, 72))
    return tuple(sorted(notes, key=lambda note: note.start))


def drum_fill(rng: Generator, dynamics: float, start: float, beats: int) -> list[Note]:
    """Sixteenths over snare and toms, downwards and louder, on a kick."""
    drums = (SNARE, *TOMS)
    steps = 4 * beats
    notes = [hit(rng, dynamics, start, KICK, 100)]
    for step in range(steps):
        if step % 2 == 0 or rng.random() < 0.75:
            drum = drums[min(len(drums) - 1, step * len(drums) // steps)]
            notes.append(hit(rng, dynamics, start + step / 4, drum, 84 + 24 * step // steps))
    return notes


def hit(rng: Generator, dynamics: float, beat: float, drum: int, velocity: int) -> Note:
    """One stroke on a drum."""
    return Note(float(beat), 0.25, drum, human(rng, dynamics, velocity))


def bass_line(
    rng: Generator, chords: Sequence[ChordSpan], sections: Sequence[Section], beats_per_bar: int, dynamics: float
) -> tuple[Note, ...]:
    """The root on every change of chord, then a figure of roots, fifths and octaves; one figure a section."""
    notes: list[Note] = []
    figures = {section.first_bar: int(rng.integers(4)) for section in sections}
    root = BASS_LOW + 8
    figure = 0
    for index, span in enumerate(chords):
        figure = figures.get(int(span.start // beats_per_bar), figure)
        root = nearest_bass(span.chord.root, root, BASS_HIGH - 7)
        fifth = root + (span.chord.pitch_classes[2] - span.chord.root) % 12
        following = chords[(index + 1) % len(chords)].chord.root
        for beat, length, pitch in _figure(figure, span.length, root, fifth, following):
            notes.append(Note(span.start + beat, length, pitch, human(rng, dynamics, 98 if beat == 0 else 86)))
    return tuple(notes)


def _figure(figure: int, beats: float, root: int, fifth: int, following: int) -> list[tuple[float, float, int]]:
    """(beat, length, pitch) over one chord. `following` is the pitch class of the next root."""
    if figure == 0:  # long roots, the fifth in the second half
        half = np.ceil(beats / 2)
        return [(0.0, half, root), (half, beats - half, fifth)] if beats > 2 else [(0.0, beats, root)]
    if figure == 1:  # driving eighths
        return [(beat, 0.45, root) for beat in np.arange(0, beats, 0.5).tolist()]
    if figure == 2:  # quarters over root, fifth and octave
        pitches = (root, root, fifth, root + 12 if root + 12 <= BASS_HIGH else fifth)
        return [(float(beat), 0.9, pitches[beat % 4]) for beat in range(int(beats))]
    line = [(0.0, 1.4, root)]  # dotted, with a step into the next root
    if beats > 2:
        line += [(1.5, 0.5, root), (2.0, beats - 2.5, fifth)]
    approach = nearest_bass(following, root, BASS_HIGH)
    return [*line, (beats - 0.5, 0.5, approach if approach != root else fifth)]


def nearest_bass(pitch_class: int, previous: int, high: int) -> int:
    """The bass note of a pitch class that lies nearest to the note before."""
    return min(pitches_in((pitch_class,), BASS_LOW, high), key=lambda pitch: abs(pitch - previous))


def comping(
    rng: Generator,
    chords: Sequence[ChordSpan],
    sections: Sequence[Section],
    beats_per_bar: int,
    dynamics: float,
    led: bool,
) -> tuple[Note, ...]:
    """Chords in close position, each led from the one before, or broken into eighths; one rhythm a section."""
    rhythms = COMP_RHYTHMS[beats_per_bar]
    styles = {section.first_bar: int(rng.integers(len(rhythms) + 1)) for section in sections}
    notes: list[Note] = []
    voicing: tuple[int, ...] = ()
    style = 0
    for span in chords:
        bar = int(span.start // beats_per_bar)
        style = styles.get(bar, style)
        voicing = lead(voicing if led else (), span.chord, COMP_LOW, COMP_HIGH)
        if style == len(rhythms):
            order = [*range(len(voicing)), *range(len(voicing) - 2, 0, -1)]
            for step in range(int(2 * span.length)):
                pitch = voicing[order[step % len(order)]]
                notes.append(Note(span.start + step / 2, 0.5, pitch, human(rng, dynamics, 80 if step % 2 == 0 else 70)))
            continue
        offset = span.start - bar * beats_per_bar
        beats = [beat - offset for beat in rhythms[style] if offset <= beat < offset + span.length] or [0.0]
        for beat, end in zip(beats, [*beats[1:], span.length], strict=True):
            velocity = 84 if beat == 0 else 74
            notes += [
                Note(span.start + beat, 0.92 * (end - beat), pitch, human(rng, dynamics, velocity)) for pitch in voicing
            ]
    return tuple(notes)


def pad_part(rng: Generator, chords: Sequence[ChordSpan], dynamics: float, led: bool) -> tuple[Note, ...]:
    """Held chords, led from one to the next."""
    notes: list[Note] = []
    voicing: tuple[int, ...] = ()
    for span in chords:
        voicing = lead(voicing if led else (), span.chord, PAD_LOW, PAD_HIGH)
        notes += [Note(span.start, 0.98 * span.length, pitch, human(rng, dynamics, 72)) for pitch in voicing]
    return tuple(notes)


@cache
def lead(previous: tuple[int, ...], chord: Chord, low: int, high: int) -> tuple[int, ...]:
    """The voicing of `chord`, every chord tone once, within an octave, whose voices move least from `previous`."""
    classes = chord.pitch_classes
    voicings = [
        voicing
        for voicing in combinations(pitches_in(classes, low, high), len(classes))
        if voicing[-1] - voicing[0] < 12 and len({pitch % 12 for pitch in voicing}) == len(classes)
    ]
    middle = (low + high) / 2

    def cost(voicing: tuple[int, ...]) -> float:
        drift = 0.1 * abs(float(np.mean(voicing)) - middle)
        if not previous:
            return drift
        return drift + sum(min(abs(pitch - other) for other in previous) for pitch in voicing)

    return min(voicings, key=cost)


def human(rng: Generator, dynamics: float, velocity: int) -> int:
    """The velocity that was meant, as a player strikes it."""
    return int(min(127.0, max(1.0, velocity + rng.normal(0, dynamics))))
