"""Where packs lie, and where a file that several of them share lies."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from backline.packs.files import Unreadable, read_toml

MANIFEST = "pack.toml"


def packaged_packs() -> Path:
    """The packs that come with Backline."""
    return Path(str(files("backline.packs"))) / "data"


def user_packs() -> Path:
    """The user's own packs, by the XDG base directory specification."""
    home = os.environ.get("XDG_DATA_HOME") or ""
    try:
        base = Path(home) if os.path.isabs(home) else Path.home() / ".local" / "share"
    except RuntimeError:
        raise OSError("you have no home folder: set HOME or XDG_DATA_HOME, or say where the pack lies") from None
    return base / "backline" / "packs"


def usual_places() -> Iterator[Path]:
    """Folders of packs: the user's, then those that come with Backline."""
    with contextlib.suppress(OSError):  # a service may have no home
        yield user_packs()
    yield packaged_packs()


def packs_in(root: Path) -> Iterator[Path]:
    """`root` if it is a pack itself, else every pack right in it: each folder with anything named pack.toml."""
    with contextlib.suppress(OSError, ValueError):
        os.lstat(root / MANIFEST)
        yield root
        return
    with contextlib.suppress(OSError, ValueError), os.scandir(root) as entries:
        yield from sorted(Path(entry.path) for entry in entries if entry.name[0] != "." and _holds_manifest(entry.path))


def _holds_manifest(folder: str) -> bool:
    """Also where nobody may look: that is for its owner to hear."""
    try:
        os.lstat(os.path.join(folder, MANIFEST))
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def shares(folder: Path) -> bool:
    """Whether a pack needs files of other packs: then what is true of it changes with them."""
    try:
        entries = read_toml(folder / MANIFEST).get("files")
    except (OSError, Unreadable):
        return False
    return isinstance(entries, list) and any(isinstance(entry, dict) and "shared" in entry for entry in entries)


def find_shared(sha256: str, near: Path) -> Path | None:
    """The file of that hash in any pack that is installed, or lies beside the pack in `near`; None where there is none.

    By what their pack.toml says: whoever reads the file computes its hash.
    """
    for root in (near.parent, *usual_places()):
        for folder in packs_in(root):
            try:
                entries = read_toml(folder / MANIFEST).get("files")
            except (OSError, Unreadable):
                continue
            for entry in entries if isinstance(entries, list) else []:
                if isinstance(entry, dict) and str(entry.get("sha256", "")).lower() == sha256:
                    path = folder / str(entry.get("path"))
                    if path.resolve().is_relative_to(folder.resolve()) and path.is_file():
                        return path
    return None
