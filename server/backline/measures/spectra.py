"""Short-time spectra, and the figures by which reconstructions are judged."""

from __future__ import annotations

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


def si_sdr(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """Scale-invariant signal-to-distortion ratio of [sample], in dB."""
    target = wanted * (float(found @ wanted) / (float(wanted @ wanted) + 1e-12))
    rest = found - target
    return 10.0 * float(np.log10((float(target @ target) + 1e-12) / (float(rest @ rest) + 1e-12)))


def log_mel_distance(found: NDArray[np.float32], wanted: NDArray[np.float32], sample_rate: int) -> float:
    """Mean absolute difference of the `log_mels` of [sample]."""
    return float((log_mels(found, sample_rate) - log_mels(wanted, sample_rate)).abs().mean())


def log_mels(audio: NDArray[np.float32], sample_rate: int) -> Tensor:
    """[sample] -> [band, frame], natural logarithms of magnitudes: at 16 kHz, window 1024, hop 160, 64 bands."""
    divisor = gcd(16_000, sample_rate)
    resampled = resample_poly(audio.astype(np.float64), 16_000 // divisor, sample_rate // divisor)
    spectrum = stft(torch.from_numpy(resampled).float()[None], 1024, 160)
    # The measure is defined on the unscaled transform.
    magnitude = spectrum.abs() * float(torch.hann_window(1024).sum())
    return log_mel(magnitude, 64, 1024, 16_000)[0]
