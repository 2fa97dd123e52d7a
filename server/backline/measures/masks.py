"""What a codec lets a separator reach: a true sound's codes, played back at the mixture's phases.

A separator that tells codes cannot do better than the true codes do. Gains are of SI-SDR over the mixture's, in dB.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backline.codecs.hcodec.network import HCodec
from backline.measures.spectra import si_sdr

Sound = NDArray[np.float32]  # [sample]


@dataclass(frozen=True)
class Ceiling:
    """Gains in dB of one sound over what surrounds it."""

    magnitudes: float  # those that the codec decodes from the true codes
    mask: float  # the same, as a mask beside the magnitudes of the rest's true codes
    truth: float  # as `mask`, of the magnitudes that no codec has touched


@torch.no_grad()
def ceiling(codec: HCodec, wanted: Sound, rest: Sound) -> Ceiling:
    """How well the codec's own magnitudes bring `wanted` out of `wanted + rest`, both at the codec's rate.

    What makes no whole code at the end is left out.
    """
    length = len(wanted) // codec.samples_per_code * codec.samples_per_code
    device = codec.decoder.window.device
    sounds = torch.from_numpy(np.stack([wanted, rest])[:, np.newaxis, :length]).to(device)  # [2, 1, sample]
    mixture = sounds.sum(0, keepdim=True)
    mixed = codec.spectra(mixture)  # [1, hop, bin]
    told = codec.decoder.spectra(codec.vectors(codec.encode(sounds))).abs()
    target = wanted[:length]
    start = si_sdr(mixture[0, 0].cpu().numpy(), target)

    def gain(spectrum: Tensor) -> float:
        return si_sdr(codec.decoder.sound(spectrum)[0, 0].float().cpu().numpy(), target) - start

    return Ceiling(
        gain(torch.polar(told[:1], mixed.angle())),
        gain(masked(mixed, told)),
        gain(masked(mixed, codec.spectra(sounds).abs())),
    )


def masked(mixed: Tensor, magnitudes: Tensor) -> Tensor:
    """The first sound's share of the power, of [sound, hop, bin] in the mixture [1, hop, bin]."""
    powers = magnitudes.square()
    return mixed * (powers[:1] / (powers.sum(0, keepdim=True) + 1e-12))
