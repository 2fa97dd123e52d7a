"""Counts the table by which a beat is heard (models/hafm/listening/beats.py)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from backline.models.hafm.listening.beats import COLOURS, FRAME_RATE, KINDS, PHRASE_BARS, POSITIONS, NoteListener

RARE = 20.0  # frames that every position is taken to have had more, of all kinds as they come anywhere


def beat_table(songs: Iterable[tuple[NDArray[np.int64], float]]) -> NDArray[np.float32]:
    """[kind, position] log likelihood of a kind of frame, against that of the kind at any position.

    Args:
        songs: tokens [frame] of the voice, from a bar's start on, and bars a second; in phrases of PHRASE_BARS.
    """
    counts = np.zeros((KINDS, POSITIONS))
    for tokens, bars_per_second in songs:
        phrases = np.arange(len(tokens)) * (bars_per_second / (PHRASE_BARS * FRAME_RATE))
        position = (phrases * POSITIONS).astype(np.int64) % POSITIONS
        for kinds in zip(*NoteListener().kinds(tokens[None]), strict=True):
            np.add.at(counts, (kinds, position), 1)
    table = [_ratios(counts[group]) for group in (slice(COLOURS), slice(COLOURS, KINDS))]
    return np.concatenate(table).astype(np.float32)


def _ratios(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log likelihood ratios [kind, position] of kinds of which every frame is one."""
    anywhere = (counts.sum(axis=1, keepdims=True) + 1) / (counts.sum() + len(counts))
    here = counts + RARE * anywhere
    return np.log(here / here.sum(axis=0) / anywhere)
