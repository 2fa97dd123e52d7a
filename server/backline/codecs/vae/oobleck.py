"""Stable Audio's autoencoder "Oobleck": strided convolutions, residual units between them, periodic activations.

MGE-LDM's at 16 kHz (the default sizes), Stable Audio's own at 44.1 kHz and Ear-VAE's at 48 kHz are this network. Layers
are named as in the published files, but that a convolution's weight is one tensor: weight norm is folded on import.
Two-channel models hear a mono signal on both channels.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backline.codecs.vae.config import OobleckConfig, by_channel
from backline.codecs.vae.reach import span

DILATIONS = (1, 3, 9)  # of a level's residual units
LEAST_DEVIATION = 1e-4  # of the posterior


class Oobleck(nn.Module):
    """A `Vae`."""

    def __init__(self, config: OobleckConfig) -> None:
        super().__init__()
        self.config = config
        self.sample_rate, self.hop, self.latent_channels = config.sample_rate, config.hop, config.latent_channels
        self.channels = config.audio_channels
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        first, last = span(self.encoder, 0, 0)
        self.reach = -first, last - self.hop + 1
        first, last = span(self.decoder, 0, self.hop - 1)
        self.decode_reach = -first, last

    def encode(self, audio: Tensor) -> Tensor:
        return self._statistics(audio)[0]

    def posterior(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        mean, scale = self._statistics(audio)
        return mean, 2 * (F.softplus(scale) + LEAST_DEVIATION).log()

    def decode(self, latents: Tensor) -> Tensor:
        return self.sound(latents).mean(dim=1)

    def sound(self, latents: Tensor) -> Tensor:
        said: Tensor = self.decoder(latents)
        return said.float()

    def _statistics(self, audio: Tensor) -> tuple[Tensor, ...]:
        """The mean, and what the deviation is made of."""
        heard: Tensor = self.encoder(by_channel(audio, self.hop, self.channels))
        return heard.chunk(2, dim=1)


class Encoder(nn.Module):
    """[row, channel, sample] -> mean and scale [row, 2 * latent, frame]."""

    def __init__(self, config: OobleckConfig) -> None:
        super().__init__()
        widths = [config.width * multiple for multiple in (1, *config.multiples)]
        levels = [EncoderLevel(*sizes, stride) for sizes, stride in zip(pairwise(widths), config.strides, strict=True)]
        self.layers = nn.Sequential(
            nn.Conv1d(config.audio_channels, widths[0], 7, padding=3),
            *levels,
            Snake(widths[-1]),
            nn.Conv1d(widths[-1], 2 * config.latent_channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


class Decoder(nn.Module):
    """[row, latent, frame] -> [row, channel, sample]."""

    def __init__(self, config: OobleckConfig) -> None:
        super().__init__()
        widths = [config.width * multiple for multiple in reversed((1, *config.multiples))]
        strides = reversed(config.strides)
        levels = [DecoderLevel(*sizes, stride) for sizes, stride in zip(pairwise(widths), strides, strict=True)]
        self.layers = nn.Sequential(
            nn.Conv1d(config.latent_channels, widths[0], 7, padding=3),
            *levels,
            Snake(widths[-1]),
            nn.Conv1d(widths[-1], config.audio_channels, 7, padding=3, bias=False),
            nn.Tanh() if config.final_tanh else nn.Identity(),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


class EncoderLevel(nn.Module):
    """[row, inputs, n * stride] -> [row, outputs, n]."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        down = nn.Conv1d(inputs, outputs, 2 * stride, stride, padding=(stride + 1) // 2)
        self.layers = nn.Sequential(*(ResidualUnit(inputs, each) for each in DILATIONS), Snake(inputs), down)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


class DecoderLevel(nn.Module):
    """[row, inputs, n] -> [row, outputs, n * stride]."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        # The published one leaves the last sample out where the stride is odd.
        up = nn.ConvTranspose1d(
            inputs, outputs, 2 * stride, stride, padding=(stride + 1) // 2, output_padding=stride % 2
        )
        self.layers = nn.Sequential(Snake(inputs), up, *(ResidualUnit(outputs, each) for each in DILATIONS))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


class ResidualUnit(nn.Module):
    """[row, width, time] -> the same."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        wide = nn.Conv1d(width, width, 7, dilation=dilation, padding=3 * dilation)
        self.layers = nn.Sequential(Snake(width), wide, Snake(width), nn.Conv1d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.layers(x)
        return out


class Snake(nn.Module):
    """x + sin^2(a x) / b, with an a and a b for each channel, which are kept as logarithms."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha, self.beta = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return x + (x * self.alpha.exp()[:, None]).sin().square() / (self.beta.exp()[:, None] + 1e-9)
