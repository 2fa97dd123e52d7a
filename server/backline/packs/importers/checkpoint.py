"""What every importer needs: tensors out of a file that nobody vouches for, and what a pack is made of."""

from __future__ import annotations

import argparse
import hashlib
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backline.models.errors import PackError
from backline.packs.pack import Pack

# What trainers leave beside the tensors and is nothing but data. Not numpy's numbers: their types believe any state
# that a pickle gives them.
Harmless = Callable[..., Any] | tuple[Callable[..., Any], str]  # the second: what stands for that name
HARMLESS: tuple[Harmless, ...] = (argparse.Namespace,)


@dataclass(frozen=True)
class Component:
    """One part of a pack: its table in pack.toml, its tensors by their names in the pack, and what to be wary of."""

    table: dict[str, Any]
    tensors: dict[str, Tensor]
    warnings: list[str] = field(default_factory=list)
    license: str = ""  # of the weights; "" where nobody has said, and so is the next
    origin: str = ""  # who has made them, and of what


@dataclass(frozen=True)
class Imported:
    """A pack that was written, and what to be wary of."""

    pack: Pack
    warnings: list[str]


def read_checkpoint(file: Path) -> dict[str, Tensor]:
    """The tensors of a file by name: .safetensors, or a torch file that holds tensors and plain data in containers.

    Raises:
        PackError: it cannot be read so, or holds no tensors by name.
    """
    return tensors_of(read_torch(file), file)


def tensors_of(content: Any, file: Path) -> dict[str, Tensor]:
    """The tensors by name in what `read_torch` found in a file.

    Raises:
        PackError: there are none, or some that are larger than what the file has of them.
    """
    for wrapper in ("state_dict", "model_state", "model_state_dict", "model"):  # what trainers put around the tensors
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    tensors = content if isinstance(content, Mapping) else {}
    found = {str(name): tensor for name, tensor in tensors.items() if isinstance(tensor, Tensor)}
    if not found:
        raise PackError(["it holds no tensors by name: give a checkpoint's state dict"], file.name)
    if hollow := [name for name, tensor in found.items() if not _held(tensor)]:
        told = f"it holds less of {', '.join(hollow[:8])} than their sizes say: give a checkpoint of plain tensors"
        raise PackError([told], file.name)
    return found


def _held(tensor: Tensor) -> bool:
    """Whether each number is there: a tensor of one number can be said to have any size, and a sparse one of none."""
    plain = tensor.device.type == "cpu" and tensor.layout == torch.strided
    return plain and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def read_torch(file: Path, harmless: Sequence[Harmless] = HARMLESS) -> Any:
    """What a torch or safetensors file holds.

    A torch file is a pickle, and a pickle can run code: only torch's restricted unpickler reads it here, which knows
    tensors, plain containers and `harmless`.

    Raises:
        PackError: it cannot be read so.
    """
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        with torch.serialization.safe_globals(list(harmless)):
            return torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise PackError(["there is no such file: give the path of a checkpoint"], str(file)) from None
    except pickle.UnpicklingError as error:
        raise PackError([_unread(file, error, harmless)], file.name) from error
    except Exception as error:  # whatever damage makes torch or safetensors stumble over
        raise PackError([f"it is no torch or safetensors file ({error}): download it again"], file.name) from error


def hash_warnings(file: Path, beginning: str, what: str) -> list[str]:
    """A warning where the file's SHA-256 does not begin as the official one's."""
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found.startswith(beginning):
        return []
    return [f"{file.name} is not the official {what} checkpoint (sha256 {found[:8]}..., that one is {beginning}...)"]


def _unread(file: Path, error: pickle.UnpicklingError, harmless: Sequence[Harmless]) -> str:
    """Which objects keep a file from being read, and what to do about it."""
    found = re.search(r"GLOBAL (\S+)", str(error))
    names = [found[1]] if found else []
    try:
        with torch.serialization.safe_globals(list(harmless)):
            names = torch.serialization.get_unsafe_globals_in_checkpoint(file) or names
    except Exception:  # older files list nothing; then the first one that was met is what we can name
        pass
    if not names:
        return "it is no torch file that can be read safely: download it again"
    return (
        f"it holds objects other than tensors, which may run code, so it is not read ({', '.join(sorted(names))}): "
        "where you trust it, load it with torch and save its tensors alone"
    )
