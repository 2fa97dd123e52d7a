"""What DuoTok's tokenizer is trained with, as small as it gets: a few thousand weights, songs of tones."""

from dataclasses import replace

import numpy as np

from backline.codecs.duotok.config import DuoTokConfig
from backline.training.duotok import DuoTokTraining, Hardness
from backline.training.duotok_rows import Drawn
from backline.training.duotok_songs import FRAME, FULL_SCALE, SAMPLE_RATE, DuoSong, levels, tones

SIZES = DuoTokConfig(
    window=480, bands=16, channels=8, layers=2, width=16, heads=2, kernel=3, expansion=2, attention="causal",
    context=16, ahead=(0, 1), code_dim=4, projection=True, entries=64,
)  # fmt: skip
ROWS = Drawn(4, (1.0, 1.0), worded=("mix", "voice"))
TOY = DuoTokTraining(
    SIZES,
    targets=32,
    stages={
        1: Hardness(3e-3, ROWS, 2),
        2: Hardness(3e-3, ROWS, 2),
        3: Hardness(3e-3, replace(ROWS, shares=(0, 5, 4, 1)), 2, passes=2, kept=4),
    },
)
HERTZ = (440.0, 220.0)  # of voice and band: both are A


def toy_song(seed: int = 0, seconds: float = 3.0, known: bool = True, sounding: bool = True) -> DuoSong:
    """A voice that sings "la" and "mo" from 0.4 to 1.2 s and again from 1.8 s on, over a band that plays throughout."""
    samples = round(seconds * SAMPLE_RATE) // FRAME * FRAME
    time = np.arange(samples) / SAMPLE_RATE
    words, times = ("la", "mo", "mo", "la"), np.array([(0.4, 0.8), (0.8, 1.2), (1.8, 2.2), (2.2, 2.6)], np.float32)
    phrases = np.array([(0.4, 1.2), (1.8, 2.6)], np.float32)
    sung = ((time >= 0.4) & (time < 1.2)) | ((time >= 1.8) & (time < 2.6))
    draw = np.random.default_rng(seed)
    voice = 0.3 * sung * np.sin(2 * np.pi * HERTZ[0] * time) + 0.01 * draw.standard_normal(samples)
    band = 0.2 * np.sin(2 * np.pi * HERTZ[1] * time)
    sides = np.stack([voice, band]).astype(np.float32) * sounding
    tracks = np.stack([sides[0], np.zeros(samples, np.float32), sides[1], np.zeros(samples, np.float32)])
    return DuoSong(
        sound=np.round(sides * FULL_SCALE).astype(np.int16),
        tones=np.stack([tones(side) for side in sides]),
        levels=levels(tracks if known else tracks[:0]),
        words=words,
        times=times,
        phrases=phrases,
        chords=(np.arange(samples // FRAME) // 25 % 2).astype(np.int8),
    )


class ToyPool:
    """Songs that are all there: a `Pool`, as far as trainers ask."""

    def __init__(self, *songs: DuoSong) -> None:
        self.songs = list(songs)

    def refresh(self) -> bool:
        return False
