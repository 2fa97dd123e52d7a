"""Spleeter's U-Nets (spleeter/model/functions/unet.py of Deezer's code), for inference.

Each halves time and frequency once for every entry of `filters`, then doubles them, and is given at each size what it
had made of it on the way down, before normalisation. Batch normalisation is a scale and a shift.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from backline.models.spleeter.config import CHANNELS, SpleeterConfig

KERNEL = 5
LEAK = 0.2
SAME = (1, 2, 1, 2)  # what TensorFlow pads for a kernel of 5 that steps by 2, and cuts on the way up
LEAST_POWER = 1e-10  # shared by all tracks where all are silent


class Affine(nn.Module):
    """A scale and a shift of every channel of [row, channel, frame, bin]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.shift[:, None, None], x, self.scale[:, None, None])


class UNet(nn.Module):
    """One track. Frames are a multiple of 2 ** len(filters), and so are bins."""

    def __init__(self, config: SpleeterConfig) -> None:
        super().__init__()
        down = (CHANNELS, *config.filters)
        pairs = list(zip(down, config.filters, strict=False))
        above = [*config.filters[-2::-1], 1]  # channels that each step up gives
        below = [config.filters[-1], *(2 * channels for channels in above[:-1])]
        self.down = nn.ModuleList(nn.Conv2d(given, made, KERNEL, 2) for given, made in pairs)
        self.down_norms = nn.ModuleList(Affine(made) for _, made in pairs[:-1])  # the last one is heard by nobody
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(given, made, KERNEL, 2) for given, made in zip(below, above, strict=True)
        )
        self.up_norms = nn.ModuleList(Affine(made) for made in above)
        self.mask = nn.Conv2d(1, CHANNELS, 4, padding=3, dilation=2)
        self._elu = config.activation == "elu"

    def forward(self, magnitudes: Tensor) -> Tensor:
        """[row, channel, frame, bin] -> the mask's logits, likewise."""
        passed: list[Tensor] = []
        x = magnitudes
        for place, conv in enumerate(self.down):
            x = conv(functional.pad(x, SAME))
            passed.append(x)
            if place < len(self.down_norms):
                x = self.down_norms[place](x)
                x = functional.elu(x) if self._elu else functional.leaky_relu(x, LEAK)
        for place, (conv, norm) in enumerate(zip(self.up, self.up_norms, strict=True)):
            if place:
                x = torch.cat([passed[-1 - place], x], dim=1)
            x = conv(x)[:, :, SAME[0] : -SAME[1], SAME[2] : -SAME[3]]
            x = norm(functional.elu(x) if self._elu else functional.relu(x))
        logits: Tensor = self.mask(x)
        return logits


class Spleeter(nn.ModuleList):
    """A U-Net for each track."""

    def __init__(self, config: SpleeterConfig) -> None:
        super().__init__(UNet(config) for _ in config.tracks)
        self.config = config

    def forward(self, magnitudes: Tensor) -> Tensor:
        """Every track's share of the mixture.

        Args:
            magnitudes: [row, channel, frame, bin] of the mixture's lowest bins, unscaled.

        Returns:
            [track, row, channel, frame, bin], which sum to 1: out_i^2 / sum of all out^2 (Spleeter's separation
            exponent is 2).
        """
        logits = torch.stack([network(magnitudes) for network in self])
        masks = logits.softmax(dim=0) if self.config.masks == "softmax" else logits.sigmoid()
        powers = (masks * magnitudes).square_() + LEAST_POWER / len(self)
        return powers / powers.sum(dim=0)
