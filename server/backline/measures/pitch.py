"""The pitch of one voice: YIN (de Cheveigné and Kawahara, 2002), steps 1 to 5, on a spectrum of lags."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

PITCH_RATE = 100  # frames a second, each centred on its time
LOWEST, HIGHEST = 65.0, 1000.0  # Hz, of singers from C2 to B5
WINDOW_SECONDS = 0.032  # over which a period repeats
APERIODIC = 0.1  # the first dip below it is the period
VOICED = 0.25  # a frame whose best dip is above it has no pitch
QUIET = 1e-3  # RMS (-60 dBFS) under which nothing is sung
STEADY_FRAMES = 5  # over which a pitch that jumps for a moment is taken for a mistake
BLOCK = 2048  # frames that are computed at once


def yin(audio: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    """Hz [frame] of the voice in a sound [sample], PITCH_RATE frames a second; 0 where none is heard."""
    longest, shortest = int(np.ceil(sample_rate / LOWEST)) + 1, int(sample_rate / HIGHEST)
    window = round(WINDOW_SECONDS * sample_rate)
    frames = int(len(audio) / sample_rate * PITCH_RATE) + 1
    span = window + longest
    padded = np.pad(np.asarray(audio, np.float64), (span, span))
    starts = np.round(np.arange(frames) * sample_rate / PITCH_RATE).astype(int) + span - span // 2
    found = np.zeros(frames)
    for first in range(0, frames, BLOCK):
        heard = padded[starts[first : first + BLOCK, None] + np.arange(span)]
        dips = _normalised(_differences(heard, window, longest))
        found[first : first + BLOCK] = sample_rate / _periods(dips, shortest)
        loud = np.sqrt(np.mean(np.square(heard), axis=1)) >= QUIET
        found[first : first + BLOCK] *= loud & (dips[:, shortest:].min(axis=1) < VOICED)
    steady = median_filter(found, STEADY_FRAMES, mode="constant")
    return np.where((found > 0) & (steady > 0), steady, 0).astype(np.float32)


def _differences(heard: NDArray[np.float64], window: int, longest: int) -> NDArray[np.float64]:
    """Squared difference [frame, lag] of the first `window` samples to those `lag` later, up to `longest`."""
    size = 1 << (heard.shape[1] - 1).bit_length()
    spectrum = np.fft.rfft(heard, size)
    alike = np.fft.irfft(np.conj(np.fft.rfft(heard[:, :window], size)) * spectrum, size)[:, : longest + 1]
    energy = np.cumsum(np.square(np.pad(heard, ((0, 0), (1, 0)))), axis=1)
    later = energy[:, window : window + longest + 1] - energy[:, : longest + 1]
    return np.maximum(0.0, later[:, :1] + later - 2 * alike)


def _normalised(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each [frame, lag] against the mean of those up to it: 1 where nothing repeats, 0 where all does."""
    lags = np.arange(1, differences.shape[1])
    means = np.cumsum(differences[:, 1:], axis=1) / lags
    found = np.ones_like(differences)
    np.divide(differences[:, 1:], means, out=found[:, 1:], where=means > 1e-12)
    return found


def _periods(dips: NDArray[np.float64], shortest: int) -> NDArray[np.float64]:
    """Samples [frame]: the bottom of the first dip that is deep enough, else of the deepest, between samples."""
    inner = dips[:, shortest:-1]
    bottom = (inner <= dips[:, shortest - 1 : -2]) & (inner < dips[:, shortest + 1 :])
    deep = bottom & (inner < APERIODIC)
    lag = np.where(deep.any(axis=1), deep.argmax(axis=1), inner.argmin(axis=1)) + shortest
    rows = np.arange(len(dips))
    before, here, after = (dips[rows, lag + step] for step in (-1, 0, 1))
    curve = before - 2 * here + after
    shift = np.where(curve > 1e-12, (before - after) / (2 * np.maximum(curve, 1e-12)), 0.0)
    return lag + np.clip(shift, -0.5, 0.5)
