"""HuBERT and its k-means centroids as the semantic encoder of a pack."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from backline.codecs.hubert import HubertConfig, hubert_layout, hubert_names
from backline.models.errors import PackError
from backline.packs.importers.checkpoint import Component, read_checkpoint


def read_hubert(file: Path, centroids: Path, config: HubertConfig = HubertConfig()) -> Component:  # noqa: B008
    """The [semantics] table and the tensors "semantics.hubert.*" of a pack that listens through HuBERT.

    Args:
        centroids: k-means centroids [token, feature], .npy or .safetensors.
        file, config: as `read_network`.

    Raises:
        PackError: a file cannot be read or is something else; names everything that does not fit.
    """
    network = read_network(file, config)
    table = _read_centroids(centroids, config.dimension)
    tensors = {**network.tensors, "semantics.hubert.centroids": table}
    return Component({**network.table, "vocabulary": len(table)}, tensors)


def read_network(file: Path, config: HubertConfig = HubertConfig()) -> Component:  # noqa: B008
    """`read_hubert` without centroids.

    Args:
        file: `hubert_fairseq_large_ll60k.pth` (torchaudio's names) or a Hugging Face checkpoint of the same network.
        config: HuBERT Large, unless a checkpoint of another size is given.

    Raises:
        PackError: the file cannot be read or is something else; names everything that does not fit.
    """
    tensors = hubert_names(read_checkpoint(file), config)
    config = replace(config, conv_bias="feature_extractor.conv_layers.0.conv.bias" in tensors)  # as some exports have
    problems = []
    for name, shape in hubert_layout(config).items():
        if name not in tensors:
            problems.append(f"{name} {list(shape)} is missing")
        elif tuple(tensors[name].shape) != shape:
            problems.append(f"{name} is {list(tensors[name].shape)}, must be {list(shape)}")
    if problems:
        raise PackError([*problems, "give HuBERT Large, ll60k, by torchaudio's or Hugging Face's names"], file.name)
    kept = {f"semantics.hubert.{name}": tensors[name] for name in hubert_layout(config)}
    return Component({"kind": "hubert", **config.to_table()}, kept)


def _read_centroids(file: Path, dimension: int) -> Tensor:
    """[token, feature] float32."""
    if file.suffix == ".npy":
        try:
            table = torch.from_numpy(np.load(file, allow_pickle=False))
        except (OSError, ValueError) as error:
            raise PackError([f"the centroids cannot be read ({error}): give a plain .npy array"], file.name) from error
    elif file.suffix == ".safetensors":
        tensors = read_checkpoint(file)
        if len(tensors) != 1:
            raise PackError([f"it holds {len(tensors)} tensors: keep the centroids alone"], file.name)
        [table] = tensors.values()
    else:
        raise PackError([f"{file.suffix!r} centroids are not read: save them as .npy or .safetensors"], file.name)
    if table.dim() != 2 or table.shape[1] != dimension or not table.is_floating_point():
        shape, kind = list(table.shape), table.dtype
        raise PackError([f"the centroids are {kind} {shape}, must be floats [token, {dimension}]"], file.name)
    return table.to(torch.float32)
