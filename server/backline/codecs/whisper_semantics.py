"""A layer of Whisper's encoder and k-means as semantic tokens, 50 a second: real weights for HAFM that install here.

A clip is heard as Whisper was trained to hear it, in windows of 30 s that silence fills. A stream's window is shorter,
and not filled, or no CPU would keep up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
            tensors: of the encoder, by the names in whisper.py.
            centroids: [token, width].

        Raises:
            ValueError: tensors are missing or have wrong shapes, or the window is too short; names all of it.
        """
        if wrong := window_problems(config) + centroid_problems(centroids, config.width):
            raise ValueError("; ".join(wrong))
        sizes = WhisperConfig(config.layers, config.width, config.heads, config.bands, config.positions)
        network = filled(lambda: WhisperEncoder(sizes), tensors, "").to(device)
        super().__init__(WhisperFeatures(network, config.layer), centroids, config, device)


class WhisperFeatures:
    """One layer's output, of clips [row, sample]."""

    normalizes = False

    def __init__(self, network: WhisperEncoder, layer: int) -> None:
        self.network, self.layer = network, layer

    def whole(self, audio: Tensor) -> Tensor:
        found: Tensor = self.network(audio, self.layer)
        return found

    def windowed(self, audio: Tensor) -> Tensor:
        found: Tensor = self.network(audio, self.layer, padded=False)
        return found
