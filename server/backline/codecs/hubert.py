"""HuBERT's ninth layer and k-means as semantic tokens, 50 a second, from local weights: the front end of HAFM's paper.

The network is torchaudio's, cut after the layer that is used. It hears a whole clip at once (full attention, a
positional convolution of 1.28 s to either side, normalisation by the clip's mean and variance); clustered.py says how a
stream hears it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from backline.codecs.clustered import (
    NORM_EPSILON,
    ClusteredEncoder,
    LookaheadSeconds,
    WindowSeconds,
    centroid_problems,
    window_problems,
)
from backline.codecs.torchaudio_import import import_torchaudio
from backline.nn.tables import FeedForward, Heads, Kernel, Layers, Width
from backline.nn.weights import misfits

EDGE = 40  # samples of padding on both sides that make exactly one frame of every HOP: (HOP n + 80 - 400) / HOP + 1


@dataclass(frozen=True)
class HubertConfig:
    """HuBERT Large unless said otherwise. `layers` is the layer whose output is used, counted from 1."""

    layers: Layers = 9
    dimension: Width = 1024
    heads: Heads = 16
    feed_forward: FeedForward = 4096
    conv_channels: Width = 512
    conv_bias: bool = False
    conv_norm: Literal["layer_norm", "group_norm"] = (
        "layer_norm"  # of the convolutions: one after each, or after the first a "group_norm"
    )
    norm_first: bool = True  # layers normalise what they hear, not what they say, as base does
    position_kernel: Kernel = 128
    position_groups: Heads = 16
    window_seconds: WindowSeconds = 8.0
    lookahead_seconds: LookaheadSeconds = 0.4
    group_frames: Kernel = 10

    def __post_init__(self) -> None:
        if self.dimension % self.heads or self.dimension % self.position_groups:
            raise ValueError(
                f"dimension is {self.dimension}: use a multiple of heads ({self.heads}) and of position_groups "
                f"({self.position_groups})"
            )

    def to_table(self) -> dict[str, Any]:
        """As a pack's [semantics] table holds it."""
        return asdict(self)


class HubertEncoder(ClusteredEncoder):
    """Audio at 16 kHz to semantic tokens; a `SemanticEncoder`."""

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        centroids: Tensor,
        config: HubertConfig = HubertConfig(),
        device: str = "cpu",
    ) -> None:
        """
        Args:
            tensors: by torchaudio's names, as `hubert_names` gives them.
            centroids: [token, dimension].
            config: the network's sizes and the stream's windows.
            device: where to compute; Large needs a GPU to keep up with a stream.

        Raises:
            ValueError: tensors are missing or have wrong shapes, or the window is too short; names all of it.
        """
        layout = hubert_layout(config)
        wrong = [f"{name} {list(shape)} is missing" for name, shape in layout.items() if name not in tensors]
        wrong += [line for name in layout if name in tensors for line in misfits(name, tensors[name], layout[name])]
        wrong += window_problems(config) + centroid_problems(centroids, config.dimension)
        if wrong:
            raise ValueError("this is no HuBERT of the given sizes: " + "; ".join(wrong))
        network = load_hubert({name: tensors[name] for name in layout}, config).to(device)
        super().__init__(HubertFeatures(network, config.layers), centroids, config, device)


class HubertFeatures:
    """The layer in use, of clips [row, sample] that are normalised by their own mean and variance, or by a stream's."""

    normalizes = True

    def __init__(self, network: Any, layer: int) -> None:
        self.network, self.layer = network, layer

    def whole(self, audio: Tensor) -> Tensor:
        return self.windowed(F.layer_norm(audio, audio.shape[-1:], eps=NORM_EPSILON))

    def windowed(self, audio: Tensor) -> Tensor:
        layers, _ = self.network.extract_features(F.pad(audio, (EDGE, EDGE)), num_layers=self.layer)
        features: Tensor = layers[-1]
        return features


def hubert_layout(config: HubertConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what `HubertEncoder` needs, by torchaudio's names; needs torchaudio itself."""
    with torch.device("meta"):
        network = _network(config)
    return {_plain(name): tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def hubert_names(tensors: Mapping[str, Tensor], config: HubertConfig) -> dict[str, Tensor]:
    """Tensors by torchaudio's names, from those or from Hugging Face's; layers above the one in use are left out."""
    renamed = {}
    for name, tensor in tensors.items():
        name = name.removeprefix("hubert.")
        if name.startswith("feature_projection."):
            name = "encoder." + name
        name = re.sub(r"^encoder\.(layers|pos_conv_embed|layer_norm)\.", r"encoder.transformer.\1.", name)
        layer = re.match(r"encoder\.transformer\.layers\.(\d+)\.", name)
        if layer is None or int(layer[1]) < config.layers:
            renamed[_plain(name)] = tensor
    return renamed


def load_hubert(tensors: Mapping[str, Tensor], config: HubertConfig) -> Any:
    """torchaudio's network for evaluation, with the tensors that `hubert_layout` names."""
    network = _network(config)
    network.load_state_dict({_parametrized(name): tensor for name, tensor in tensors.items()}, strict=True)
    return network.eval().requires_grad_(False)


def _network(config: HubertConfig) -> Any:  # torchaudio's Wav2Vec2Model
    channels = config.conv_channels
    return import_torchaudio().models.wav2vec2_model(
        extractor_mode=config.conv_norm,
        extractor_conv_layer_config=[(channels, 10, 5)] + [(channels, 3, 2)] * 4 + [(channels, 2, 2)] * 2,
        extractor_conv_bias=config.conv_bias,
        encoder_embed_dim=config.dimension,
        encoder_projection_dropout=0.0,
        encoder_pos_conv_kernel=config.position_kernel,
        encoder_pos_conv_groups=config.position_groups,
        encoder_num_layers=config.layers,
        encoder_num_heads=config.heads,
        encoder_attention_dropout=0.0,
        encoder_ff_interm_features=config.feed_forward,
        encoder_ff_interm_dropout=0.0,
        encoder_dropout=0.0,
        encoder_layer_norm_first=config.norm_first,
        encoder_layer_drop=0.0,
        aux_num_out=None,
    )


# The positional convolution is weight-normalised; torch stores its two halves by either pair of names.
_PARAMETRIZED = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}


def _plain(name: str) -> str:
    for long, short in _PARAMETRIZED.items():
        name = name.replace(long, short)
    return name


def _parametrized(name: str) -> str:
    for long, short in _PARAMETRIZED.items():
        name = name.replace(short, long)
    return name
