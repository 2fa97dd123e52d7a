"""Stable Audio's autoencoder out of a checkpoint of stable-audio-tools, or of a trainer that uses its layout.

Names are ours (codecs/vae/oobleck.py), but that weight norm holds a convolution's weight as a length and a direction,
by either of the names that torch has had for these.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict

import torch
from torch import Tensor

from backline.codecs.vae.config import OobleckConfig
from backline.codecs.vae.load import PREFIX
from backline.codecs.vae.oobleck import Oobleck
from backline.models.errors import PackError
from backline.nn.tables import TableError, read_table
from backline.nn.weights import mismatches
from backline.packs.importers.checkpoint import Component

PAIRS = ((".weight_g", ".weight_v"), (".parametrizations.weight.original0", ".parametrizations.weight.original1"))
LEVEL_END = 4  # place of the strided convolution in an encoder's level


def read_oobleck(tensors: Mapping[str, Tensor], sample_rate: int, where: str) -> Component:
    """The [vae] table and the tensors "vae.*" of a pack; sizes are those of the tensors.

    Args:
        tensors: "encoder.…" and "decoder.…".
        sample_rate: Hz, which no tensor tells.
        where: the file, for messages.

    Raises:
        PackError: with everything that does not fit.
    """
    given = folded(tensors, where)
    config = _sizes(given, sample_rate, where)
    with torch.device("meta"):
        wanted = Oobleck(config).state_dict()
    if problems := mismatches(wanted, given, ""):
        raise PackError(problems, where)
    return Component({"kind": "oobleck", **asdict(config)}, {PREFIX + name: given[name] for name in wanted})


def folded(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """With each weight in one tensor. Raises PackError: one of its two parts is missing, or does not fit the other."""
    found = dict(tensors)
    problems = []
    for length_end, direction_end in PAIRS:
        ends = (length_end, direction_end)
        for base in dict.fromkeys(name.removesuffix(end) for name in tensors for end in ends if name.endswith(end)):
            length, direction = (found.pop(base + end, None) for end in ends)
            if length is None or direction is None:
                problems.append(f"{base + (length_end if length is None else direction_end)} is missing")
            elif direction.dim() != 3:
                problems.append(f"{base + direction_end} is {list(direction.shape)}, must have three axes")
            elif tuple(length.shape) != (len(direction), 1, 1):
                problems.append(f"{base + length_end} is {list(length.shape)}, must be {[len(direction), 1, 1]}")
            else:
                norm = direction.double().flatten(1).norm(dim=1).view_as(length)
                found[f"{base}.weight"] = (length.double() * direction.double() / norm).to(direction.dtype)
    if problems:
        raise PackError(problems, where)
    return found


def _sizes(given: Mapping[str, Tensor], sample_rate: int, where: str) -> OobleckConfig:
    """Raises PackError: they tell of no such network."""
    levels = {int(found[1]) for name in given if (found := re.match(r"encoder\.layers\.(\d{1,6})\.layers\.", name))}
    first, downs = given.get("encoder.layers.0.weight"), []
    for level in sorted(levels):
        downs.append(given.get(f"encoder.layers.{level}.layers.{LEVEL_END}.weight"))
    last = given.get(f"encoder.layers.{len(levels) + 2}.weight")
    strided = [down for down in downs if down is not None and down.dim() == 3 and not down.shape[2] % 2]
    if first is None or first.dim() != 3 or last is None or not levels or len(strided) < len(downs):
        raise PackError(["it holds no autoencoder in the layout of stable-audio-tools: give another file"], where)
    width = len(first)
    sizes = {
        "sample_rate": sample_rate,
        "audio_channels": first.shape[1],
        "width": width,
        "multiples": [len(down) // max(1, width) for down in strided],
        "strides": [down.shape[2] // 2 for down in strided],
        "latent_channels": len(last) // 2 if last.dim() else 0,
    }
    try:
        return read_table(OobleckConfig, sizes, "vae")
    except TableError as error:
        raise PackError(error.problems, where) from error
