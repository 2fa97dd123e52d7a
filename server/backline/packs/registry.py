"""Which packs there are: where they are looked for, what state each is in, and how a model is built of one.

The first pack of a name wins: folders that were asked for, then ~/.local/share/backline/packs (XDG), then the packs
that come with Backline. A damaged pack hides none: it is listed by the name that its pack.toml gives, or else by its
folder's, with a number behind where another has that name.
"""

from __future__ import annotations

import difflib
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from backline.models.errors import PackError
from backline.models.stream import Stream, StreamSpec
from backline.packs.pack import Pack, load_stream, read_manifest, read_pack
from backline.packs.places import packs_in, shares, usual_places

MOST_SHOWN, LONGEST = 20, 500  # problems of one pack that a listing writes out, and characters of each


class PackNotFound(LookupError):
    """No pack of that name; the message names those that there are."""


class PackState(Enum):
    """What can be done with a pack."""

    AVAILABLE = "available"  # on disk; verified when it is loaded
    RESIDENT = "resident"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class PackEntry:
    """One pack as it stands. `pack` and `spec` are None where it cannot be read, and `problem` says why."""

    name: str
    folder: Path
    state: PackState
    pack: Pack | None = None
    spec: StreamSpec | None = None
    problem: str = ""


NONE: Mapping[str, PackEntry] = {}  # that is resident
FolderState = tuple[tuple[str | int, ...], ...]
Reading = tuple[Pack, StreamSpec | PackError] | PackError


class PackRegistry:
    """The packs of one server on one device. It reads and builds, and holds no model.

    All methods may be called from any thread; most read the disk.
    """

    def __init__(self, folders: Sequence[Path] = (), device: str = "cpu", rows: int | None = None) -> None:
        """
        Args:
            folders: packs, or folders of packs, that come before the usual places.
            rows: for sessions on every pack; without, as many as each says.
        """
        self.device, self.rows = device, rows
        self.folders = [*folders, *usual_places()]
        self._failed: dict[str, PackError] = {}  # what loading found that reading the manifest does not
        self._known: dict[Path, tuple[FolderState | None, Reading]] = {}  # by folder; written whole, so without a lock

    def entries(self, resident: Mapping[str, PackEntry] = NONE) -> list[PackEntry]:
        """Every pack, by name. What is `resident` stays as it was loaded, whatever has become of its folder."""
        return [self._entry(name, folder, resident) for name, folder in sorted(self._folders(resident).items())]

    def entry(self, name: str, resident: Mapping[str, PackEntry] = NONE) -> PackEntry:
        """One pack, likewise. Raises PackNotFound."""
        return self._entry(name, self._folder(name, resident), resident)

    def load(self, name: str) -> Stream:
        """A model built of a pack; a further one each time.

        Raises:
            PackNotFound: there is no such pack.
            PackError: it is damaged; the entry stays `DAMAGED` until a later load succeeds.
        """
        folder = self._folder(name)
        try:
            stream = load_stream(read_pack(folder), self.device, self.rows)
        except PackError as error:
            self._failed[name] = error
            raise
        self._failed.pop(name, None)
        return stream

    def _folders(self, resident: Mapping[str, PackEntry] = NONE) -> dict[str, Path]:
        """Name to folder of every pack."""
        found = {name: entry.folder for name, entry in resident.items()}
        damaged: list[tuple[str, Path]] = []
        for root in self.folders:
            for folder in packs_in(root):
                try:
                    found.setdefault(self._read(folder)[0].name, folder)
                except PackError as error:
                    damaged.append((error.pack, folder))
        for name, folder in damaged:
            if folder not in found.values():
                found[next(free for free in _numbered(name) if free not in found)] = folder
        return found

    def _folder(self, name: str, resident: Mapping[str, PackEntry] = NONE) -> Path:
        found = self._folders(resident)
        if name in found:
            return found[name]
        close = difflib.get_close_matches(name, found, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        there = ", ".join(sorted(found)) or "none"
        raise PackNotFound(f"there is no pack {name!r}: {hint}The packs here are: {there}")

    def _read(self, folder: Path) -> tuple[Pack, StreamSpec | PackError]:
        """What the folder's manifest says, read again where its files have changed. Raises PackError.

        A pack may be whole by its manifest, by which it is named, and have tables that make no model: then the second
        is what is wrong with them.
        """
        state = _state_of(folder)
        known = self._known.get(folder)
        if known is None or state is None or known[0] != state:
            known = self._known[folder] = (None if shares(folder) else state, _reading(folder))
        reading = known[1]
        if isinstance(reading, PackError):
            raise PackError(reading.problems, reading.pack)
        return reading

    def _entry(self, name: str, folder: Path, resident: Mapping[str, PackEntry]) -> PackEntry:
        if name in resident:
            return resident[name]
        failed = self._failed.get(name)
        try:
            pack, spec = self._read(folder)
        except PackError as error:
            return PackEntry(name, folder, PackState.DAMAGED, problem=_said(error))
        if isinstance(spec, PackError):
            return PackEntry(name, folder, PackState.DAMAGED, problem=_said(spec))
        if failed is not None:
            return PackEntry(name, folder, PackState.DAMAGED, pack, spec, _said(failed))
        return PackEntry(name, folder, PackState.AVAILABLE, pack, spec)


def _reading(folder: Path) -> Reading:
    try:
        pack = read_manifest(folder)
    except PackError as error:
        return error
    try:
        return pack, pack.spec()
    except PackError as error:
        return pack, error


def _state_of(folder: Path) -> FolderState | None:
    """What changes when any file of a pack does; None where that cannot be told, as with folders inside."""
    state = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir() or entry.is_symlink():
                    return None
                at = entry.stat()
                state.append((entry.name, at.st_mode, at.st_size, at.st_ino, at.st_mtime_ns, at.st_ctime_ns))
    except OSError:
        return None
    return tuple(sorted(state))


def _numbered(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name} ({number})" for number in itertools.count(2))


def _said(error: PackError) -> str:
    """What is wrong, as a listing shows it: however damaged one pack is, the others are listed, too."""
    more = len(error.problems) - MOST_SHOWN
    shown = [problem if len(problem) <= LONGEST else f"{problem[:LONGEST]}..." for problem in error.problems]
    return "; ".join(shown[:MOST_SHOWN] + ([f"and {more} more"] if more > 0 else []))
