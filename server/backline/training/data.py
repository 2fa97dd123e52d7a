"""Which songs a training run hears, by their seeds; and the papers' augmentations of what it hears."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq

from backline.music.seeds import HELD_OUT_SEED

_SONGS_PER_SEED = 1 << 24

Sound = NDArray[np.float32]


def training_seed(seed: int, number: int) -> int:
    """The seed of song `number` of a training run: all different over all runs and numbers, below HELD_OUT_SEED.

    Raises:
        ValueError: no song has such a seed.
    """
    if not 0 <= seed < HELD_OUT_SEED // _SONGS_PER_SEED or not 0 <= number < _SONGS_PER_SEED:
        raise ValueError(
            f"there is no song {number} of run {seed}: run seeds go from 0 to {HELD_OUT_SEED // _SONGS_PER_SEED - 1}, "
            f"songs from 0 to {_SONGS_PER_SEED - 1}"
        )
    return seed * _SONGS_PER_SEED + number


# ---- augmentations: new arrays, drawn from the given generator ----


def vary_gain(sound: Sound, generator: Generator, low: float = 0.5, high: float = 1.5) -> Sound:
    """Times an even draw from [low, high]."""
    return sound * np.float32(generator.uniform(low, high))


def vary_polarity(sound: Sound, generator: Generator, share: float = 0.1) -> Sound:
    """Turned upside down in `share` of the cases."""
    return -sound if generator.random() < share else sound.copy()


def vary_equalization(sound: Sound, sample_rate: int, generator: Generator, decibels: float = 6.0) -> Sound:
    """Through a seven-band equalizer, each band an even draw from [-decibels, decibels]; no delay."""
    bands = np.geomspace(80.0, 8_000.0, 7)  # Hz
    levels = generator.uniform(-decibels, decibels, len(bands))
    padded = next_fast_len(2 * len(sound), real=True)  # else the end would ring into the start
    hertz = rfftfreq(padded, 1 / sample_rate)
    curve = 10 ** (np.interp(np.log(np.maximum(hertz, 1.0)), np.log(bands), levels) / 20)
    return irfft(rfft(sound, padded) * curve.astype(np.float32), padded)[: len(sound)].astype(np.float32)


def add_noise(sound: Sound, sigma: float, generator: Generator) -> Sound:
    """With white noise of standard deviation `sigma`: it hides what a separator leaves of the band in a vocal."""
    return sound + np.float32(sigma) * generator.standard_normal(len(sound), dtype=np.float32)
