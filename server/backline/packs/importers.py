"""Makes packs of other people's checkpoints, once, from local files: nothing is downloaded, and no pickled code runs.

    import_encodec(Path("encodec_24khz-d7cc33bc.th"), user_packs() / "encodec-24khz")

Every tensor is checked by name and shape, and all that does not fit is reported at once.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backline.codecs.encodec import (
    CODEBOOKS_IN_CHECKPOINT,
    HOP,
    SAMPLE_RATE,
    EncodecStream,
    checkpoint_layout,
    layout_mismatches,
)
from backline.codecs.hubert import HubertConfig, hubert_layout, hubert_names
from backline.models.errors import PackError
from backline.packs.pack import Pack, write_pack

# As the official files are named: the beginning of their SHA-256.
ENCODEC_HASH = "d7cc33bc"
ENCODEC_UNUSED = ("inited", "cluster_size", "embed_avg")  # statistics that the quantiser was trained with


@dataclass(frozen=True)
class Component:
    """One part of a pack: its table in pack.toml, its tensors by their names in the pack, and what to be wary of."""

    table: dict[str, Any]
    tensors: dict[str, Tensor]
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Imported:
    """A pack that was written, and what to be wary of."""

    pack: Pack
    warnings: list[str]


def import_encodec(file: Path, folder: Path, codebooks: int = 8) -> Imported:
    """Writes the pack `folder` from the official EnCodec 24 kHz checkpoint; its family plays the codec by itself.

    Args:
        file: `encodec_24khz-d7cc33bc.th`, or another file of the same layout.
        folder: the pack's own folder, e.g. user_packs() / "encodec-24khz".
        codebooks: to keep; 8 make 6 kbit/s.

    Raises:
        PackError: the file cannot be read or is not EnCodec 24 kHz; names everything that does not fit.
    """
    component = read_encodec(file, codebooks)
    config = {
        "name": "encodec-24khz",
        "version": "1.0.0",
        "family": "codec",
        "description": f"EnCodec 24 kHz at {0.75 * codebooks:g} kbit/s, imported from {file.name}",
        "license": "as the imported checkpoint; see https://github.com/facebookresearch/encodec",
        "codec": component.table,
    }
    return Imported(write_pack(folder, config, component.tensors), component.warnings)


def read_encodec(file: Path, codebooks: int = 8) -> Component:
    """The [codec] table and the tensors "codec.*" of a pack that plays through EnCodec. Raises PackError."""
    if not 1 <= codebooks <= CODEBOOKS_IN_CHECKPOINT:
        raise PackError([f"{codebooks} codebooks: EnCodec 24 kHz has 1 to {CODEBOOKS_IN_CHECKPOINT}"], file.name)
    tensors = read_checkpoint(file)
    layout = checkpoint_layout()
    problems = layout_mismatches(tensors, CODEBOOKS_IN_CHECKPOINT)
    problems += [
        f"{name} is not part of EnCodec 24 kHz"
        for name in tensors
        if name not in layout and name.rpartition(".")[2] not in ENCODEC_UNUSED
    ]
    if problems:
        raise PackError([*problems, "give the official encodec_24khz checkpoint"], file.name)
    warnings = _hash_warnings(file, ENCODEC_HASH, "EnCodec 24 kHz")
    table = {
        "kind": "encodec",
        "sample_rate": SAMPLE_RATE,
        "hop": HOP,
        "codebooks": codebooks,
        "codebook_size": EncodecStream.codebook_size,
    }
    return Component(table, {f"codec.{name}": tensors[name] for name in checkpoint_layout(codebooks)}, warnings)


def read_hubert(file: Path, centroids: Path, config: HubertConfig = HubertConfig()) -> Component:  # noqa: B008
    """The [semantics] table and the tensors "semantics.hubert.*" of a pack that listens through HuBERT.

    Args:
        file: `hubert_fairseq_large_ll60k.pth` (torchaudio's names) or a Hugging Face checkpoint of the same network.
        centroids: k-means centroids [token, feature], .npy or .safetensors.
        config: HuBERT Large, unless a checkpoint of another size is given.

    Raises:
        PackError: a file cannot be read or is something else; names everything that does not fit.
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
    table = _read_centroids(centroids, config.dimension)
    kept = {f"semantics.hubert.{name}": tensors[name] for name in hubert_layout(config)}
    kept["semantics.hubert.centroids"] = table
    return Component({"kind": "hubert", "vocabulary": len(table), **config.to_table()}, kept)


def read_checkpoint(file: Path) -> dict[str, Tensor]:
    """The tensors of a file by name: .safetensors, or a torch file that holds nothing but tensors in containers.

    A torch file is a pickle, and a pickle can run code: only torch's restricted unpickler reads it here.

    Raises:
        PackError: it cannot be read so, or holds no tensors by name.
    """
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise PackError(["there is no such file: give the path of a checkpoint"], str(file)) from None
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0] if str(error) else "not a pickle of tensors"
        raise PackError(
            [f"it holds objects other than tensors, which may run code, so it is not read ({reason})"], file.name
        ) from error
    except Exception as error:  # whatever damage makes torch or safetensors stumble over
        raise PackError([f"it is no torch or safetensors file ({error}): download it again"], file.name) from error
    for wrapper in ("state_dict", "model_state", "model"):  # what trainers put around the tensors
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    tensors = content if isinstance(content, Mapping) else {}
    found = {str(name): tensor for name, tensor in tensors.items() if isinstance(tensor, Tensor)}
    if not found:
        raise PackError(["it holds no tensors by name: give a checkpoint's state dict"], file.name)
    return found


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


def _hash_warnings(file: Path, beginning: str, what: str) -> list[str]:
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found.startswith(beginning):
        return []
    return [f"{file.name} is not the official {what} checkpoint (sha256 {found[:8]}..., that one is {beginning}...)"]
