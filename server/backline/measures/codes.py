"""How a codec's codes are used, and how much it buzzes at its frame rate."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def perplexity(codes: Tensor, entries: int) -> float:
    """How many of the entries are in use, by the entropy of `codes` [n]."""
    shares = torch.bincount(codes.flatten(), minlength=entries).double() / codes.numel()
    return float(torch.exp(-(shares * shares.clamp(min=1e-12).log()).sum()))


def utilisation(codes: Tensor, entries: int) -> float:
    """The share of the entries that occur in `codes` [n]."""
    return len(codes.unique()) / entries


def entropy_bits(codes: Tensor, entries: int) -> float:
    """Entropy of the distribution that `codes` [n] are drawn from, in bits, by Miller and Madow (1955).

    Frequencies of a sample are less even than the distribution: of n tokens among which m entries occur, their entropy
    is too low by about (m - 1) / 2 n nats. That takes n well above m; no estimate exceeds that of even use.
    """
    seen = torch.bincount(codes.flatten(), minlength=entries)
    seen = seen[seen > 0].double()
    shares = seen / seen.sum()
    nats = float(-(shares * shares.log()).sum()) + (len(seen) - 1) / (2 * codes.numel())
    return min(nats / math.log(2), math.log2(entries))


def frame_correlation(audio: NDArray[np.float32], hop: int, sample_rate: int) -> float:
    """Normalised autocorrelation of [sample] above 4 kHz at a lag of one frame: high where a codec buzzes."""
    spectrum = np.fft.rfft(audio)
    spectrum[: round(4000 * len(audio) / sample_rate)] = 0
    high = np.fft.irfft(spectrum, len(audio))
    return float(high[hop:] @ high[:-hop] / (high @ high + 1e-9))
