"""Whose a Unix socket is: what is sent to one must reach a server of this user or of root, and nobody else."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def socket_path(address: str) -> Path | None:
    """The path of "unix:/path"; None where the address is another kind."""
    return Path(address.removeprefix("unix:")) if address.startswith("unix:") else None


def foreign_socket(path: Path) -> str | None:
    """Why what lies at `path` may be another user's; None: it is this user's or root's, or nothing is there."""
    try:
        found = path.stat()
    except OSError:  # whoever connects is told
        return None
    if not _trusted(found):
        return f"it belongs to another user (uid {found.st_uid})"
    return foreign_folder(path.resolve().parent)


def foreign_folder(folder: Path) -> str | None:
    """Why another user could put a socket of theirs in the place of one in `folder`; None: nobody can.

    Members of a folder's group count as its owner does: a group that may write there was given that right.

    Raises:
        OSError: there is no such folder.
    """
    found = folder.stat()
    if not _trusted(found):
        return f"its folder {folder} belongs to another user (uid {found.st_uid})"
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        return f"everyone may replace it in its folder {folder} (chmod o-w {folder})"
    return None


def _trusted(found: os.stat_result) -> bool:
    """Whether this is this user's or root's; a system without users has no others."""
    return not hasattr(os, "geteuid") or found.st_uid in (os.geteuid(), 0)
