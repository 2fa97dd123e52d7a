"""The encoder: log-mel frames, 100 a second, to hidden states, 25 a second.

Two residual convolutions halve the rate twice, a Conformer follows. "full" is MusicFM's 25 Hz recipe, which the paper
leaves open: convolutions over time and bands, attention to the whole clip. "causal" is what plays live: convolutions
over time, with the bands as channels, and attention to a bounded past and a little ahead; it is a streaming layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backline.codecs.duotok.config import SUBSAMPLING, DuoTokConfig
from backline.nn.composite import Residual, Sequential, Swapped, convnext_block
from backline.nn.conformer import Conformer, streaming_conformer
from backline.nn.conv import CausalConv1d
from backline.nn.mel import DecibelMel


class Encoder(nn.Module):
    """Audio [row, sample] at the configured rate -> hidden states [row, frame, width]."""

    def __init__(self, config: DuoTokConfig) -> None:
        super().__init__()
        self.config = config
        self.mel = DecibelMel(
            config.sample_rate, config.bands, config.window, config.hop, block=config.samples_per_token
        )
        self.network: Sequential | FullNetwork = (
            causal_network(config) if config.attention == "causal" else FullNetwork(config)
        )

    def features(self, audio: Tensor) -> Tensor:
        """[row, sample] -> z-scored log-mel [row, mel frame, band], SUBSAMPLING frames for a token.

        Raises:
            ValueError: the audio is not a whole number of tokens long.
        """
        if audio.shape[-1] % self.config.samples_per_token:
            raise ValueError(
                f"{audio.shape[-1]} samples are no whole number of tokens of {self.config.samples_per_token}: pad them "
                "with zeros"
            )
        mels: Tensor = self.mel(audio[:, None])
        return mels.transpose(1, 2)

    def hidden(self, mels: Tensor) -> Tensor:
        """[row, mel frame, band], as `features` gives it -> [row, frame, width]."""
        x: Tensor = self.network(mels.transpose(1, 2))
        return x.transpose(1, 2)

    def forward(self, audio: Tensor) -> Tensor:
        return self.hidden(self.features(audio))

    @torch.no_grad()
    def set_statistics(self, mean: Tensor, deviation: Tensor) -> None:
        """Those of a corpus, per band [band] in dB (of `encoder.mel.decibels`), by which mels are z-scored."""
        self.mel.mean.copy_(mean)
        self.mel.deviation.copy_(deviation)

    def streaming(self) -> Sequential:
        """The whole of it as a streaming layer [row, 1, sample] -> [row, width, frame], of the same weights.

        Raises:
            ValueError: it is one that hears the whole clip.
        """
        if not isinstance(self.network, Sequential):
            raise ValueError('attention is "full": hear it in windows, or use a "causal" encoder')
        return Sequential(self.mel, self.network)


def causal_network(config: DuoTokConfig) -> Sequential:
    """A streaming layer [row, band, mel frame] -> [row, width, frame]."""
    return Sequential(
        *_halving(config.bands, config.channels),
        *_halving(config.channels, config.width),
        Swapped(streaming_conformer(config.conformer, config.context, config.ahead)),
    )


def _halving(channels: int, wider: int) -> tuple[CausalConv1d, Residual]:
    return CausalConv1d(channels, wider, 4, stride=2), convnext_block(wider, 2 * wider)


class FullNetwork(nn.Module):
    """[row, band, mel frame] -> [row, width, frame]; every frame hears all of it."""

    def __init__(self, config: DuoTokConfig) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            HalvingConv2d(1, config.channels), HalvingConv2d(config.channels, config.channels)
        )
        self.linear = nn.Linear(config.channels * config.bands // SUBSAMPLING, config.width)
        self.conformer = Conformer(config.conformer)

    def forward(self, mels: Tensor) -> Tensor:
        x = self.convolutions(mels[:, None]).flatten(1, 2)  # [row, channel * band, frame]
        y: Tensor = self.conformer(self.linear(x.transpose(1, 2)))
        return y.transpose(1, 2)


class HalvingConv2d(nn.Module):
    """A residual block [row, channel, band, frame] -> [row, wider, band / 2, frame / 2]."""

    def __init__(self, channels: int, wider: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(channels, wider, 3, stride=2, padding=1),
            nn.BatchNorm2d(wider),
            nn.ReLU(),
            nn.Conv2d(wider, wider, 3, padding=1),
            nn.BatchNorm2d(wider),
        )
        self.direct = nn.Sequential(nn.Conv2d(channels, wider, 3, stride=2, padding=1), nn.BatchNorm2d(wider))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.direct(x) + self.branch(x))
