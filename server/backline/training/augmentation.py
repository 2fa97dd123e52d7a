"""The papers' augmentations of what a training run hears: new arrays, drawn from the given generator."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq
from scipy.signal import sosfilt

Sound = NDArray[np.float32]


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


def vary_bands(sound: Sound, sample_rate: int, generator: Generator, decibels: float) -> Sound:
    """Through a seven-band parametric equalizer, as MSS-LM's: what a mixing desk's does to it, phases and all.

    Each band is a peaking filter (R. Bristow-Johnson, Audio EQ Cookbook) whose gain is an even draw from [-decibels,
    decibels], and whose frequency and width are drawn as well. The paper says no more than that gains depend on the
    track; these ranges are ours.
    """
    centres = np.geomspace(80.0, 8_000.0, 7) * 2 ** generator.uniform(-0.5, 0.5, 7)  # Hz, within half an octave
    widths = generator.uniform(0.7, 1.4, 7)  # Q: about two octaves to one
    gains = 10 ** (generator.uniform(-decibels, decibels, 7) / 40)
    turn = 2 * np.pi * centres / sample_rate
    alpha = np.sin(turn) / (2 * widths)
    middle, first = -2 * np.cos(turn), 1 + alpha / gains
    over, under = [1 + alpha * gains, middle, 1 - alpha * gains], [first, middle, 1 - alpha / gains]
    sections = np.stack([*over, *under], axis=1) / first[:, np.newaxis]
    return np.asarray(sosfilt(sections, sound), np.float32)


def add_noise(sound: Sound, sigma: float, generator: Generator) -> Sound:
    """With white noise of standard deviation `sigma`: it hides what a separator leaves of the band in a vocal."""
    return sound + np.float32(sigma) * generator.standard_normal(len(sound), dtype=np.float32)
