"""What the published HCodec's semantic path hears: the mean of HuBERT base's hidden states, magnitudes compressed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backline.codecs.clustered import HOP, SAMPLE_RATE
from backline.codecs.hubert import HubertConfig, hubert_layout, load_hubert
from backline.codecs.torchaudio_import import import_torchaudio
from backline.nn.weights import misfits

EDGE = 160  # samples at HuBERT's rate, before and after: it then has a frame for each HOP
COMPRESSION = 0.3  # exponent of the magnitudes
HEAD_WIDTH = 64
HUBERT_BASE = HubertConfig(
    layers=12, dimension=768, heads=12, feed_forward=3072, conv_norm="group_norm", norm_first=False
)


class HubertFeatures(nn.Module):
    """[row, 1, sample] -> [row, feature, hop], heard as a whole. It learns nothing, and no checkpoint holds it."""

    def __init__(self, tensors: Mapping[str, Tensor], width: int, sample_rate: int, hop: int) -> None:
        """
        Args:
            tensors: by torchaudio's names, as `hubert_names` gives them.
            width: of the features that are wanted.
            sample_rate: Hz, of what it hears.
            hop: samples, of which each is to have a frame.

        Raises:
            ValueError: tensors are missing or do not fit; names all of it.
        """
        super().__init__()
        config = base_config(tensors)
        layout = hubert_layout(config)
        wrong = [f"{name} {list(shape)} is missing" for name, shape in layout.items() if name not in tensors]
        wrong += [line for name in layout if name in tensors for line in misfits(name, tensors[name], layout[name])]
        if config.dimension != width:
            wrong.append(f"its states are {config.dimension} wide, {width} are to be heard")
        if SAMPLE_RATE * hop != HOP * sample_rate:
            wrong.append(f"a hop of {hop} at {sample_rate} Hz is not one of its frames, 1/50 s")
        if wrong:
            raise ValueError("this is no HuBERT base for this network: " + "; ".join(wrong))
        self.sample_rate = sample_rate
        self.tensors = {name: tensors[name] for name in layout}  # as a pack has them
        self._network = (load_hubert({name: tensor.float() for name, tensor in self.tensors.items()}, config),)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> HubertFeatures:
        """Moves with what it belongs to, though it is no part of its weights: hence the tuple."""
        self._network[0]._apply(fn, recurse)
        super()._apply(fn, recurse)
        return self

    def resident_bytes(self) -> int:
        return sum(weight.numel() * weight.element_size() for weight in self._network[0].parameters())

    @torch.no_grad()
    def forward(self, audio: Tensor) -> Tensor:
        resample = import_torchaudio().functional.resample
        heard = F.pad(resample(audio[:, 0], self.sample_rate, SAMPLE_RATE), (EDGE, EDGE))
        network = self._network[0]
        encoder = network.encoder
        x = encoder.feature_projection(network.feature_extractor(heard, None)[0])  # [row, hop, feature]
        transformer = encoder.transformer
        x = transformer.layer_norm(x + transformer.pos_conv_embed(x))
        total = x
        for layer in transformer.layers:
            x, _ = layer(x)
            total = total + x
        mean = total / (len(transformer.layers) + 1)
        return (mean.sign() * mean.abs() ** COMPRESSION).transpose(1, 2)


def base_config(tensors: Mapping[str, Tensor]) -> HubertConfig:
    """HuBERT base, of the sizes that tensors by torchaudio's names have; the real one's where they say nothing."""

    def size(name: str, axis: int, default: int) -> int:
        found = tensors.get(name)
        return default if found is None or found.dim() <= axis else found.shape[axis]

    layer = "encoder.transformer.layers."
    numbers = [int(name.split(".")[3]) for name in tensors if name.startswith(layer)]
    dimension = size("encoder.feature_projection.projection.weight", 0, HUBERT_BASE.dimension)
    return replace(
        HUBERT_BASE,
        layers=max(numbers) + 1 if numbers else HUBERT_BASE.layers,
        dimension=dimension,
        heads=max(1, dimension // HEAD_WIDTH),
        feed_forward=size(f"{layer}0.feed_forward.intermediate_dense.weight", 0, HUBERT_BASE.feed_forward),
        conv_channels=size("feature_extractor.conv_layers.0.conv.weight", 0, HUBERT_BASE.conv_channels),
        conv_bias="feature_extractor.conv_layers.0.conv.bias" in tensors,
        position_kernel=size("encoder.transformer.pos_conv_embed.conv.weight_v", 2, HUBERT_BASE.position_kernel),
    )
