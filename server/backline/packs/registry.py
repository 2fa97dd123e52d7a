"""Which packs there are: where they are looked for, what state each is in, and which are resident.

The first pack of a name wins: folders that were asked for, then ~/.local/share/backline/packs (XDG), then the packs
that come with Backline. A damaged pack hides none: it is listed by the name that its pack.toml gives, or else by its
folder's, with a number behind where another has that name.
"""

from __future__ import annotations

import difflib
import itertools
import os
import threading
from collections.abc import Iterator, Sequence
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


FolderState = tuple[tuple[str | int, ...], ...]
Reading = tuple[Pack, StreamSpec | PackError] | PackError


class PackRegistry:
    """The packs of one server on one device. All methods may be called from any thread; most read the disk."""

    def __init__(self, folders: Sequence[Path] = (), device: str = "cpu", rows: int | None = None) -> None:
        """
        Args:
            folders: packs, or folders of packs, that come before the usual places.
            rows: for sessions on every pack; without, as many as each says.
        """
        self.device, self.rows = device, rows
        self.folders = [*folders, *usual_places()]
        self._resident: dict[str, tuple[Pack, Stream]] = {}
        self._failed: dict[str, PackError] = {}  # what loading found that reading the manifest does not
        self._lock = threading.Lock()  # of the two above
        self._known: dict[Path, tuple[FolderState | None, Reading]] = {}  # by folder; written whole, so without a lock
        self._loading: dict[str, threading.Lock] = {}

    def entries(self) -> list[PackEntry]:
        """Every pack, by name."""
        return [self._entry(name, folder) for name, folder in sorted(self._folders().items())]

    def entry(self, name: str) -> PackEntry:
        """One pack. Raises PackNotFound."""
        return self._entry(name, self._folder(name))

    def resident(self) -> dict[str, Stream]:
        """The loaded packs. Reads no disk."""
        with self._lock:
            return {name: stream for name, (_, stream) in self._resident.items()}

    def load(self, name: str) -> Stream:
        """The resident stream of a pack; loads it if need be, once however many ask at the same time.

        Raises:
            PackNotFound: there is no such pack.
            PackError: it is damaged; the entry stays `DAMAGED` until a later load succeeds.
        """
        with self._lock:
            if name in self._resident:
                return self._resident[name][1]
            loading = self._loading.setdefault(name, threading.Lock())
        with loading:
            with self._lock:
                if name in self._resident:
                    return self._resident[name][1]
            folder = self._folder(name)
            try:
                pack = read_pack(folder)
                stream = load_stream(pack, self.device, self.rows)
            except PackError as error:
                with self._lock:
                    self._failed[name] = error
                raise
            with self._lock:
                self._failed.pop(name, None)
                self._resident[name] = (pack, stream)
            return stream

    def unload(self, name: str) -> None:
        """Forgets a resident stream; whoever plays it must have let go of it before. Raises PackNotFound."""
        with self._lock:
            if self._resident.pop(name, None) is None:
                raise PackNotFound(f"pack {name!r} is not resident: nothing to unload")

    def _folders(self) -> dict[str, Path]:
        """Name to folder of every pack."""
        with self._lock:  # what is resident stays under its name, whatever has become of its folder
            found = {name: pack.folder for name, (pack, _) in self._resident.items()}
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

    def _folder(self, name: str) -> Path:
        found = self._folders()
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

    def _entry(self, name: str, folder: Path) -> PackEntry:
        with self._lock:
            if name in self._resident:
                pack, stream = self._resident[name]
                return PackEntry(name, folder, PackState.RESIDENT, pack, stream.spec)
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
