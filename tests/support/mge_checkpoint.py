"""MGE-LDM's files in their published layout, small, with values from a formula that any program can repeat."""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from tests.support.hcodec_checkpoint import noise

AE_WIDTH, AE_MULTIPLES, AE_STRIDES, LATENT = 4, (1, 2, 3), (2, 4, 8), 4
TRACKS, WIDTH, HEAD, LAYERS, CONDITION, TIME = 3, 32, 32, 2, 8, 8
EXPANSION = 4
TEXT_LAYERS, TEXT_WIDTH, TEXT_FEED_FORWARD, VOCABULARY, POSITIONS = 2, 64, 96, 40, 20

Shapes = dict[str, tuple[int, ...]]


def autoencoder_shapes(
    channels: int = 1,
    width: int = AE_WIDTH,
    multiples: Sequence[int] = AE_MULTIPLES,
    strides: Sequence[int] = AE_STRIDES,
    latent: int = LATENT,
) -> Shapes:
    """Of unwrapped_AE.ckpt, and of Stable Audio's: convolutions under weight norm, in torch's older way."""
    found: Shapes = {}

    def conv(name: str, *shape: int, bias: int | None = None) -> None:
        found[f"{name}.weight_g"] = (shape[0], 1, 1)
        found[f"{name}.weight_v"] = shape
        if bias is not None:
            found[f"{name}.bias"] = (bias,)

    def snake(name: str, size: int) -> None:
        found[f"{name}.alpha"] = found[f"{name}.beta"] = (size,)

    def unit(name: str, size: int) -> None:
        snake(f"{name}.layers.0", size)
        conv(f"{name}.layers.1", size, size, 7, bias=size)
        snake(f"{name}.layers.2", size)
        conv(f"{name}.layers.3", size, size, 1, bias=size)

    sizes = [width, *(width * multiple for multiple in multiples)]
    conv("encoder.layers.0", sizes[0], channels, 7, bias=sizes[0])
    for at, ((narrow, wide), stride) in enumerate(zip(pairwise(sizes), strides, strict=True), 1):
        for place in range(3):
            unit(f"encoder.layers.{at}.layers.{place}", narrow)
        snake(f"encoder.layers.{at}.layers.3", narrow)
        conv(f"encoder.layers.{at}.layers.4", wide, narrow, 2 * stride, bias=wide)
    end = len(strides) + 1
    snake(f"encoder.layers.{end}", sizes[-1])
    conv(f"encoder.layers.{end + 1}", 2 * latent, sizes[-1], 3, bias=2 * latent)

    conv("decoder.layers.0", sizes[-1], latent, 7, bias=sizes[-1])
    for at, ((wide, narrow), stride) in enumerate(zip(pairwise(sizes[::-1]), strides[::-1], strict=True), 1):
        snake(f"decoder.layers.{at}.layers.0", wide)
        conv(f"decoder.layers.{at}.layers.1", wide, narrow, 2 * stride, bias=narrow)
        for place in range(2, 5):
            unit(f"decoder.layers.{at}.layers.{place}", narrow)
    snake(f"decoder.layers.{end}", sizes[0])
    conv(f"decoder.layers.{end + 1}", channels, sizes[0], 7)
    return found


def network_shapes(
    latent: int = LATENT,
    width: int = WIDTH,
    layers: int = LAYERS,
    condition: int = CONDITION,
    time: int = TIME,
) -> Shapes:
    """Of the diffusion transformer in unwrapped_DiT.ckpt, without what it is preceded by there, "model_dit."."""
    taken, wide, inner = TRACKS * latent, TRACKS * width, EXPANSION * TRACKS * width
    found: Shapes = {
        "timestep_features.weight": (time // 2, 1),
        "to_timestep_embed.1.weight": (wide, time, 1),
        "to_timestep_embed.1.bias": (wide,),
        "to_timestep_embed.3.weight": (wide, width, 1),
        "to_timestep_embed.3.bias": (wide,),
        "to_global_embed.1.weight": (TRACKS * condition, condition, 1),
        "to_global_embed.3.weight": (wide, condition, 1),
        "transformer.project_in.weight": (wide, taken),
        "transformer.project_out.weight": (taken, wide),
        "preprocess_conv.weight": (taken, taken, 1),
        "postprocess_conv.weight": (taken, taken, 1),
    }
    for layer in range(layers):
        at = f"transformer.layers.{layer}"
        found |= {
            f"{at}.pre_norm.gamma": (wide,),
            f"{at}.self_attn.to_qkv.weight": (3 * wide, wide),
            f"{at}.self_attn.to_out.weight": (wide, wide),
            f"{at}.ff_norm.gamma": (wide,),
            f"{at}.ff.ff.0.proj.weight": (2 * inner, wide),
            f"{at}.ff.ff.0.proj.bias": (2 * inner,),
            f"{at}.ff.ff.2.weight": (wide, inner),
            f"{at}.ff.ff.2.bias": (wide,),
            f"{at}.to_scale_shift_gate.2.weight": (6 * wide, width, 1),
        }
    return found


def text_shapes() -> Shapes:
    """Of the text branch in CLAP's music_audioset_epoch_15_esc_90.14.pt, without "module."."""
    size, inner = TEXT_WIDTH, TEXT_FEED_FORWARD
    found: Shapes = {
        "embeddings.word_embeddings.weight": (VOCABULARY, size),
        "embeddings.position_embeddings.weight": (POSITIONS, size),
        "embeddings.token_type_embeddings.weight": (1, size),
        "embeddings.LayerNorm.weight": (size,),
        "embeddings.LayerNorm.bias": (size,),
    }
    for layer in range(TEXT_LAYERS):
        at = f"encoder.layer.{layer}"
        for name, given, taken in (
            ("attention.self.query", size, size),
            ("attention.self.key", size, size),
            ("attention.self.value", size, size),
            ("attention.output.dense", size, size),
            ("intermediate.dense", inner, size),
            ("output.dense", size, inner),
        ):
            found |= {f"{at}.{name}.weight": (given, taken), f"{at}.{name}.bias": (given,)}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            found |= {f"{at}.{name}.weight": (size,), f"{at}.{name}.bias": (size,)}
    found |= {"pooler.dense.weight": (size, size), "pooler.dense.bias": (size,)}
    found = {f"text_branch.{name}": shape for name, shape in found.items()}
    return found | {
        "text_projection.0.weight": (CONDITION, size),
        "text_projection.0.bias": (CONDITION,),
        "text_projection.2.weight": (CONDITION, CONDITION),
        "text_projection.2.bias": (CONDITION,),
    }


def valued(shapes: Shapes, seed: int) -> dict[str, Tensor]:
    """Tensors of these shapes, so large that everything in them can be heard."""
    return {name: _values(seed + number, name, shape) for number, (name, shape) in enumerate(sorted(shapes.items()))}


def autoencoder() -> dict[str, Tensor]:
    return valued(autoencoder_shapes(), 1000)


def network() -> dict[str, Tensor]:
    """With the buffers that a checkpoint has: of the norms, and of the rotary positions."""
    tensors = valued(network_shapes(), 3000)
    tensors |= {name.replace("gamma", "beta"): torch.zeros(len(tensors[name])) for name in tensors if "gamma" in name}
    tensors["transformer.rotary_pos_emb.inv_freq"] = 1 / 10_000 ** (torch.arange(0, HEAD, 2).float() / HEAD)
    return tensors


def write_autoencoder(path: Path) -> Path:
    torch.save({"state_dict": autoencoder()}, path)
    return path


def write_network(path: Path, with_autoencoder: bool = True) -> Path:
    """unwrapped_DiT.ckpt: the transformer, and the autoencoder that it was trained with."""
    tensors = {f"model_dit.{name}": tensor for name, tensor in network().items()}
    if with_autoencoder:
        tensors |= {f"pretransform.model.{name}": tensor for name, tensor in autoencoder().items()}
    torch.save({"state_dict": tensors}, path)
    return path


def write_clap(path: Path) -> Path:
    """As CLAP's trainer writes it: everything under "module.", with the other branch and the optimizer's leavings."""
    tensors = valued(text_shapes(), 5000)
    tensors["text_branch.embeddings.position_ids"] = torch.arange(POSITIONS)[None]
    tensors |= {"audio_branch.patch_embed.proj.weight": torch.zeros(2, 1, 4, 4), "logit_scale_a": torch.tensor(2.0)}
    tensors |= {"text_transform.sequential.0.weight": torch.zeros(CONDITION, CONDITION)}
    torch.save({"epoch": 15, "name": "music", "state_dict": {f"module.{n}": t for n, t in tensors.items()}}, path)
    return path


def write_tokenizer(folder: Path) -> Path:
    """A byte-level BPE of a few letters, in RoBERTa's two files."""
    folder.mkdir()
    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *"abcdefghijklmnopqrstuvwxyz", "Ġ", "th", "Ġb", "ss"]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\nt h\nĠ b\ns s\n")
    return folder


def _values(seed: int, name: str, shape: tuple[int, ...]) -> Tensor:
    if name.endswith("gamma") or "LayerNorm.weight" in name:
        return 1 + noise(seed, 0.3, *shape)
    if name.endswith("weight_g"):
        return 0.5 + noise(seed, 0.1, *shape)
    if name.endswith(("alpha", "beta", "bias")):
        return noise(seed, 0.3, *shape)
    if name == "timestep_features.weight":
        return noise(seed, 1.0, *shape)
    fan_in = torch.tensor(shape[1:]).prod().item()
    return noise(seed, 0.7 * fan_in**-0.5, *shape)
