"""The server's Unix socket: where a user's own lies, and how it is private from its first moment.

There is no password, so whoever can connect may play and whoever listens hears the singer. A socket lies in a folder
that only its user may enter, or at least under a umask that leaves others nothing, and never in place of another's.
"""

from __future__ import annotations

import logging
import os
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backline_client.unix_socket import foreign_folder

log = logging.getLogger(__name__)

LONGEST_PATH = 107 if sys.platform == "linux" else 103  # bytes that a socket's address holds
PRIVATE = 0o077  # what others may not do


def user_sockets() -> list[str]:
    """Paths where a user's own socket may lie, best first. Plugins look there in this order (net/address.cpp).

    $XDG_RUNTIME_DIR/backline.sock, /run/user/UID/backline.sock, ~/.local/state/backline/backline.sock (or under
    $XDG_STATE_HOME); without those whose variables are missing or relative, and those that are too long for a socket.
    """
    folders = [os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{os.geteuid()}", _state_folder()]
    paths = [f"{folder}/backline.sock" for folder in folders if folder.startswith("/")]
    return [path for path in dict.fromkeys(paths) if len(os.fsencode(path)) <= LONGEST_PATH]


def user_socket() -> str | None:
    """The address of the first of these places that is this user's alone; None: there is none here.

    A warning tells what was passed over for another reason than that it is not there.
    """
    if not (hasattr(socket, "AF_UNIX") and hasattr(os, "geteuid")):
        return None
    chosen = None
    problems: list[str] = []
    for path in user_sockets():
        folder = path.removesuffix("/backline.sock")
        problem = _make_private(Path(folder)) if folder == _state_folder() else _not_private(Path(folder))
        if problem is None:
            chosen = f"unix:{path}"
            break
        if os.path.lexists(folder):
            problems.append(f"{folder} {problem}")
    if chosen is None:
        problems.append("set XDG_RUNTIME_DIR to a folder of yours, or name a socket with --socket")
    if problems:
        log.warning("%s: %s", chosen or "there is no place for a socket, where plugins look first", "; ".join(problems))
    return chosen


def claim(path: Path) -> None:
    """Makes room at `path`: takes away a socket of this user's at which nobody listens.

    Raises:
        OSError: a socket there would not be this user's, or there is something that is not ours to take away.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise OSError("this system has no Unix sockets: use HOST:PORT")
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise OSError(f"a socket's path has at most {LONGEST_PATH} bytes: use a shorter one")
    if not path.parent.is_dir():
        raise OSError(f"there is no folder {path.parent}: make it first, or use another path")
    problem = foreign_folder(path.parent)
    if problem is not None:
        raise OSError(f"{problem}: use another path")
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError("something lies there that is no socket: use another path")
    if found.st_uid != os.geteuid():
        raise OSError(f"a socket of another user (uid {found.st_uid}) lies there: use another path")
    if _listened_at(path):
        raise OSError("another server does; stop it or use another path")
    path.unlink()


@contextmanager
def others_shut_out() -> Iterator[None]:
    """What is made in the block is its user's alone from the first moment; a chmod would come after the bind."""
    before = os.umask(PRIVATE)
    try:
        yield
    finally:
        os.umask(before)


def _not_private(folder: Path) -> str | None:
    """Why the folder is not this user's alone; None: it is."""
    try:
        found = folder.lstat()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not stat.S_ISDIR(found.st_mode):
        return "is no folder"
    if found.st_uid != os.geteuid():
        return f"belongs to another user (uid {found.st_uid})"
    if found.st_mode & PRIVATE:
        return f"is open to others (mode {stat.S_IMODE(found.st_mode):o}; chmod 700 makes it yours)"
    return None


def _state_folder() -> str:
    """Where Backline may make a folder of its own; empty where the environment names no home."""
    state, home = os.environ.get("XDG_STATE_HOME", ""), os.environ.get("HOME", "")
    if not state.startswith("/"):
        state = f"{home}/.local/state" if home.startswith("/") else ""
    return state and f"{state}/backline"


def _make_private(folder: Path) -> str | None:
    """Makes the folder, which is Backline's own; why it is not this user's alone after that, or None."""
    try:
        there = next(parent for parent in folder.parents if parent.exists())
        if there.stat().st_uid != os.geteuid():  # sudo keeps HOME: root would leave its own folders there
            return f"would lie in {there}, which belongs to another user"
        if there == Path("/"):
            return "would lie in a home that is not there"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not folder.is_symlink() and folder.stat().st_uid == os.geteuid():
            folder.chmod(0o700)
    except OSError as error:
        return f"cannot be made ({error.strerror})"
    return _not_private(folder)


def _listened_at(path: Path) -> bool:
    """Whether anyone listens at the socket. Never waits: where the queue is full, somebody does."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
        return True
