"""A checkpoint in HCodec 2.0's published layout, small, with values from a formula that any program can repeat."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from backline.codecs.hubert import HubertConfig, hubert_layout

WIDTH, FEED_FORWARD, LATENT, FEATURES, SEMANTIC = 128, 96, 16, 24, 20
CODEBOOKS, ENTRIES = 3, 32
ENCODER_BLOCKS, DECODER_BLOCKS, TRANSFORMER_LAYERS = 2, 3, 2
WINDOW = 1920
BINS = WINDOW + 2  # magnitudes and phases


def write_published_layout(path: Path) -> Path:
    """Saves it at `path`, as the published file is: a flat dictionary."""
    torch.save(published_checkpoint(), path)
    return path


def published_checkpoint() -> dict[str, Tensor]:
    shapes = published_shapes()
    tensors = {name: _values(index, name, shapes[name]) for index, name in enumerate(sorted(shapes))}
    window = torch.hann_window(WINDOW)
    return tensors | {"encoder.stft.window": window, "decoder.head.istft.window": window.clone()}


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes, without the two windows."""
    found: dict[str, tuple[int, ...]] = {}

    def weight(name: str, *shape: int, bias: bool = True) -> None:
        found[f"{name}.weight"] = shape
        if bias:
            found[f"{name}.bias"] = shape[:1]

    def convnext(name: str) -> None:
        found[f"{name}.gamma"] = (WIDTH,)
        weight(f"{name}.dwconv.conv", WIDTH, 1, 7)
        weight(f"{name}.norm", WIDTH)
        weight(f"{name}.pwconv1.linear", FEED_FORWARD, WIDTH)
        weight(f"{name}.pwconv2.linear", WIDTH, FEED_FORWARD)

    def residual(name: str) -> None:
        for half in (1, 2):
            weight(f"{name}.norm{half}", WIDTH)
            weight(f"{name}.conv{half}.conv", WIDTH, WIDTH, 3)

    def transformer(name: str) -> None:
        for layer in range(TRANSFORMER_LAYERS):
            at = f"{name}.layers.{layer}"
            for side in ("ih", "hh"):
                found[f"{at}.self_attn.rnn.weight_{side}_l0"] = (4 * WIDTH, WIDTH)
                found[f"{at}.self_attn.rnn.bias_{side}_l0"] = (4 * WIDTH,)
            for letter in "qkv":
                weight(f"{at}.self_attn.{letter}_proj", WIDTH, WIDTH)
            weight(f"{at}.self_attn.o_proj", WIDTH, WIDTH, bias=False)
            weight(f"{at}.mlp.w1", 4 * WIDTH, WIDTH, bias=False)
            weight(f"{at}.mlp.w2", WIDTH, 4 * WIDTH, bias=False)
            weight(f"{at}.mlp.w3", 4 * WIDTH, WIDTH, bias=False)
            weight(f"{at}.input_layernorm", WIDTH, bias=False)
            weight(f"{at}.post_attention_layernorm", WIDTH, bias=False)

    def units(name: str) -> None:
        for unit in range(2):
            weight(f"{name}.res_units.{unit}.conv1.conv", SEMANTIC, SEMANTIC, 3, bias=False)
            weight(f"{name}.res_units.{unit}.conv2", SEMANTIC, SEMANTIC, 1, bias=False)

    weight("encoder.embed.conv", WIDTH, BINS, 3)
    weight("encoder.norm", WIDTH)
    for block in range(ENCODER_BLOCKS):
        convnext(f"encoder.prior_net.{block}")
    transformer("encoder.post_net.1")
    weight("encoder.final_layer_norm", WIDTH)
    weight("encoder.out.conv", LATENT, WIDTH, 9)

    weight("decoder.embed.conv", WIDTH, 2 * LATENT, 5)
    for at in (0, 1, 5, 6):
        residual(f"decoder.prior_net.{at}")
    transformer("decoder.prior_net.3")
    weight("decoder.prior_net.7", WIDTH)
    weight("decoder.norm", WIDTH)
    for block in range(DECODER_BLOCKS):
        convnext(f"decoder.post_net.{block}")
    weight("decoder.final_layer_norm", WIDTH)
    weight("decoder.head.out", BINS, WIDTH)

    weight("semantic_encoder.conv.conv", SEMANTIC, FEATURES, 3, bias=False)
    weight("semantic_encoder.conv2.conv", LATENT, SEMANTIC, 3, bias=False)
    weight("semantic_decoder.conv1.conv", SEMANTIC, LATENT, 3, bias=False)
    weight("semantic_decoder.conv2.conv", FEATURES, SEMANTIC, 3, bias=False)
    for block, kernel in enumerate((4, 3, 4)):
        units(f"semantic_encoder.conv_blocks.{block}")
        weight(f"semantic_encoder.conv_blocks.{block}.conv.conv", SEMANTIC, SEMANTIC, kernel)
        units(f"semantic_decoder.conv_blocks.{block}")
        kind = "conv" if kernel == 3 else "deconv"
        weight(f"semantic_decoder.conv_blocks.{block}.conv.{kind}", SEMANTIC, SEMANTIC, kernel)

    for quantizer in ("quantizer", "semantic_quantizer"):
        for layer in range(CODEBOOKS):
            at = f"{quantizer}.layers.{layer}._codebook"
            found[f"{at}.initted"] = (1,)
            found[f"{at}.cluster_size"] = (1, ENTRIES)
            found[f"{at}.embed_avg"] = (1, ENTRIES, LATENT)
            found[f"{at}.embed"] = (1, ENTRIES, LATENT)
    return found


def spread(seed: int, count: int) -> np.ndarray:
    """Numbers of variance 1, spread like noise: a hash of their indices."""
    x = np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B1)
    x ^= np.uint32((seed * 0x85EBCA6B) & 0xFFFFFFFF)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x ^= x >> np.uint32(shift)
        x *= np.uint32(factor)
    x ^= x >> np.uint32(16)
    return (x / 2.0**32 - 0.5) * 12**0.5


def noise(seed: int, level: float, *shape: int) -> Tensor:
    return torch.from_numpy(level * spread(seed, int(np.prod(shape)))).float().reshape(shape)


def _values(index: int, name: str, shape: tuple[int, ...]) -> Tensor:
    if name.endswith("initted"):
        return torch.ones(shape)
    if "_codebook" in name:
        return noise(index, 0.5, *shape)
    if len(shape) > 1:
        return noise(index, 1.2 / float(np.prod(shape[1:])) ** 0.5, *shape)
    scales = name.endswith("gamma") or (("norm" in name or "prior_net.7" in name) and name.endswith("weight"))
    return noise(index, 0.2, *shape) + (1.0 if scales else 0.0)


HUBERT = HubertConfig(
    layers=3,
    dimension=128,
    heads=2,
    feed_forward=96,
    conv_channels=32,
    conv_norm="group_norm",
    norm_first=False,
)


def write_hubert_base(path: Path) -> Path:
    """A HuBERT base of HUBERT's sizes by Hugging Face's names."""
    torch.save(hubert_checkpoint(), path)
    return path


def hubert_checkpoint() -> dict[str, Tensor]:
    shapes = {}
    for name, shape in hubert_layout(HUBERT).items():
        name = name.replace("encoder.transformer.", "encoder.").replace("encoder.feature_proj", "feature_proj")
        shapes[name] = shape
    tensors = {}
    for index, name in enumerate(sorted(shapes)):
        scales = ("norm" in name and name.endswith("weight")) or name.endswith("weight_g")
        level = 1.0 / float(np.prod(shapes[name][1:])) ** 0.5 if len(shapes[name]) > 1 and not scales else 0.2
        tensors[name] = noise(2000 + index, level, *shapes[name]) + (1.0 if scales else 0.0)
    return tensors | {"masked_spec_embed": torch.zeros(HUBERT.dimension)}
