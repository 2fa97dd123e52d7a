"""How a codec's codes are used, and how much it buzzes at its frame rate."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def perplexity(codes: Tensor, entries: int) -> float:
    """How many of the entries are in use, by the entropy of `codes` [n]."""
    shares = torch.bincount(codes.flatten(), minlength=entries).double() / codes.numel()
    return float(torch.exp(-(shares * shares.clamp(min=1e-12).log()).sum()))


def frame_correlation(audio: NDArray[np.float32], hop: int, sample_rate: int) -> float:
    """Normalised autocorrelation of [sample] above 4 kHz at a lag of one frame: high where a codec buzzes."""
    spectrum = np.fft.rfft(audio)
    spectrum[: round(4000 * len(audio) / sample_rate)] = 0
    high = np.fft.irfft(spectrum, len(audio))
    return float(high[hop:] @ high[:-hop] / (high @ high + 1e-9))
