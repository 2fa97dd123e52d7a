"""Spectral losses and the figures by which reconstructions are judged."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import resample_poly
from torch import Tensor

from backline.nn.mel import mel_filters

SMALLEST_MEL = 1e-5


def stft(audio: Tensor, window: int, hop: int) -> Tensor:
    """[row, sample] -> complex [row, bin, frame], frames centred, scaled a full-scale sine peaks at 1/2."""
    shape = torch.hann_window(window, device=audio.device)
    spectrum = torch.stft(audio, window, hop, window=shape, center=True, pad_mode="constant", return_complex=True)
    return spectrum / shape.sum()


def log_mel(magnitude: Tensor, bands: int, window: int, sample_rate: int) -> Tensor:
    """Magnitudes [row, bin, frame] -> natural logarithms of mel bands [row, band, frame]."""
    filters = mel_filters(bands, window, sample_rate).to(magnitude.device)
    return (filters @ magnitude).clamp(min=SMALLEST_MEL).log()


@dataclass(frozen=True)
class Scale:
    """One resolution of the spectral losses."""

    window: int
    bands: int


SCALES = (Scale(512, 40), Scale(1024, 80), Scale(2048, 120))


def reconstruction_losses(found: Tensor, wanted: Tensor, sample_rate: int) -> dict[str, Tensor]:
    """How far `found` [row, sample] is from `wanted`: each loss is relative to the row's level or logarithmic.

    Returns:
        mel, magnitude and complex, means over the scales; and waveform.
    """
    losses = {"mel": found.new_zeros(()), "magnitude": found.new_zeros(()), "complex": found.new_zeros(())}
    for scale in SCALES:
        window, hop = scale.window, scale.window // 4
        a, b = stft(found, window, hop), stft(wanted, window, hop)
        level_a, level_b = (a.abs().square() + 1e-14).sqrt(), b.abs()
        mel_a, mel_b = (log_mel(level, scale.bands, window, sample_rate) for level in (level_a, level_b))
        difference = torch.view_as_real(a - b).abs().sum(-1)
        losses["mel"] += (mel_a - mel_b).abs().mean() / len(SCALES)
        losses["magnitude"] += relative(level_a - level_b, level_b) / len(SCALES)
        losses["complex"] += relative(difference, level_b) / len(SCALES)
    return losses | {"waveform": relative(found - wanted, wanted)}


def relative(difference: Tensor, wanted: Tensor) -> Tensor:
    """Sum of absolute differences over the sum of absolute values, a mean over the rows; silence counts as a little."""
    size = difference[0].numel()
    error = difference.abs().flatten(1).sum(1)
    return (error / (wanted.abs().flatten(1).sum(1) + 1e-5 * size)).mean()


def si_sdr(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """Scale-invariant signal-to-distortion ratio of [sample], in dB."""
    target = wanted * (float(found @ wanted) / (float(wanted @ wanted) + 1e-12))
    rest = found - target
    return 10.0 * float(np.log10((float(target @ target) + 1e-12) / (float(rest @ rest) + 1e-12)))


def log_mel_distance(found: NDArray[np.float32], wanted: NDArray[np.float32], sample_rate: int) -> float:
    """Mean absolute difference of natural log-mel magnitudes of [sample] at 16 kHz, window 1024, hop 160, 64 bands."""
    divisor = gcd(16_000, sample_rate)
    mels = []
    for audio in (found, wanted):
        resampled = resample_poly(audio.astype(np.float64), 16_000 // divisor, sample_rate // divisor)
        spectrum = stft(torch.from_numpy(resampled).float()[None], 1024, 160)
        # The measure is defined on the unscaled transform.
        magnitude = spectrum.abs() * float(torch.hann_window(1024).sum())
        mels.append(log_mel(magnitude, 64, 1024, 16_000))
    return float((mels[0] - mels[1]).abs().mean())
