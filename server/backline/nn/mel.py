"""Log-mel spectrograms, framed so that a signal of n hops has n frames, each centred on its hop."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backline.nn.conv import check_block, initial_wait, silence_lead
from backline.nn.streaming import keep_rows

QUIETEST = 1e-10  # power that stands for silence: -100 dB


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


@dataclass
class MelState:
    """What reaches over a block's edge."""

    past: Tensor  # [row, 1, sample], the newest
    wait: Tensor | None  # [row] samples before the signal's start; None: none ever were


class DecibelMel(nn.Module):
    """[row, 1, n * hop] -> [row, band, n] decibels of the power in mel bands, less a mean and by a deviation per band.

    A streaming layer, late by the whole number of `block` samples that covers half a window: torchaudio's transform
    with HTK's scale and no norm, but for the frames' places (half a hop later).
    """

    time_axis = -1
    filters: Tensor  # [band, bin]
    shape: Tensor  # [window]
    mean: Tensor  # [band] dB
    deviation: Tensor  # [band] dB

    def __init__(self, sample_rate: int, bands: int, window: int, hop: int, block: int) -> None:
        """
        Args:
            block: samples, a multiple of `hop`: the layers behind need their input late by whole numbers of it.
        """
        super().__init__()
        if window < hop or (window - hop) % 2:
            raise ValueError(f"window {window} with hop {hop}: use a window that is longer by an even number")
        if block % hop:
            raise ValueError(f"a block of {block} samples is not a multiple of the hop, {hop}")
        self.hop, self.window = hop, window
        self.edge = (window - hop) // 2  # samples before and after a hop that its frame covers
        self.register_buffer("filters", mel_filters(bands, window, sample_rate), persistent=False)
        self.register_buffer("shape", torch.hann_window(window, device="cpu"), persistent=False)
        self.register_buffer("mean", torch.zeros(bands))
        self.register_buffer("deviation", torch.ones(bands))
        self.input_latency = -(-self.edge // block) * block
        self.output_ratio = Fraction(1, hop)
        self.receptive_field = window
        self.min_block = hop

    def reach(self, first: int, last: int) -> tuple[int, int]:
        return first * self.hop - self.edge, (last + 1) * self.hop + self.edge - 1

    def init_state(self, batch: int, lead: int = 0) -> MelState:
        past = self.shape.new_zeros(batch, 1, self.edge + self.input_latency)
        return MelState(past, initial_wait(batch, lead, self.shape.device))

    def step(self, x: Tensor, state: MelState, mask: Tensor | None = None) -> tuple[Tensor, MelState]:
        check_block(x.shape[-1], self.hop, self)
        x, wait = silence_lead(x, state.wait, mask)
        joined = torch.cat([state.past, x], dim=-1)
        past = keep_rows(joined[..., x.shape[-1] :], state.past, mask)
        heard = joined[..., : 2 * self.edge + x.shape[-1]]
        return self._normalized(self._frames(heard)), MelState(past, wait)

    def forward(self, x: Tensor) -> Tensor:
        return self._normalized(self.decibels(x))

    def decibels(self, x: Tensor) -> Tensor:
        """[row, 1, n * hop] -> [row, band, n] dB, before mean and deviation: what they are measured on."""
        check_block(x.shape[-1], self.hop, self)
        return self._frames(F.pad(x, (self.edge, self.edge)))

    def _frames(self, x: Tensor) -> Tensor:
        """[row, 1, n * hop + 2 * edge] -> [row, band, n] dB."""
        with torch.autocast(x.device.type, enabled=False):  # where training is in bfloat16: logarithms are not
            frames = x[:, 0].unfold(-1, self.window, self.hop) * self.shape  # [row, n, window]
            spectrum = torch.view_as_real(torch.fft.rfft(frames))
            power = spectrum.square().sum(-1) @ self.filters.T
        return (10.0 * power.clamp(min=QUIETEST).log10()).transpose(1, 2)

    def _normalized(self, decibels: Tensor) -> Tensor:
        return (decibels - self.mean[:, None]) / self.deviation[:, None]


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
