"""Chords to a tune: those of its own voices where it has some, else the plain chords of its key that fit the melody.

Each half of a bar, where a metre has halves, or each beat of voices has one chord: the sequence that sounds with most
of the notes' time and changes no more than that is worth (Viterbi).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from backline.music.piece import ChordSpan
from backline.music.theory import QUALITIES, Chord
from backline.music.tunes import Tone, Tune

# Worths, of the time of a melody note or of a voice.
OUTSIDE = -0.6  # of a note that is not of the chord
BASS = 0.2  # of the lowest voice on the root, beyond its own
ACCENT = 1.5  # times the time of a note that begins with the chord
FOURTH_NOTE = -0.25  # of chords of four notes: only where the fourth sounds
CHANGE = {"bar": 0.1, "within": 0.5}  # what another chord costs, at a bar line and within a bar
# What degrees are worth by themselves where a melody alone leaves them open.
PLAIN = {
    "major": {0: 0.35, 3: 0.2, 4: 0.3, 1: 0.0, 5: 0.05},
    "minor": {0: 0.35, 3: 0.15, 4: 0.2, 5: 0.1, 6: 0.2, 2: 0.1},
}


def harmonise(tune: Tune) -> tuple[ChordSpan, ...]:
    """Chords without gap from the tune's beginning to its end."""
    spans = slots(tune)
    voices = [tune.melody, *tune.below]
    if tune.below:
        candidates = [Chord(root, quality) for quality in QUALITIES for root in range(12)]
        worth = np.array([FOURTH_NOTE * (len(chord.pitch_classes) > 3) for chord in candidates])
    else:
        plain = PLAIN[tune.key.mode]
        candidates = [tune.key.chord(degree) for degree in plain]
        worth = np.array([*plain.values()])
    members = np.array([[OUTSIDE, 1.0][pitch in chord.pitch_classes] for chord in candidates for pitch in range(12)])
    members = members.reshape(len(candidates), 12)
    roots = np.array([chord.root for chord in candidates])

    totals = worth  # of the best sequence that ends in each
    choices: list[NDArray[np.int64]] = []
    for index, (start, length) in enumerate(spans):
        sounding = sum((_time(voice, start, length) for voice in voices), np.zeros(12))
        fit = members @ sounding / max(sounding.sum(), 1e-9) if sounding.any() else np.zeros(len(candidates))
        if tune.below:
            fit = fit + BASS * _time(tune.below[-1], start, length)[roots] / length
        if index == 0:
            totals = fit + worth
            continue
        cost = CHANGE["bar" if start % tune.metre.beats_per_bar == 0 else "within"]
        before = int(totals.argmax())
        stays = totals >= totals[before] - cost
        choices.append(np.where(stays, np.arange(len(candidates)), before))
        totals = np.where(stays, totals, totals[before] - cost) + fit + worth
    path = [int(totals.argmax())]
    for choice in reversed(choices):
        path.append(int(choice[path[-1]]))
    return joined(
        tune, [ChordSpan(*span, candidates[place]) for span, place in zip(spans, reversed(path), strict=True)]
    )


def slots(tune: Tune) -> list[tuple[float, float]]:
    """(start, length) of what has one chord each, in beats."""
    per_bar, pulse = tune.metre.beats_per_bar, tune.metre.pulse
    begins = [*np.arange(0, per_bar, pulse)] if tune.below else [*tune.metre.strong]
    return [
        (float(bar * per_bar + begin), float(end - begin))
        for bar in range(tune.bars)
        for begin, end in pairwise([*begins, per_bar])
    ]


def joined(tune: Tune, spans: Sequence[ChordSpan]) -> tuple[ChordSpan, ...]:
    """Equal chords within a bar as one."""
    found: list[ChordSpan] = []
    for span in spans:
        if found and found[-1].chord == span.chord and span.start % tune.metre.beats_per_bar:
            found[-1] = ChordSpan(found[-1].start, found[-1].length + span.length, span.chord)
        else:
            found.append(span)
    return tuple(found)


def _time(voice: Sequence[Tone], start: float, length: float) -> NDArray[np.float64]:
    """[pitch class] beats for which each sounds from `start` on."""
    found = np.zeros(12)
    for tone in voice:
        sounding = min(tone.start + tone.length, start + length) - max(tone.start, start)
        if sounding > 1e-6:
            found[tone.pitch % 12] += sounding * (ACCENT if abs(tone.start - start) < 1e-6 else 1.0)
    return found
