"""A pack on disk: pack.toml beside its safetensors. Read and verified here, loaded, and written.

    pack = read_pack(folder)              # every file is there, whole, and what its hash says
    stream = load_stream(pack, "cpu")     # resident
    write_pack(folder, config, tensors)   # hashes are computed; never half a pack

`pack.toml` says: format = 1, name, version, family, description, license, the tables of its family, and one [[files]]
table (path, sha256) for every *.safetensors; its `quantization` says what packs/quantized.py must restore. Whatever is
wrong with a pack is reported at once, in one PackError.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from backline.models import families
from backline.models.errors import PackError
from backline.models.stream import Stream, StreamSpec
from backline.packs import toml
from backline.packs.quantized import WHOLE, restore

if TYPE_CHECKING:
    from torch import Tensor

MANIFEST = "pack.toml"
FORMAT = 1
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
TEXTS = ("name", "version", "family", "description", "license")  # that every pack.toml must have
QUANTIZATIONS = ("int8",)
HEADER_LIMIT = 100_000_000  # bytes; the format's own limit


@dataclass(frozen=True)
class PackFile:
    """One file of weights; `path` is relative to the pack's folder."""

    path: str
    sha256: str
    quantization: str = ""  # one of QUANTIZATIONS, or none


@dataclass(frozen=True)
class Pack:
    """What pack.toml says. `config` is all of it, parsed."""

    folder: Path
    config: Mapping[str, Any]
    name: str
    version: str
    family: str
    description: str
    license: str
    files: tuple[PackFile, ...]

    def spec(self) -> StreamSpec:
        """What the pack will serve; reads no weights. Raises PackError where the configuration does not fit."""
        return families.describe(self.config)


def read_manifest(folder: Path) -> Pack:
    """The pack in `folder`, with all its files there and whole by their size; hashes are not computed.

    Raises:
        PackError: with everything that is wrong.
    """
    try:
        config = tomllib.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PackError([f"there is no {MANIFEST} in {folder}: give the folder of a pack"], folder.name) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PackError(
            [f"{MANIFEST} is not valid TOML ({error}): correct it or install the pack again"], folder.name
        ) from error
    except OSError as error:
        raise PackError(
            [f"{MANIFEST} cannot be read ({error.strerror}): check its permissions"], folder.name
        ) from error
    problems = _manifest_problems(config)
    files = []
    for entry in config.get("files", []) if isinstance(config.get("files", []), list) else []:
        faults = _entry_problems(entry) or _file_problems(folder / entry["path"], entry["path"])
        problems += faults
        if not faults:
            files.append(PackFile(entry["path"], entry["sha256"].lower(), entry.get("quantization", "")))
    if problems:
        raise PackError(problems, str(config.get("name", folder.name)))
    return Pack(folder, config, **{key: config[key] for key in TEXTS}, files=tuple(files))


def read_pack(folder: Path) -> Pack:
    """As `read_manifest`, with every file verified against its hash."""
    pack = read_manifest(folder)
    problems = []
    for file in pack.files:
        with open(folder / file.path, "rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
        if found != file.sha256:
            problems.append(
                f"{file.path} has changed since the pack was made (sha256 {found[:12]}..., pack.toml says "
                f"{file.sha256[:12]}...): install the pack again"
            )
    if problems:
        raise PackError(problems, pack.name)
    return pack


def load_stream(pack: Pack, device: str = "cpu") -> Stream:
    """Makes the pack resident on `device`.

    Raises:
        PackError: tensors are missing or have the wrong shapes; names all of them.
    """
    try:
        return families.load(pack.config, read_tensors(pack), device)
    except PackError as error:
        raise PackError(error.problems, pack.name) from error


def read_tensors(pack: Pack) -> dict[str, Tensor]:
    """The tensors of all files by name, those that were quantised in float32.

    Raises:
        PackError: a tensor stands in two files, or what is stored of one is not all there.
    """
    if not pack.files:
        return {}
    from safetensors.torch import load_file  # with it comes torch, which a pack without weights does not need

    tensors: dict[str, Tensor] = {}
    problems = []
    for file in pack.files:
        found = load_file(pack.folder / file.path)
        if file.quantization:
            try:
                found = restore(found)
            except ValueError as error:
                problems.append(f"{file.path}: {error}: install the pack again")
        problems += [f"{file.path} repeats tensor {name!r}: remove one" for name in found.keys() & tensors.keys()]
        tensors.update(found)
    if problems:
        raise PackError(problems, pack.name)
    return tensors


def write_pack(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Pack:
    """Writes a pack, or replaces the one in `folder`; a failure on the way leaves what was there.

    Args:
        folder: the pack's own folder.
        config: pack.toml without `format` and `files`, which are written here.
        tensors: by name, as they are or from `quantize`; each component (the name up to the first dot) gets a file of
            its own.

    Raises:
        PackError: `config` makes no pack; names everything that it lacks.
    """
    problems = _manifest_problems({"format": FORMAT, **config})
    if problems:
        raise PackError(problems, str(config.get("name", folder.name)))
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        fresh = work / "new"
        fresh.mkdir()
        files = _write_tensors(fresh, tensors)
        said = {"format": FORMAT, **{key: value for key, value in config.items() if key not in ("format", "files")}}
        (fresh / MANIFEST).write_text(toml.dumps({**said, "files": files}), encoding="utf-8")
        read_pack(fresh)
        if folder.exists():
            folder.rename(work / "old")
        fresh.rename(folder)
    except BaseException:
        if not folder.exists() and (work / "old").exists():
            (work / "old").rename(folder)
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return read_manifest(folder)


def update_card(pack: Pack, card: Mapping[str, Any]) -> Pack:
    """Replaces the [card] in a pack's pack.toml, whole or not at all; its files stay what they are."""
    fresh = pack.folder / f".{MANIFEST}"
    fresh.write_text(toml.dumps({**pack.config, "card": card}), encoding="utf-8")
    fresh.replace(pack.folder / MANIFEST)
    return read_manifest(pack.folder)


def _write_tensors(folder: Path, tensors: Mapping[str, Tensor]) -> list[dict[str, str]]:
    """One file for each component; their [[files]] tables."""
    if not tensors:
        return []
    from safetensors.torch import save_file

    components: dict[str, dict[str, Tensor]] = {}
    taken: set[int] = set()
    for name, tensor in tensors.items():
        components.setdefault(name.partition(".")[0], {})[name] = _alone(tensor, taken)
    files = []
    for component, members in sorted(components.items()):
        path = folder / f"{component}.safetensors"
        save_file(members, path)
        path.chmod(0o666 & ~_umask())  # safetensors writes for the owner alone; a pack is for every user of the server
        with open(path, "rb") as content:
            entry = {"path": path.name, "sha256": hashlib.file_digest(content, "sha256").hexdigest()}
        quantized = any(name.endswith(WHOLE) for name in members)
        files.append(entry | {"quantization": QUANTIZATIONS[0]} if quantized else entry)
    return files


def _alone(tensor: Tensor, taken: set[int]) -> Tensor:
    """With memory of its own, `taken` by no other: safetensors refuses what shares it, as views of one weight do."""
    plain = tensor.detach().cpu().contiguous()
    memory = plain.untyped_storage()
    if memory.nbytes() != plain.nbytes or memory.data_ptr() in taken:
        return plain.clone()
    taken.add(memory.data_ptr())  # copies only where it must: the largest packs are of 5 GB
    return plain


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _manifest_problems(config: Mapping[str, Any]) -> list[str]:
    problems = []
    if config.get("format") != FORMAT:
        problems.append(f"format is {config.get('format')!r}: this Backline reads packs of format {FORMAT}")
    for key in TEXTS:
        if not isinstance(config.get(key), str) or not config[key].strip():
            problems.append(f"{key} is {config.get(key)!r}: give it a text")
    name, family = config.get("name"), config.get("family")
    if isinstance(name, str) and name.strip() and not NAME.fullmatch(name):
        problems.append(
            f"name is {name!r}: use up to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit"
        )
    if isinstance(family, str) and family.strip() and family not in families.FAMILIES:
        problems.append(f"family is {family!r}: this Backline serves {', '.join(sorted(families.FAMILIES))}")
    if not isinstance(config.get("files", []), list):
        problems.append("files is no list of tables: write [[files]] with path and sha256")
    return problems


def _entry_problems(entry: Any) -> list[str]:
    """What is wrong with one [[files]] table."""
    if (
        not isinstance(entry, dict)
        or not isinstance(entry.get("path"), str)
        or not isinstance(entry.get("sha256"), str)
    ):
        return [f"[[files]] holds {entry!r}: give it path and sha256"]
    problems = []
    path = PurePosixPath(entry["path"])
    if path.is_absolute() or ".." in path.parts or path.suffix != ".safetensors":
        problems.append(f"[[files]] path is {entry['path']!r}: name a *.safetensors inside the pack's folder")
    if not re.fullmatch(r"[0-9a-fA-F]{64}", entry["sha256"]):
        problems.append(f"[[files]] sha256 of {entry['path']!r} is {entry['sha256']!r}: give all 64 hexadecimal digits")
    if "quantization" in entry and entry["quantization"] not in QUANTIZATIONS:
        problems.append(
            f"[[files]] quantization of {entry['path']!r} is {entry['quantization']!r}: this Backline reads "
            f"{', '.join(QUANTIZATIONS)}"
        )
    return problems


def _file_problems(path: Path, name: str) -> list[str]:
    """Whether a safetensors file is there and as long as its header says; a length and a JSON header begin it."""
    try:
        size = path.stat().st_size
        with open(path, "rb") as content:
            length = int.from_bytes(content.read(8), "little")
            header = json.loads(content.read(length)) if 2 <= length <= min(HEADER_LIMIT, size - 8) else None
        if not isinstance(header, dict):
            raise ValueError
        ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
        expected = 8 + length + max(ends, default=0)
    except FileNotFoundError:
        return [f"{name} is missing: put it into {path.parent}, or install the pack again"]
    except OSError as error:
        return [f"{name} cannot be read ({error.strerror}): check its permissions"]
    except (ValueError, LookupError, TypeError):
        return [f"{name} is damaged (no safetensors header): install the pack again"]
    if size != expected:
        return [f"{name} is damaged ({size} bytes instead of {expected}): install the pack again"]
    return []
