"""A VAE from its [vae] table and its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from backline.codecs.vae.config import Config, OobleckConfig, read_vae_table
from backline.codecs.vae.oobleck import Oobleck
from backline.codecs.vae.spectral import SpectralVae
from backline.nn.weights import filled, part

PREFIX = "vae."


def make(config: Config) -> Oobleck | SpectralVae:
    """The network of these sizes, with weights that chance gives."""
    return Oobleck(config) if isinstance(config, OobleckConfig) else SpectralVae(config)


def load(table: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Oobleck | SpectralVae:
    """The VAE in float32 and evaluation mode, without gradients; tensors that are float32 already are not copied.

    Args:
        table: "kind" is "oobleck" or "spectral", the rest are fields of that one's configuration.
        tensors: named `vae.…`, of any floating type; others are left alone.

    Raises:
        ValueError: table or tensors do not fit; every mismatch is named.
    """
    config = read_vae_table(table)
    return filled(lambda: make(config), part(tensors, PREFIX), PREFIX).eval().requires_grad_(False)


def packed(vae: Oobleck | SpectralVae, dtype: torch.dtype = torch.float16) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a pack carries of a VAE: the [vae] table, and tensors named `vae.…`."""
    kind = "oobleck" if isinstance(vae, Oobleck) else "spectral"
    values = vae.state_dict().items()
    tensors = {PREFIX + name: value.detach().to("cpu", dtype).contiguous() for name, value in values}
    return {"kind": kind, **asdict(vae.config)}, tensors
