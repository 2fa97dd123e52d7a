"""Reads off a composed piece what the band plays in every frame, as models/hafm/score.py writes it down."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from backline.models.hafm.score import (
    ATTACK_EARLY,
    ATTACK_LATE,
    BASS_SILENT,
    BROKEN_FROM,
    BROKEN_VOICES,
    CODEBOOKS,
    COMPING_HELD,
    COMPING_STRUCK,
    DRUM_BITS,
    TRIADS,
    Tokens,
)
from backline.music.piece import Piece
from backline.music.render import events
from backline.music.theory import QUALITIES, Chord
from backline.music.world import PARTS

RATE, HOP = 24_000, 480  # samples a second, and in a frame
CODEC_HOP = 320

Played = tuple[int, int, int]  # first sample, end, pitch


def score_tokens(piece: Piece, frames: int) -> Tokens:
    """[codebook, frame] at 50 frames a second."""
    played = {part: _played(piece, channel) for channel, part in enumerate(PARTS)}
    tokens = np.zeros((len(CODEBOOKS), frames), np.int64)
    tokens[0] = chord_tokens(piece, frames)
    tokens[1] = BASS_SILENT
    for start, end, pitch in played["bass"]:
        tokens[1, start // HOP : -(-end // HOP)] = pitch % 12
        tokens[1, start // HOP : start // HOP + 1] = pitch % 12 + 12
    _comping(played["comp"], tokens[0], tokens[2])
    for start, _, pitch in played["drums"]:
        tokens[3, start // HOP : start // HOP + 1] |= DRUM_BITS.get(pitch, 0)
    for part in ("bass", "comp", "drums"):
        for start, _, _ in played[part]:
            second = start // CODEC_HOP > -(-(start // HOP * HOP) // CODEC_HOP)
            tokens[4, start // HOP : start // HOP + 1] = ATTACK_LATE if second else ATTACK_EARLY
    return tokens


def chord_tokens(piece: Piece, frames: int) -> Tokens:
    """The score's first codebook alone [frame]: it needs no rendering."""
    return np.array([_triad(chord) for chord in _chords(piece, frames)], np.int64)


def _comping(notes: Sequence[Played], chord: Tokens, line: Tokens) -> None:
    """Writes the comping into `line` [frame]: chords of three notes and more, or which voice of a broken one."""
    for start, end, pitch in notes:
        together = sum(other == start for other, _, _ in notes)
        first, last = start // HOP, -(-end // HOP)
        if together >= 3:
            held, struck = COMPING_HELD, COMPING_STRUCK
        else:
            if first >= len(line):
                continue
            voices = sorted({p for s, _, p in notes if s // HOP < len(chord) and _same_span(chord, s // HOP, first)})
            held = BROKEN_FROM + 2 * min(voices.index(pitch), BROKEN_VOICES - 1)
            struck = held + 1
        line[first:last] = held
        line[first : first + 1] = struck


def _same_span(chord: Tokens, a: int, b: int) -> bool:
    low, high = min(a, b), max(a, b)
    return bool((chord[low : high + 1] == chord[low]).all())


def _played(piece: Piece, channel: int) -> list[Played]:
    """The notes of a channel as they are rendered, in time."""
    sounding: dict[int, int] = {}
    notes = []
    for sample, _, where, pitch, velocity in events(piece, RATE):
        if where != channel:
            continue
        if pitch in sounding:
            notes.append((sounding.pop(pitch), sample, pitch))
        if velocity:
            sounding[pitch] = sample
    return sorted(notes)


def _chords(piece: Piece, frames: int) -> list[Chord]:
    """The chord of every frame: it changes where its first note may be struck."""
    grid = float(piece.onset_grid or 0)
    starts = np.array([span.start * piece.seconds_per_beat for span in piece.chords])
    if grid:
        starts = np.round(starts / grid) * grid
    first = np.round(starts * RATE).astype(np.int64) // HOP
    return [piece.chords[i].chord for i in np.searchsorted(first, np.arange(frames), side="right") - 1]


def _triad(chord: Chord) -> int:
    """The chord's token, without its seventh or other colours."""
    intervals = QUALITIES[chord.quality]
    quality = "maj" if 3 not in intervals else "min" if 7 in intervals else "dim"
    return chord.root + 12 * TRIADS.index(quality)
