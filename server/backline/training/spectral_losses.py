"""How far a reconstruction is from what it should be, as losses over several resolutions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from backline.measures.spectra import log_mel, stft


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
