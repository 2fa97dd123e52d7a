"""A layer of Whisper's encoder and k-means as semantic tokens, 50 a second: real weights for HAFM that install here.

Whisper knows where in its window a frame stands, and says so: of what its second layer says of songs, a third is
nothing but the place. Tokens of voice and band would agree for that alone, so what the layer makes of noise at the same
place is taken off.

A clip is heard as Whisper was trained to hear it, in windows of 30 s that silence fills. A stream's window is shorter,
and not filled, or no CPU would keep up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from backline.codecs.clustered import (
    ClusteredEncoder,
    LookaheadSeconds,
    WindowSeconds,
    centroid_problems,
    window_problems,
)
from backline.codecs.whisper import WhisperConfig, WhisperEncoder, filled
from backline.nn.tables import Kernel, Layers
from backline.nn.weights import misfits

NOISES, NOISE = 4, 0.1  # windows, and their deviation


@dataclass(frozen=True)
class WhisperSemanticsConfig(WhisperConfig):
    """Sizes of the encoder, the layer whose output is used, counted from 1, and how a stream is heard."""

    layer: Layers = 2
    window_seconds: WindowSeconds = 8.0
    lookahead_seconds: LookaheadSeconds = 0.4
    group_frames: Kernel = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layer > self.layers:
            raise ValueError(f"layer is {self.layer}: this Whisper has {self.layers}")
        if self.window_seconds * 50 > self.positions:
            raise ValueError(f"window_seconds is {self.window_seconds:g}: Whisper hears {self.positions / 50:g} s")


class WhisperSemantics(ClusteredEncoder):
    """Audio at 16 kHz to semantic tokens; a `SemanticEncoder`."""

    def __init__(
        self, tensors: Mapping[str, Tensor], centroids: Tensor, config: WhisperSemanticsConfig, device: str = "cpu"
    ) -> None:
        """
        Args:
            tensors: of the encoder, by the names in whisper.py, and `baseline`.
            centroids: [token, width].

        Raises:
            ValueError: tensors are missing or have wrong shapes, or the window is too short; names all of it.
        """
        given = dict(tensors)
        baseline = given.pop("baseline", torch.zeros(0))
        wrong = window_problems(config) + centroid_problems(centroids, config.width)
        if wrong := wrong + misfits("baseline", baseline, (config.positions, config.width)):
            raise ValueError("; ".join(wrong))
        sizes = WhisperConfig(config.layers, config.width, config.heads, config.bands, config.positions)
        network = filled(lambda: WhisperEncoder(sizes), given, "").to(device)
        super().__init__(WhisperFeatures(network, config.layer, baseline.to(device)), centroids, config, device)


class WhisperFeatures:
    """One layer's output, of clips [row, sample], less what it is at that place anyway."""

    normalizes = False

    def __init__(self, network: WhisperEncoder, layer: int, baseline: Tensor) -> None:
        """`baseline`: [position, width]."""
        self.network, self.layer, self.baseline = network, layer, baseline

    def whole(self, audio: Tensor) -> Tensor:
        return self._placeless(self.network(audio, self.layer))

    def windowed(self, audio: Tensor) -> Tensor:
        return self._placeless(self.network(audio, self.layer, padded=False))

    def _placeless(self, features: Tensor) -> Tensor:
        place = torch.arange(features.shape[1], device=features.device) % len(self.baseline)
        return features - self.baseline[place]


@torch.inference_mode()
def noise_baseline(network: WhisperEncoder, layer: int) -> Tensor:
    """[position, width] what a layer makes of white noise, the mean over NOISES windows."""
    generator = torch.Generator().manual_seed(0)
    noises = (NOISE * torch.randn(1, network.window, generator=generator) for _ in range(NOISES))
    return torch.cat([network(noise, layer) for noise in noises]).mean(0)
