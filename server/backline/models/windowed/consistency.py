"""Mixture consistency: makes the estimates of all tracks into stems that sum to the mixture, channel by channel.

RESIDUAL   stem = estimate + weight * (mixture - sum of all estimates)
MASK       stem = weight * mixture: a Wiener filter whose priors are the estimates
OFF        stem = estimate

Weights are each estimate's share of their power at a time and frequency. They sum to 1, and the transform gives back
what it is given, so the stems sum to the mixture and have its stereo image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from backline.models.stream import Audio
from backline.models.windowed.stft import Transform

OFF, RESIDUAL, MASK = 0, 1, 2
TRANSFORM = Transform(2_048, 512)
LEAST_POWER = 1e-10  # added to every power: where all estimates are silent, their shares are equal


def consistent(mixture: Audio, estimates: NDArray[np.float32], mode: int, mask_exponent: float) -> NDArray[np.float32]:
    """Stems [track, channel, sample] of `mixture` [channel, sample].

    Args:
        estimates: [track, channel, sample], of the mixture's channels, or of one that stands for all of them.
        mode: OFF, RESIDUAL or MASK.
        mask_exponent: what magnitudes are raised to before the shares of MASK; 2 is their power.
    """
    stems = np.array(np.broadcast_to(estimates, (len(estimates), *mixture.shape)))
    if mode == OFF:
        return stems
    length = mixture.shape[1]
    powers = _powers(estimates)
    if mode == MASK and mask_exponent != 2.0:
        powers **= np.float32(0.5 * mask_exponent)
    weights = powers / powers.sum(axis=0)
    shared = mixture - estimates.sum(axis=0) if mode == RESIDUAL else mixture
    for channel, spectrum in enumerate(TRANSFORM.analyse(shared)):
        given = TRANSFORM.synthesise(weights[:, channel % estimates.shape[1]] * spectrum, length)
        stems[:, channel] = stems[:, channel] + given if mode == RESIDUAL else given
    return stems


def _powers(estimates: NDArray[np.float32]) -> NDArray[np.float32]:
    """[track, channel, frame, bin]"""
    spectra = TRANSFORM.analyse(estimates.reshape(-1, estimates.shape[2]))
    powers = spectra.real**2 + spectra.imag**2 + np.float32(LEAST_POWER)
    return powers.reshape(*estimates.shape[:2], *powers.shape[1:])
