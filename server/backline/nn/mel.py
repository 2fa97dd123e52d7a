"""Log-mel spectrograms of whole windows, framed so that a window of n hops has n frames, each centred on its hop."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LogMel(nn.Module):
    """[row, 1, n * hop] -> [row, band, n]: natural logarithms of the magnitudes in mel bands, plus a floor."""

    filters: Tensor  # [band, bin]
    shape: Tensor  # [window]

    def __init__(self, sample_rate: int, bands: int, window: int, hop: int, floor: float) -> None:
        super().__init__()
        if window < hop or (window - hop) % 2:
            raise ValueError(f"window {window} with hop {hop}: use a window that is longer by an even number")
        self.hop, self.window, self.floor = hop, window, floor
        self.register_buffer("filters", mel_filters(bands, window, sample_rate), persistent=False)
        self.register_buffer("shape", torch.hann_window(window, device="cpu"), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        edge = (self.window - self.hop) // 2
        frames = F.pad(audio[:, 0], (edge, edge)).unfold(-1, self.window, self.hop) * self.shape  # [row, n, window]
        magnitudes = torch.fft.rfft(frames).abs()
        return (magnitudes @ self.filters.T + self.floor).log().transpose(1, 2)


@cache
def mel_filters(bands: int, window: int, sample_rate: int) -> Tensor:
    """[band, bin] triangles of unit peak, equally spaced on the mel scale from 0 to half the rate."""
    top = 2595.0 * np.log10(1.0 + sample_rate / 2 / 700.0)
    corners = 700.0 * (10.0 ** (np.linspace(0.0, top, bands + 2) / 2595.0) - 1.0)  # Hz
    frequencies = np.linspace(0.0, sample_rate / 2, window // 2 + 1)
    rising = (frequencies - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    falling = (corners[2:, None] - frequencies) / (corners[2:] - corners[1:-1])[:, None]
    return torch.from_numpy(np.clip(np.minimum(rising, falling), 0.0, None)).float()


@cache
def slaney_filters(bands: int, window: int, sample_rate: int, highest: float | None = None) -> Tensor:
    """[band, bin] triangles of equal area on Slaney's mel scale, linear up to 1 kHz, then logarithmic: as librosa's.

    Args:
        highest: Hz, where the last one ends; without it half the rate.
    """
    per_mel, knee, step = 200 / 3, 1000.0, np.log(6.4) / 27  # Hz, Hz, nats
    top = knee / per_mel + np.log((highest or sample_rate / 2) / knee) / step
    mels = np.linspace(0.0, top, bands + 2)
    corners = np.where(mels < knee / per_mel, mels * per_mel, knee * np.exp(step * (mels - knee / per_mel)))
    frequencies = np.linspace(0.0, sample_rate / 2, window // 2 + 1)
    widths = np.diff(corners)
    rising = (frequencies - corners[:-2, None]) / widths[:-1, None]
    falling = (corners[2:, None] - frequencies) / widths[1:, None]
    areas = 2.0 / (corners[2:] - corners[:-2])
    return torch.from_numpy(np.clip(np.minimum(rising, falling), 0.0, None) * areas[:, None]).float()
