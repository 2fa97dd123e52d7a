"""The semantic tokens of the aligned stages: what the band plays in every 20 ms, and how tokens are transposed.

Five codebooks: the chord, the bass, the comping, the drums that are struck, and whether anything is struck. Tokens of
pitch come in groups of twelve, so a song in one key becomes one in another by arithmetic: the semantic stage knows but
one key (C major and A minor), a twelfth of the work, and plays in all.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

VOCABULARY = 64  # of every codebook; more than any needs
CODEBOOKS = ("chord", "bass", "comping", "drums", "attack")

TRIADS = ("maj", "min", "dim")  # chord: root + 12 * its place here
ROOTS = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
BASS_SILENT = 24  # bass: pitch class + 12 where it is struck
COMPING_REST, COMPING_HELD, COMPING_STRUCK = 0, 1, 2  # a chord; broken ones follow, two tokens for each of its voices
BROKEN_FROM, BROKEN_VOICES = 3, 5
DRUM_BITS = {36: 1, 38: 2, 42: 4, 51: 8, 46: 16, 49: 16, 50: 32, 47: 32, 43: 32}  # General MIDI pitch -> bit
ATTACK_EARLY, ATTACK_LATE = 1, 2  # in the first codec frame that begins within the 20 ms, or the second

BAND_TURNS = (36, 24, 0, 0, 0)  # leading tokens of each codebook that stand for pitches
VOICE_PROTOTYPES = 20  # of the voice's tokens: prototype * 12 + pitch class
VOICE_TURNS = (12 * VOICE_PROTOTYPES,)
VOICE_VOCABULARY = 12 * VOICE_PROTOTYPES + 1  # the last is silence

Tokens = NDArray[np.int64]  # [codebook, frame]


def transposed(tokens: Tokens, turns: tuple[int, ...], semitones: int) -> Tokens:
    """`tokens` [codebook, frame] so many semitones higher; those beyond `turns` of their codebook stay."""
    turned = tokens // 12 * 12 + (tokens + semitones) % 12
    return np.where(tokens < np.array(turns)[:, None], turned, tokens)


def pitch_and_colour(tokens: Tokens) -> Tokens:
    """The voice's tokens [1, frame] as two codebooks [2, frame]: pitch class (12: silence), prototype."""
    silent = tokens == VOICE_VOCABULARY - 1
    return np.concatenate([np.where(silent, 12, tokens % 12), tokens // 12])


def chord_name(chord: int) -> str:
    """As musicians write it: Bb, Am, Bdim."""
    return ROOTS[chord % 12] + ("", "m", "dim")[chord // 12]


def semitones_from_c(key: int) -> int:
    """By how much a key (tonic + 12 for minor) lies above C major or its relative, A minor."""
    return key if key < 12 else (key + 3) % 12
