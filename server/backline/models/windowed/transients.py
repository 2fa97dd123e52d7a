"""Gives the drums their attacks back: models that tell tokens blur them, and the mixture has them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d, median_filter, uniform_filter1d

from backline.models.stream import Audio
from backline.models.windowed.stft import Transform

TRANSFORM = Transform(512, 128)  # 2.7 ms a frame at 48 kHz
STEADY_FRAMES = 31  # over which a tone goes on
BROAD_BINS = 17  # over which a click spreads
BEFORE_FRAMES = 8  # that an attack is compared with
NEAR_FRAMES = 21  # within which a blurred attack belongs to a sharp one
AVERAGED_BINS = 9
LEAST_POWER = np.float32(1e-7)  # -110 dB; also more than what running sums of float64 leave where it is silent

Powers = NDArray[np.float32]  # [frame, bin]


def restored(stems: NDArray[np.float32], mixture: Audio, drums: int, amount: float) -> NDArray[np.float32]:
    """`stems` [track, channel, sample] of `mixture` [channel, sample] with sharper drums.

    Where the mixture has a percussive onset and the drums have one nearby, the drums take a share of what the mixture
    has besides them, and the others lose that share of theirs: stems that sum to the mixture still do.
    """
    tracks, channels, length = stems.shape
    powers = [_power(TRANSFORM.analyse(audio.mean(axis=0, keepdims=True))[0]) for audio in (mixture, stems[drums])]
    share = np.float32(amount) * drum_attacks(*powers)
    spectra = TRANSFORM.analyse(stems.reshape(tracks * channels, length)).reshape(tracks, channels, *share.shape)
    moved = share * spectra
    moved[drums] = share * (spectra[drums] - TRANSFORM.analyse(mixture))
    change = TRANSFORM.synthesise(moved.reshape(tracks * channels, *share.shape), length)
    return stems - change.reshape(stems.shape)


def drum_attacks(mixture: Powers, drums: Powers) -> Powers:
    """[frame, bin] 0 to 1: how surely the mixture's power at a time and frequency is a drum's attack."""
    tonal = median_filter(mixture, (STEADY_FRAMES, 1))
    percussive = median_filter(mixture, (1, BROAD_BINS))
    percussive /= percussive + tonal + LEAST_POWER
    heard = _smooth(mixture)
    near = maximum_filter1d(_attack(_smooth(drums)), NEAR_FRAMES, axis=0)
    share = uniform_filter1d(_smooth(drums), NEAR_FRAMES, axis=0)
    share /= uniform_filter1d(heard, NEAR_FRAMES, axis=0) + LEAST_POWER
    return percussive * _attack(heard) * near * np.clip(share, 0, 1)


def _attack(power: Powers) -> Powers:
    """[frame, bin] 0 to 1: how much of the power was not there just before."""
    recent = uniform_filter1d(power, BEFORE_FRAMES, axis=0, origin=(BEFORE_FRAMES - 1) // 2)  # up to its own frame
    before = np.concatenate((recent[:1], recent[:-1]))
    return np.maximum(power - before, 0) / (power + LEAST_POWER)


def _smooth(power: Powers) -> Powers:
    return uniform_filter1d(power, AVERAGED_BINS, axis=1)


def _power(spectra: NDArray[np.complex64]) -> Powers:
    return spectra.real**2 + spectra.imag**2
