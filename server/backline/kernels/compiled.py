"""The one way in which Backline compiles, and the one place that decides where compiled code is kept.

    @compiled
    def step(...): ...

Numba keeps what it compiled beside the sources and refuses to import where nothing can be kept. An installation may be
read-only, though, and a service without a home. So: beside the sources; else in the user's cache (XDG); else in a
folder of the user's own among the temporary files; else nowhere, and every start compiles anew. What NUMBA_CACHE_DIR
names, if it can be written to, comes before all of them.
"""

from __future__ import annotations

import contextlib
import getpass
import logging
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba

PACKAGE = Path(__file__).parent.parent
COMPILING = ("kernels", "music")  # parts of the package that hold compiled functions
NAME = "backline-kernels"
SETTINGS: Any = numba.config  # read whenever a function is decorated
Function = TypeVar("Function", bound=Callable[..., Any])

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where compiled code is kept. `folder` is None beside the sources, and where none can be kept."""

    kept: bool
    folder: Path | None
    description: str


def compiled(function: Function | None = None, **options: Any) -> Any:
    """Numba's `njit` without the GIL, its code kept at `place()`; `options` are Numba's."""
    jit = numba.njit(nogil=True, cache=place().kept, **options)
    return jit if function is None else jit(function)


@cache
def place() -> Place:
    """Where this process keeps compiled code. Decided once; a place that is not beside the sources is set up."""
    given = SETTINGS.CACHE_DIR
    if given and _writable(Path(given)):
        return Place(True, Path(given), f"{given}, as NUMBA_CACHE_DIR says")
    SETTINGS.CACHE_DIR = ""
    if all(_writable(PACKAGE / part / "__pycache__") for part in COMPILING):
        return Place(True, None, "beside the sources")
    for folder in _elsewhere():
        if _writable(folder):
            SETTINGS.CACHE_DIR = str(folder)
            return Place(True, folder, str(folder))
    log.warning(
        "compiled code cannot be kept, so every start compiles for a minute: make a folder that can be written to and "
        "set NUMBA_CACHE_DIR to it"
    )
    return Place(False, None, "nowhere: set NUMBA_CACHE_DIR to a folder that can be written to")


def _elsewhere() -> Iterator[Path]:
    base = os.environ.get("XDG_CACHE_HOME") or ""
    with contextlib.suppress(RuntimeError):  # of who has no home
        yield (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "backline" / "kernels"
    if (private := _private_folder()) is not None:
        yield private


def _private_folder() -> Path | None:
    """A folder among the temporary files that is this user's alone: code that others could put there would be run."""
    user = str(os.getuid()) if hasattr(os, "getuid") else getpass.getuser()
    try:
        folder = Path(tempfile.gettempdir()) / f"{NAME}-{user}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    ours = not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not stat.S_IMODE(found.st_mode) & 0o077)
    return folder if stat.S_ISDIR(found.st_mode) and ours else None


def _writable(folder: Path) -> bool:
    """Whether a file can be made in `folder`, which is made where it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
