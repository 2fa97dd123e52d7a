"""What a song is for, by its seed: to learn from, to choose the best weights by, or to judge them by."""

from __future__ import annotations

from typing import Literal

Purpose = Literal["training", "validation", "test"]

HELD_OUT_SEED = 1 << 40  # seeds of songs that no trainer learns from lie from here on
TEST_SEED = HELD_OUT_SEED + (1 << 20)  # trainers choose by songs between the two; from here on packs are judged


def purpose(seed: int) -> Purpose:
    """What the song of that seed is for."""
    if seed < HELD_OUT_SEED:
        return "training"
    return "validation" if seed < TEST_SEED else "test"
