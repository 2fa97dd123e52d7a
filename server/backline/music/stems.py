"""A song as four stems, which separation learns from and is judged by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from backline.music.songs import Song, song
from backline.music.world import World

TRACKS = ("vocals", "drums", "bass", "other")
SAMPLE_RATE = 48_000

Stems = NDArray[np.float32]  # [track, sample], by the order of TRACKS


def song_stems(seed: int, world: World) -> Stems:
    """The four stems of the song of that seed, 48 kHz."""
    return stems_of(song(seed, world, SAMPLE_RATE))


def stems_of(made: Song) -> Stems:
    """Everything that is neither sung nor drums nor bass is `other`."""
    other = made.accompaniment - made.stems["drums"] - made.stems["bass"]
    return np.stack([made.vocal, made.stems["drums"], made.stems["bass"], other]).astype(np.float32)
