"""A Demucs as its authors publish it (955717e8-8726e21a.th) as a pack; playing it needs the package `demucs`.

    import_demucs(Path("955717e8-8726e21a.th"))

The file is a pickle of a class, its arguments and its weights. Only torch's restricted unpickler reads it, and
the names of classes stand for names: no class is made by it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from backline.models.demucs.load import pack_config
from backline.models.demucs.network import KINDS, STEP, DemucsConfig, make_network, package_class
from backline.models.errors import PackError
from backline.models.windowed.settings import port_order
from backline.nn.weights import mismatches
from backline.packs.importers.checkpoint import Harmless, Imported, hash_warnings, read_torch
from backline.packs.pack import write_pack
from backline.packs.places import user_packs

GIVE = "give a single HTDemucs or HDemucs as Demucs publishes it, such as 955717e8-8726e21a.th"
LONGEST_WINDOW = 10  # seconds
NAMES = {"955717e8": "htdemucs", "5c90dfd2": "htdemucs-6s", "75fc33f5": "hdemucs-mmi"}  # by demucs/remote/*.yaml


def _fraction(*parts: object) -> str:
    """In place of fractions.Fraction, which pickles as a text or as two numbers: pack.toml has it as a text."""
    return "/".join(map(str, parts))


MARKERS: dict[str, type] = {kind: type(kind, (), {}) for kind in KINDS}
HARMLESS: tuple[Harmless, ...] = (
    (_fraction, "fractions.Fraction"),
    *((MARKERS[kind], f"demucs.{kind.lower()}.{kind}") for kind in KINDS),
)


def import_demucs(file: Path, folder: Path | None = None) -> Imported:
    """Writes the pack `folder` from one model of Demucs; without a folder, among the user's own packs, by its name.

    Raises:
        PackError: the file is no such model; names everything that does not fit. Or the package is not installed.
    """
    kind, arguments, state = _package(file)
    try:
        network = make_network(kind, arguments)
    except ValueError as error:
        raise PackError([str(error)], file.name) from error
    if problems := mismatches(network.state_dict(), state, ""):
        raise PackError([*problems, GIVE], file.name)
    window = min(LONGEST_WINDOW, network.segment) * network.samplerate
    tracks = port_order(arguments["sources"])
    sizes = DemucsConfig(kind, tracks, network.samplerate, network.audio_channels, int(window) // STEP)  # type: ignore[arg-type]
    description = f"{kind}, {len(tracks)} stems, imported from {file.name}"
    name = NAMES.get(file.stem.partition("-")[0], kind.lower())
    config = pack_config(name, description, sizes, arguments)
    _, _, checksum = file.stem.partition("-")  # as they name their files
    warnings = hash_warnings(file, checksum, kind) if checksum else []
    tensors = {f"demucs.{name}": tensor for name, tensor in state.items()}
    return Imported(write_pack(folder or user_packs() / name, config, tensors), warnings)


def _package(file: Path) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """Its class, the arguments that it is made with by name, and its weights. Raises PackError."""
    content = read_torch(file, HARMLESS)
    whole = isinstance(content, Mapping) and {"klass", "args", "kwargs", "state"} <= content.keys()
    kind = next((kind for kind, marker in MARKERS.items() if whole and content["klass"] is marker), None)
    if kind is None or not isinstance(content["state"], Mapping):
        raise PackError([f"it is no model of Demucs: {GIVE}"], file.name)
    if content["state"].get("__quantized"):
        raise PackError([f"its weights are quantised: {GIVE}"], file.name)
    state = {str(name): tensor for name, tensor in content["state"].items() if isinstance(tensor, Tensor)}
    try:
        known = inspect.signature(package_class(kind))
        kwargs = {name: value for name, value in content["kwargs"].items() if name in known.parameters}
        arguments = dict(known.bind(*content["args"], **kwargs).arguments)
    except (TypeError, ValueError) as error:
        raise PackError([f"it cannot be made ({error})"], file.name) from error
    for name, value in list(arguments.items()):
        if value is None:  # which TOML has no word for
            if known.parameters[name].default is not None:
                raise PackError([f"its argument {name} is nothing: {GIVE}"], file.name)
            del arguments[name]
    return kind, arguments, state
