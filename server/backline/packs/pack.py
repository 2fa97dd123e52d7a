"""A pack on disk: pack.toml beside its safetensors. Read and verified here, loaded, and written.

    pack = read_pack(folder)              # every file is there, whole, and what its hash says
    stream = load_stream(pack, "cpu")     # resident
    write_pack(folder, config, tensors)   # hashes are computed; never half a pack

`pack.toml` says: format = 1, name, version, family, description, license, the tables of its family, and one [[files]]
table (path, sha256) for every *.safetensors; its `quantization` says what packs/quantized.py must restore. A file that
another pack has is named by its hash, `shared`, in place of `sha256`, and lies there alone. Whatever is
wrong with a pack is reported at once, in one PackError.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta
from psutil import virtual_memory

from backline.models import families
from backline.models.errors import PackError
from backline.models.names import name_problem
from backline.models.rows import MOST_ROWS
from backline.models.stream import Stream, StreamSpec
from backline.nn.tables import TableError, read_table, shortened
from backline.packs import toml
from backline.packs.files import Unreadable, check_tensors, open_plain, read_toml
from backline.packs.places import MANIFEST, find_shared, usual_places
from backline.packs.quantized import WHOLE, restore

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
SAID_ABOUT = {"name", "version", "description", "license", "card"}  # parts of a pack.toml that nothing plays by
NAME = re.compile("[a-z0-9][a-z0-9._-]{0,63}")
PART = re.compile(r"[^\x00-\x1f\x7f<>:\"\\|?*/]{1,255}")  # of a path, on any system
log = logging.getLogger(__name__)

Text = Annotated[str, Meta(pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*\Z", max_length=10_000, description="a text")]


@dataclass(frozen=True)
class PackFile:
    """One file of weights; `path` is relative to the pack's folder."""

    path: Annotated[str, Meta(description="the name of a *.safetensors inside the pack's folder")]
    sha256: Annotated[str, Meta(pattern=r"^([0-9a-fA-F]{64})?\Z", description="all 64 hexadecimal digits")] = ""
    quantization: Annotated[Literal["", "int8"], Meta(description="int8, or nothing")] = ""
    shared: Annotated[str, Meta(pattern=r"^([0-9a-fA-F]{64})?\Z", description="all 64 hexadecimal digits")] = ""

    def __post_init__(self) -> None:
        path = PurePosixPath(self.path)
        inside = not path.is_absolute() and ".." not in path.parts and all(map(PART.fullmatch, path.parts))
        if not inside or path.suffix != ".safetensors":
            raise ValueError(f"path is {shortened(self.path)}: name a *.safetensors inside the pack's folder")
        if bool(self.sha256) == bool(self.shared):
            raise ValueError(f"{shortened(self.path)} has no sha256, or shared beside it: give one of the two")

    @property
    def digest(self) -> str:
        """Of the file, be it the pack's own or another's."""
        return (self.sha256 or self.shared).lower()


@dataclass(frozen=True)
class Manifest:
    """What every pack.toml says, whatever its family."""

    format: Annotated[Literal[1], Meta(description="packs of format 1, which this Backline reads")]
    name: Annotated[
        str,
        Meta(
            pattern=rf"^{NAME.pattern}\Z",
            description="up to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit",
        ),
    ]
    version: Text
    family: Text
    description: Text
    license: Text
    files: tuple[PackFile, ...] = ()
    rows: Annotated[int, Meta(ge=1, le=MOST_ROWS, description="sessions at once")] = 1  # the usual ones if left out

    def __post_init__(self) -> None:
        for key in ("version", "description", "license"):
            if not getattr(self, key).strip():
                raise ValueError(f"{key} is empty: give it a text")


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

    def location(self, file: PackFile) -> Path:
        """Where a file lies: in the pack's folder, or in another pack that has it. Raises PackError: in none."""
        if not file.shared:
            return self.folder / file.path
        found = find_shared(file.digest, self.folder)
        if found is None:
            raise PackError([missing_shared(file)], self.name)
        return found

    @property
    def digest(self) -> str:
        """SHA-256 of what it plays by: its weights and its configuration, not what is said about it."""
        told = {key: value for key, value in self.config.items() if key not in SAID_ABOUT}
        told["files"] = sorted((file.path, file.digest, file.quantization) for file in self.files)
        return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()

    def spec(self) -> StreamSpec:
        """What the pack will serve; reads no weights. Raises PackError where the configuration does not fit."""
        with blaming(self.name):
            return families.describe(self.config)

    def tokenizer(self, parts: Collection[str] = ()) -> str:
        """SHA-256 of what its tokens mean: of the tables and files named `parts`, or of all there is.

        Equal where tokens of the one can be read by the other; a pack made anew around the same parts keeps it.
        """
        tables = {name: table for name, table in self.config.items() if name in parts or not parts}
        files = {file.path: file.digest for file in self.files if not parts or PurePosixPath(file.path).stem in parts}
        said = {**tables, "files": files}
        return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()


@contextmanager
def blaming(pack: str) -> Iterator[None]:
    """Whatever goes wrong within is a fault of `pack`: it comes out as a PackError, so that no other pack suffers."""
    try:
        yield
    except PackError as error:
        raise PackError(error.problems, pack) from error
    except Exception as error:
        log.debug("pack %r failed", pack, exc_info=True)
        memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
        remedy = "unload other packs, or use a machine with more memory" if memory else "install the pack again"
        said = str(error).partition("\n")[0][:300]
        raise PackError([f"it fails with {type(error).__name__} ({said}): {remedy}"], pack) from error


def read_manifest(folder: Path) -> Pack:
    """The pack in `folder`, with all its files there and whole by their size; hashes are not computed.

    Raises:
        PackError: with everything that is wrong.
    """
    with blaming(shown_name(folder)):
        config = _read_config(folder)
    name = _name_in(config) or shown_name(folder)
    with blaming(name):
        try:
            said = _read_said(config)
        except TableError as error:
            raise PackError([*error.problems, *_problems_of_files(folder, config.get("files"))]) from error
        if problems := [problem for file in said.files for problem in _file_problems(folder, file)]:
            raise PackError(problems)
        files = tuple(replace(file, sha256=file.sha256.lower(), shared=file.shared.lower()) for file in said.files)
        texts = {key: getattr(said, key) for key in ("name", "version", "family", "description", "license")}
        return Pack(folder, config, **texts, files=files)


def shown_name(folder: Path) -> str:
    """A folder's name as text that may be shown and sent, whatever bytes it is made of."""
    return os.fsencode(folder.name or folder.resolve().name).decode("utf-8", "backslashreplace")


def read_pack(folder: Path) -> Pack:
    """As `read_manifest`, with every file verified against its hash."""
    pack = read_manifest(folder)
    problems = []
    with blaming(pack.name):
        for file in pack.files:
            with open_plain(pack.location(file)) as content:
                found = hashlib.file_digest(content, "sha256").hexdigest()
            if found != file.digest:
                problems.append(
                    f"{file.path} has changed since the pack was made (sha256 {found[:12]}..., pack.toml says "
                    f"{file.digest[:12]}...): install the pack again"
                )
        if problems:
            raise PackError(problems)
    return pack


def load_stream(pack: Pack, device: str = "cpu", rows: int | None = None) -> Stream:
    """Makes the pack resident on `device`, with `rows` for sessions; without, as many as its pack.toml says.

    Raises:
        PackError: tensors are missing or have the wrong shapes; names all of them.
    """
    with blaming(pack.name):
        pack.spec()  # before anything of its size is read
        config = pack.config if rows is None else {**pack.config, "rows": rows}
        return families.load(config, read_tensors(pack), device)


def read_tensors(pack: Pack) -> dict[str, Tensor]:
    """The tensors of all files by name, those that were quantised in float32.

    Raises:
        PackError: a tensor stands in two files, what is stored of one is not all there, or they are too many.
    """
    if not pack.files:
        return {}
    with blaming(pack.name):
        from safetensors.torch import load_file  # with it comes torch, which a pack without weights does not need

        size, there = sum(pack.location(file).stat().st_size for file in pack.files), virtual_memory().total
        if size > there:
            raise PackError([f"its files are of {size / 1e9:.1f} GB, this machine has {there / 1e9:.1f} of memory"])
        tensors: dict[str, Tensor] = {}
        problems = []
        for file in pack.files:
            found = load_file(pack.location(file))
            if file.quantization:
                try:
                    found = restore(found)
                except ValueError as error:
                    problems.append(f"{file.path}: {error}: install the pack again")
            problems += [f"{file.path} repeats tensor {name!r}: remove one" for name in found.keys() & tensors.keys()]
            tensors.update(found)
        if problems:
            raise PackError(problems)
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
    problems = _manifest_problems({"format": FORMAT, **config, "files": ()})
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
    _rewrite(pack, {**pack.config, "card": card})
    return read_manifest(pack.folder)


def share(pack: Pack, lender: Pack) -> Pack:
    """Leaves the files that both packs have to the lender: this one then names them by their hashes.

    Raises:
        PackError: they have none in common, or the lender lies where nobody would look for them.
    """
    lent = {file.sha256 for file in lender.files if file.sha256}
    common = [file for file in pack.files if file.sha256 in lent]
    if not common or pack.folder == lender.folder:
        told = f"it has no file in common with {lender.name}: name a pack that was made of the same"
        raise PackError([told], pack.name)
    if lender.folder.parent not in (pack.folder.parent, *usual_places()):
        raise PackError([f"its files would not be found in {lender.folder}: put the two beside each other"], pack.name)
    paths = {file.path for file in common}
    files = [
        {("shared" if key == "sha256" and entry["path"] in paths else key): said for key, said in entry.items()}
        for entry in pack.config["files"]
    ]
    _rewrite(pack, {**pack.config, "files": files})
    for file in common:
        (pack.folder / file.path).unlink()
    return read_pack(pack.folder)


def _rewrite(pack: Pack, config: Mapping[str, Any]) -> None:
    """A pack's pack.toml, whole or not at all. Raises PackError: it could not be read back."""
    fresh = pack.folder / f".{MANIFEST}"
    fresh.write_text(toml.dumps(config), encoding="utf-8")
    try:
        read_toml(fresh)
    except Unreadable as error:
        fresh.unlink()
        raise PackError([f"{MANIFEST} {error}"], pack.name) from error
    fresh.replace(pack.folder / MANIFEST)


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """A safetensors file for whom the umask lets read it: the library writes for the owner alone.

    Packs are for every user of the server, and parts are lent.
    """
    from safetensors.torch import save_file

    taken: set[int] = set()
    apart = {name: _alone(tensor, taken) for name, tensor in tensors.items()}
    save_file(apart, path, metadata=None if metadata is None else dict(metadata))
    path.chmod(0o666 & ~_umask())


def _write_tensors(folder: Path, tensors: Mapping[str, Tensor]) -> list[dict[str, str]]:
    """One file for each component; their [[files]] tables."""
    if not tensors:
        return []
    components: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        components.setdefault(name.partition(".")[0], {})[name] = tensor
    files = []
    for component, members in sorted(components.items()):
        if problem := name_problem(component):
            raise PackError([f"tensors {component!r}: {problem}"], folder.name)
        path = folder / f"{component}.safetensors"
        save_tensors(members, path)
        with open(path, "rb") as content:
            entry = {"path": path.name, "sha256": hashlib.file_digest(content, "sha256").hexdigest()}
        quantized = any(name.endswith(WHOLE) for name in members)
        files.append(entry | {"quantization": "int8"} if quantized else entry)
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


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        return read_toml(folder / MANIFEST)
    except FileNotFoundError:
        raise PackError([f"there is no {MANIFEST} in {folder}: give the folder of a pack"]) from None
    except Unreadable as error:
        raise PackError([f"{MANIFEST} {error}"]) from error


def _name_in(config: Mapping[str, Any]) -> str:
    """The name that a pack.toml gives, if it is one, whatever else is wrong."""
    name = config.get("name")
    return name if isinstance(name, str) and NAME.fullmatch(name) else ""


def _manifest_problems(config: Mapping[str, Any]) -> list[str]:
    try:
        _read_said(config)
    except TableError as error:
        return list(error.problems)
    return []


def _read_said(config: Mapping[str, Any]) -> Manifest:
    """What every pack.toml says. Raises TableError with all that is wrong with it."""
    family = config.get("family")
    problems = []
    if isinstance(family, str) and family not in families.FAMILIES:
        problems.append(f"family is {shortened(family)}: use one of {', '.join(sorted(families.FAMILIES))}")
    try:
        said = read_table(Manifest, config, "", known_elsewhere=tuple(config))
    except TableError as error:
        raise TableError([*error.problems, *problems]) from error
    if problems:
        raise TableError(problems)
    return said


def _problems_of_files(folder: Path, entries: Any) -> list[str]:
    """What is wrong with those files that a pack.toml names rightly, though other things in it are wrong."""
    problems = []
    for entry in entries if isinstance(entries, list) else []:
        try:
            file = read_table(PackFile, entry, "files")
        except TableError:
            continue  # said already
        problems += _file_problems(folder, file)
    return problems


def _file_problems(folder: Path, file: PackFile) -> list[str]:
    """Whether a safetensors file is there and whole, by its header."""
    path = find_shared(file.digest, folder) if file.shared else folder / file.path
    if path is None:
        return [missing_shared(file)]
    try:
        check_tensors(path)
    except FileNotFoundError:
        return [f"{file.path} is missing: put it into {path.parent}, or install the pack again"]
    except Unreadable as error:
        return [f"{file.path} {error}"]
    return []


def missing_shared(file: PackFile) -> str:
    """What is said where no pack has a file that one of them shares with others."""
    return (
        f"{file.path} (sha256 {file.digest[:12]}...) is another pack's, and no pack here has it: install that one, too"
    )
