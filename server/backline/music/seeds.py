"""What a song is for, by its seed: to learn from, to choose the best weights by, or to judge them by."""

from __future__ import annotations

from typing import Literal

Purpose = Literal["training", "validation", "test"]

HELD_OUT_SEED = 1 << 40  # seeds of songs that no trainer learns from lie from here on
TEST_SEED = HELD_OUT_SEED + (1 << 20)  # trainers choose by songs between the two; from here on packs are judged
_SONGS_PER_RUN = 1 << 24


def purpose(seed: int) -> Purpose:
    """What the song of that seed is for."""
    if seed < HELD_OUT_SEED:
        return "training"
    return "validation" if seed < TEST_SEED else "test"


def training_seed(seed: int, number: int) -> int:
    """The seed of song `number` of a training run: all different over all runs and numbers, below HELD_OUT_SEED.

    Raises:
        ValueError: no song has such a seed.
    """
    if not 0 <= seed < HELD_OUT_SEED // _SONGS_PER_RUN or not 0 <= number < _SONGS_PER_RUN:
        raise ValueError(
            f"there is no song {number} of run {seed}: run seeds go from 0 to {HELD_OUT_SEED // _SONGS_PER_RUN - 1}, "
            f"songs from 0 to {_SONGS_PER_RUN - 1}"
        )
    return seed * _SONGS_PER_RUN + number
