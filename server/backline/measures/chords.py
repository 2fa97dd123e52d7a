"""Whether the right harmony sounds: triads by span, notes of the key, and chroma against a reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from backline.measures.notes import Spans, bass_chroma, chroma, even_spans, notes_heard
from backline.music.theory import QUALITIES, Chord, Key

SILENT = -1  # in place of a chord
TRIADS = tuple(Chord(root, quality) for quality in ("maj", "min", "dim") for root in range(12))
KEY_SPAN_SECONDS = 1.0  # of in_key: each span may choose one of the scales
CHROMA_SPAN_SECONDS = 0.5  # of chroma_cosine

# How triads are told apart, fitted to training songs (not held-out ones) of world.NARROW, TRIO and WIDE.
_BASS_ROOT, _BASS_FIFTH = 0.5, 0.3  # what these notes in the bass count for, on top of what every note counts
_DIMINISHED = -0.1  # they are rare
_CHANGE = -0.3  # chords last: a beat that holds only a fifth is heard as the chord around it


def chords_heard(audio: NDArray[np.float32], sample_rate: int, spans: Spans) -> NDArray[np.int64]:
    """The triad [span] that each span of time sounds like, as Chord.index; SILENT where nothing sounds.

    A span's notes vote for the triads that hold them, and the sequence of triads with most votes wins, changes costing
    some. That is how people hear a bar in which the chord is struck once and the bass walks on; a chord that sounds
    for one span only and shares notes with its neighbour may be taken for it.
    """
    if not len(spans):
        return np.zeros(0, np.int64)
    notes = notes_heard(audio, sample_rate, spans)
    sounding = notes.any(axis=1)
    path = _best_path(_votes(notes))
    return np.where(sounding, np.array([triad.index for triad in TRIADS])[path], SILENT)


def chord_match(audio: NDArray[np.float32], sample_rate: int, chords: Sequence[int], spans: Spans) -> float:
    """Share of spans that sound like their chord: right root and right third and fifth; sevenths count as triads.

    The true accompaniments of world.NARROW reach about .95. Music that has nothing to do with the labels but shares
    their key is right about one time in five, because there are not many chords in a key.

    Args:
        chords: Chord.index of each span.
        spans: (begin, end) of each in seconds, usually the beats.

    Raises:
        ValueError: there are not as many chords as spans.
    """
    if len(chords) != len(spans):
        raise ValueError(f"{len(chords)} chords for {len(spans)} spans: give one chord for each span")
    if not len(spans):
        return 0.0
    return float(np.mean(chords_heard(audio, sample_rate, spans) == triad_of(np.asarray(chords, np.int64))))


def triad_of(chords: NDArray[np.int64]) -> NDArray[np.int64]:
    """Chord.index of the triads in chords, the sevenths left out."""
    tones = [intervals[:3] for intervals in QUALITIES.values()]
    of_quality = np.array([tones.index(triad) for triad in tones])  # triads stand before sevenths in QUALITIES
    return chords % 12 + 12 * of_quality[chords // 12]


def in_key(audio: NDArray[np.float32], sample_rate: int, key: Key) -> float:
    """Share of the energy of notes that lies on the key's scale; 7/12, by chance, where all notes sound alike.

    In minor each second may be natural or harmonic, whichever holds more of it: the leading note belongs to the
    dominant, and then the seventh degree does not. Without any notes the share is 0.
    """
    sounding = _sounding(audio, sample_rate)
    scales = {key.pitch_classes, key.scale_over(key.chord(4))}
    on_scale = np.max([sounding[:, list(scale)].sum(axis=1) for scale in sorted(scales)], axis=0)
    total = float(sounding.sum())
    return float(on_scale.sum()) / total if total else 0.0


def scale_shares(audio: NDArray[np.float32], sample_rate: int) -> NDArray[np.float64]:
    """Share of the energy of notes that lies on each major scale [tonic], whatever the key: no label is needed.

    The greatest is the scale that is heard. A major key and its relative minor have one scale. The mean over tonics is
    7/12 for any sound; without any notes all are 0.
    """
    sounding = _sounding(audio, sample_rate).sum(axis=0)
    scales = np.array([np.isin(np.arange(12), Key(tonic, "major").pitch_classes) for tonic in range(12)])
    return scales @ sounding / max(1e-12, float(sounding.sum()))


def chroma_cosine(found: NDArray[np.float32], wanted: NDArray[np.float32], sample_rate: int) -> float:
    """How alike the notes of two recordings are at each time, octaves aside: 1 the same, 0 nothing in common.

    The mean cosine between chroma vectors [12] of half seconds, weighted by how loud the wanted ones are. Of both
    vectors, scaled to a sum of 1, the mean of the wanted ones is taken first: any two pieces of a key, and even noise,
    share that much, and would score .7 for it. What remains is how a moment differs from the piece as a whole, so a
    wanted piece that never changes its notes has no score but 0. The longer recording is cut to the shorter.
    """
    length = min(len(found), len(wanted))
    spans = even_spans(length, sample_rate, CHROMA_SPAN_SECONDS)
    heard = chroma(notes_heard(found[:length], sample_rate, spans))
    reference = chroma(notes_heard(wanted[:length], sample_rate, spans))
    loudness = reference.sum(axis=1)
    if not loudness.any():
        return 0.0
    shares = reference / np.maximum(1e-12, loudness[:, None])
    common = np.average(shares, axis=0, weights=loudness)
    sounding = heard.sum(axis=1, keepdims=True)
    first = np.where(sounding > 0, heard / np.maximum(1e-12, sounding) - common, 0.0)
    second = shares - common
    sizes = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    cosines = np.where(sizes > 1e-9, (first * second).sum(axis=1) / np.maximum(1e-9, sizes), 0.0)
    return float(np.average(cosines, weights=loudness))


def _sounding(audio: NDArray[np.float32], sample_rate: int) -> NDArray[np.float64]:
    """Energy of each pitch class [span, pitch class] in spans of KEY_SPAN_SECONDS."""
    spans = even_spans(len(audio), sample_rate, KEY_SPAN_SECONDS)
    return chroma(np.square(notes_heard(audio, sample_rate, spans)))


def _votes(notes: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each triad [span, triad] of TRIADS. The root of amplitudes counts, else the bass alone would decide."""
    amplitudes = np.sqrt(notes)
    full, bass = chroma(amplitudes), bass_chroma(amplitudes)
    strengths = np.linalg.norm(full, axis=1)
    usual = float(np.median(strengths[strengths > 0])) if strengths.any() else 1.0
    votes = np.empty((len(notes), len(TRIADS)))
    for index, triad in enumerate(TRIADS):
        root, _, fifth = triad.pitch_classes
        votes[:, index] = full[:, list(triad.pitch_classes)].sum(axis=1)
        votes[:, index] += _BASS_ROOT * bass[:, root] + _BASS_FIFTH * bass[:, fifth]
        votes[:, index] = votes[:, index] / usual + _DIMINISHED * (triad.quality == "dim")
    return votes


def _best_path(votes: NDArray[np.float64]) -> NDArray[np.int64]:
    """The sequence [span] of columns with the greatest sum of votes [span, column], each change costing _CHANGE."""
    total = votes[0]
    sources = []
    for row in votes[1:]:
        leader = int(total.argmax())
        moved = total[leader] + _CHANGE
        sources.append(np.where(total >= moved, np.arange(len(total)), leader))
        total = np.maximum(total, moved) + row
    path = [int(total.argmax())]
    for source in reversed(sources):
        path.append(int(source[path[-1]]))
    return np.array(path[::-1])
