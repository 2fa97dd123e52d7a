"""A NISQA checkpoint in the layout of `weights/nisqa.tar` of gabrielmittag/NISQA, with random weights."""

from itertools import pairwise
from math import prod
from pathlib import Path

import torch
from torch import Tensor

SETTINGS = {
    "name": "NISQAv2",
    "model": "NISQA_DIM",
    "ms_sr": None,
    "ms_fmax": 20_000,
    "ms_n_fft": 4096,
    "ms_hop_length": 0.01,
    "ms_win_length": 0.02,
    "ms_n_mels": 48,
    "ms_seg_length": 15,
    "ms_seg_hop_length": 4,
    "cnn_kernel_size": (3, 3),
    "td_sa_nhead": 1,
}


def layout() -> dict[str, tuple[int, ...]]:
    """Names and shapes as published."""
    widths = [1, 16, 32, 64, 64, 64, 64]
    shapes: dict[str, tuple[int, ...]] = {}
    for number, (before, width) in enumerate(pairwise(widths), 1):
        shapes |= {f"cnn.model.conv{number}.weight": (width, before, 3, 3), f"cnn.model.conv{number}.bias": (width,)}
        shapes |= {f"cnn.model.bn{number}.{part}": (width,) for part in ("weight", "bias")}
        shapes |= {f"cnn.model.bn{number}.running_{part}": (width,) for part in ("mean", "var")}
        shapes[f"cnn.model.bn{number}.num_batches_tracked"] = ()
    encoder = "time_dependency.model."
    linear = {f"{encoder}linear": (64, 384)}
    norms = [f"{encoder}norm1"]
    for layer in (f"{encoder}layers.{number}." for number in range(2)):
        shapes |= {f"{layer}self_attn.in_proj_weight": (192, 64), f"{layer}self_attn.in_proj_bias": (192,)}
        linear |= {f"{layer}{name}": (64, 64) for name in ("self_attn.out_proj", "linear1", "linear2")}
        norms += [f"{layer}norm1", f"{layer}norm2"]
    for pool in (f"pool_layers.{number}.model." for number in range(5)):
        linear |= {f"{pool}linear1": (128, 64), f"{pool}linear2": (1, 128), f"{pool}linear3": (1, 64)}
    for name, shape in linear.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes | {f"{name}.{part}": (64,) for name in norms for part in ("weight", "bias")}


def random_tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    tensors: dict[str, Tensor] = {}
    for name, shape in layout().items():
        drawn = torch.randn(shape, generator=generator)
        if name.endswith("tracked"):
            tensors[name] = torch.tensor(7)
        elif len(shape) > 1:
            tensors[name] = drawn * prod(shape[1:]) ** -0.5
        else:  # what scales stays positive
            tensors[name] = 0.2 * drawn if name.endswith(("bias", "mean")) else 1 + 0.2 * drawn.abs()
    return tensors


def write_nisqa(file: Path) -> Path:
    torch.save({"args": SETTINGS, "model_state_dict": random_tensors()}, file)
    return file
