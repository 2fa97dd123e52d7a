"""Files that are whole or not there: written beside their place, and put into it when they are complete."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def check_target(path: Path) -> None:
    """Finds out before the work whether a file can be written at `path`.

    Raises:
        OSError: it cannot; `strerror` says why and what to do, `filename` is the path.
    """
    place = Path(os.path.realpath(path))
    try:
        mode = place.stat().st_mode
    except FileNotFoundError:
        mode = None
    if not place.parent.is_dir():
        text = f"there is no folder {place.parent}: make it first"
        raise FileNotFoundError(errno.ENOENT, text, str(path))
    if mode is not None and stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "this is a folder: name a file in it", str(path))
    if mode is not None and not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "this is a pipe, a socket or a device: name a file", str(path))
    if mode is not None and not os.access(place, os.W_OK):
        raise PermissionError(errno.EACCES, "this file is write-protected: choose another name", str(path))
    check_folder(place.parent)


def check_folder(folder: Path) -> None:
    """Finds out before the work whether files can be made in `folder`, which itself may still have to be made.

    Raises:
        OSError: they cannot; as `check_target`.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "this is a file, no folder: choose another name", str(there))
    if not os.access(there, os.W_OK | os.X_OK):
        text = "nothing can be written into this folder: choose another one, or change its permissions"
        raise PermissionError(errno.EACCES, text, str(there))


class Unfinished:
    """A file in the making: it is at `part`, beside its place, until `put` moves it there.

    What was in its place stays whole until then. A symbolic link stays one, and leads to the new file; other names of
    the older file (hard links) keep that one.
    """

    def __init__(self, path: Path) -> None:
        self.part = part_of(Path(os.path.realpath(path)))

    def put(self, path: Path) -> None:
        """Makes it the file at `path`, with the permissions of the one that was there. It must be closed."""
        place = Path(os.path.realpath(path))
        with open(self.part, "rb") as file:
            os.fsync(file.fileno())  # or a power cut could leave the name without the contents
        with contextlib.suppress(FileNotFoundError):
            os.chmod(self.part, stat.S_IMODE(place.stat().st_mode))
        os.replace(self.part, place)
        if os.name == "posix":
            folder = os.open(place.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def discard(self) -> None:
        """Removes what there is of it; no effect after `put`."""
        self.part.unlink(missing_ok=True)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a path beside `path` to write to; what is there when the block ends becomes `path`, unless it fails.

    Raises:
        OSError: see `check_target`.
    """
    check_target(path)
    unfinished = Unfinished(path)
    try:
        yield unfinished.part
        unfinished.put(path)
    except OSError as error:
        if error.filename == str(unfinished.part):
            error.filename = str(path)  # the name that whoever reads of it has given
        raise
    finally:
        unfinished.discard()


def part_of(place: Path) -> Path:
    """A new name beside `place`, with its ending; hidden, and never longer than file systems take."""
    return place.with_name(f".{place.stem[:40]}-{secrets.token_hex(4)}.part{place.suffix}")
