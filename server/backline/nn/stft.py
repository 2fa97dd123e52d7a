"""Short-time Fourier transform and its inverse as streaming layers, between [row, 1, sample] and spectra.

A spectrum is [row, 2 * bins, frame]: real parts, then imaginary parts. Frame f covers the `window` samples that end
with sample (f + 1) * hop, so that the transform is causal. The inverse needs all frames that overlap a sample: it is
late by window / hop - 1 frames. Both use a sine window, which with its square overlaps to a constant.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backline.nn.conv import check_block, initial_wait, silence_lead
from backline.nn.streaming import keep_rows


@dataclass
class OverlapState:
    """What reaches over a block's edge."""

    past: Tensor  # [row, 1, window - hop] newest samples, or output that later frames still add to
    wait: Tensor | None  # [row] input steps before the signal's start; None: none ever were


def sine_window(window: int) -> Tensor:
    """[window], nowhere zero."""
    return torch.sin(torch.pi * (torch.arange(window, dtype=torch.float64) + 0.5) / window).float()


def check_window(window: int, hop: int) -> None:
    """Raises ValueError where windows cannot overlap to a constant."""
    if window % (2 * hop):
        raise ValueError(f"window {window} with hop {hop}: use a multiple of twice the hop")


class Stft(nn.Module):
    """[row, 1, sample] -> [row, 2 * bins, sample / hop], scaled to keep the level of noise."""

    time_axis = -1
    shape: Tensor  # [window]

    def __init__(self, window: int, hop: int) -> None:
        super().__init__()
        check_window(window, hop)
        self.register_buffer("shape", sine_window(window), persistent=False)
        self.window = window
        self.hop = hop
        self.bins = window // 2 + 1
        self.input_latency = 0
        self.output_ratio = Fraction(1, hop)
        self.receptive_field = window
        self.min_block = hop

    def reach(self, first: int, last: int) -> tuple[int, int]:
        return (first + 1) * self.hop - self.window, (last + 1) * self.hop - 1

    def init_state(self, batch: int, lead: int = 0) -> OverlapState:
        past = self.shape.new_zeros(batch, 1, self.window - self.hop)
        return OverlapState(past, initial_wait(batch, lead, self.shape.device))

    def step(self, x: Tensor, state: OverlapState, mask: Tensor | None = None) -> tuple[Tensor, OverlapState]:
        check_block(x.shape[-1], self.hop, self)
        x, wait = silence_lead(x, state.wait, mask)
        joined = torch.cat([state.past, x], dim=-1)
        past = keep_rows(joined[..., x.shape[-1] :], state.past, mask)
        return self.spectra(joined), OverlapState(past, wait)

    def forward(self, x: Tensor) -> Tensor:
        check_block(x.shape[-1], self.hop, self)
        return self.spectra(F.pad(x, (self.window - self.hop, 0)))

    def spectra(self, x: Tensor) -> Tensor:
        """[row, 1, window - hop + n * hop] -> [row, 2 * bins, n]."""
        frames = x[:, 0].unfold(-1, self.window, self.hop) * self.shape  # [row, n, window]
        spectrum = torch.fft.rfft(frames, norm="ortho")
        return torch.cat([spectrum.real, spectrum.imag], dim=-1).transpose(1, 2)


class InverseStft(nn.Module):
    """[row, 2 * bins, frame] -> [row, 1, frame * hop]; undoes `Stft` exactly, except near the end of the signal."""

    time_axis = -1
    shape: Tensor  # [window]

    def __init__(self, window: int, hop: int) -> None:
        super().__init__()
        check_window(window, hop)
        overlap = window / hop / 2  # what the squared sine windows add up to
        self.register_buffer("shape", sine_window(window) / overlap, persistent=False)
        self.window = window
        self.hop = hop
        self.input_latency = window // hop - 1
        self.output_ratio = Fraction(hop)
        self.receptive_field = window // hop
        self.min_block = 1

    def reach(self, first: int, last: int) -> tuple[int, int]:
        return first // self.hop, last // self.hop + self.input_latency

    def init_state(self, batch: int, lead: int = 0) -> OverlapState:
        past = self.shape.new_zeros(batch, 1, self.window - self.hop)
        return OverlapState(past, initial_wait(batch, lead, self.shape.device))

    def step(self, x: Tensor, state: OverlapState, mask: Tensor | None = None) -> tuple[Tensor, OverlapState]:
        x, wait = silence_lead(x, state.wait, mask)
        full = self.overlapped(x)
        open_end = self.window - self.hop
        full = torch.cat([full[..., :open_end] + state.past, full[..., open_end:]], dim=-1)
        done = x.shape[-1] * self.hop
        return full[..., :done], OverlapState(keep_rows(full[..., done:], state.past, mask), wait)

    def forward(self, x: Tensor) -> Tensor:
        before = self.window - self.hop  # frame 0 begins that many samples before the signal
        return self.overlapped(x)[..., before : before + x.shape[-1] * self.hop]

    def overlapped(self, x: Tensor) -> Tensor:
        """[row, 2 * bins, n] -> [row, 1, (n - 1) * hop + window]: all frames added up where they lie."""
        real, imag = x.transpose(1, 2).chunk(2, dim=-1)
        frames = torch.fft.irfft(torch.complex(real, imag), n=self.window, norm="ortho") * self.shape
        rows, count, _ = frames.shape
        out = x.new_zeros(rows, (count + self.input_latency) * self.hop)
        for part, piece in enumerate(frames.split(self.hop, dim=-1)):  # [row, n, hop], window / hop of them
            start = part * self.hop
            out[:, start : start + count * self.hop] += piece.reshape(rows, -1)
        return out[:, None]
