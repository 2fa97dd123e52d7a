"""Weights of torch modules as the fused step takes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backline.nn.transformer import Transformer

Floats = NDArray[np.float32]


def transformer_arrays(transformer: Transformer) -> dict[str, Any]:
    """What the fused step takes of a transformer, by the names of StageArrays; layers stacked."""

    def stacked(name: str) -> Floats:
        return as_array(torch.stack([block.get_parameter(name) for block in transformer.blocks]))

    config, qkv = transformer.config, stacked("qkv.weight")
    if config.kv_heads:  # the step knows one of keys and values for every head
        heads = np.arange(config.heads + 2 * config.kv_heads)
        keys = heads[config.heads :].reshape(2, -1).repeat(config.heads // config.kv_heads, axis=1)
        order = np.concatenate([heads[: config.heads], keys.ravel()])
        qkv = qkv.reshape(config.layers, len(heads), config.head_width, -1)[:, order].reshape(
            config.layers, -1, config.width
        )
    return {
        "norm1": stacked("norm1.weight"),
        "qkv": np.ascontiguousarray(qkv),
        "q_norm": stacked("q_norm.weight"),
        "k_norm": stacked("k_norm.weight"),
        "out": stacked("out.weight"),
        "norm2": stacked("norm2.weight"),
        "gate": stacked("gate.weight"),
        "up": stacked("up.weight"),
        "down": stacked("down.weight"),
        "norm": as_array(transformer.norm.weight),
        "bias": as_array(transformer.bias),
        "max_distance": transformer.config.max_distance,
        "norm_epsilon": transformer.config.norm_epsilon,
    }


def as_array(tensor: Tensor) -> Floats:
    return np.ascontiguousarray(tensor.detach().cpu().float().numpy())
