"""What stands in a pack's folder, read as the work of a stranger: plain files only, never more than was asked for.

A FIFO would block whoever opens it, a device never ends, a header may be as long and as deep as its writer likes.
Whatever a file is, reading it ends at once, with its bytes or with a sentence that says what is wrong.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from io import FileIO
from math import prod
from pathlib import Path
from typing import Any

import msgspec

LONGEST_MANIFEST = 1 << 20  # bytes; the largest that ships has 31 KB
MOST_KEY_PARTS = 64  # of a dotted key: tomllib's time is quadratic in them
LONGEST_HEADER = 16 << 20  # bytes of a safetensors header: 100,000 tensors
ITEM_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_KEY_PART = r"""(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')"""
LONG_KEY = re.compile(rf"(?<![A-Za-z0-9_-]){_KEY_PART}(?:[ \t]*+\.[ \t]*+{_KEY_PART}){{{MOST_KEY_PARTS}}}")


class Unreadable(ValueError):
    """A file is not what a pack has there. The message says what is wrong, and what to do."""


class TensorEntry(msgspec.Struct):
    """What a safetensors header says of one tensor."""

    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def open_plain(path: Path) -> FileIO:
    """Opens a regular file for reading, and nothing else; never waits.

    Raises:
        FileNotFoundError: there is none.
        Unreadable: it is something else, or cannot be opened.
    """
    try:
        # Without O_NONBLOCK a FIFO waits for its writer; asked of the descriptor, the answer is about what was opened.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # a name with NUL is a ValueError; a socket cannot be opened at all
        raise Unreadable(_why_unopened(path, error)) from error
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb", buffering=0)
    os.close(descriptor)
    raise Unreadable(f"is {_kind(mode)}, not a file: put the pack's own there, or remove it")


def read_toml(path: Path) -> dict[str, Any]:
    """The table of a TOML file.

    Raises:
        FileNotFoundError: there is none.
        Unreadable: it is no plain file, too large, or no TOML.
    """
    with open_plain(path) as content:
        data = _up_to(content, LONGEST_MANIFEST + 1)
    if len(data) > LONGEST_MANIFEST:
        raise Unreadable(f"is larger than {LONGEST_MANIFEST} bytes: it is no pack's, or its card is too long")
    try:
        text = data.decode("utf-8")
        if LONG_KEY.search(text):
            raise Unreadable(f"has a key of more than {MOST_KEY_PARTS} parts: no pack has such keys")
        return tomllib.loads(text)
    except Unreadable:
        raise
    except RecursionError as error:
        raise Unreadable("is nested too deeply: no pack is") from error
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError, and what int() says of 5,000 digits
        raise Unreadable(f"is not valid TOML ({str(error)[:200]}): correct it or install the pack again") from error


def check_tensors(path: Path) -> None:
    """Whether a safetensors file is as long as its header says, and its header describes tensors that fill it.

    Raises:
        FileNotFoundError: there is none.
        Unreadable: it is no plain file, or not such a one.
    """
    with open_plain(path) as content:
        size = os.fstat(content.fileno()).st_size
        length = int.from_bytes(_up_to(content, 8), "little")
        if not 2 <= length <= min(LONGEST_HEADER, size - 8):
            raise Unreadable("is damaged (no safetensors header): install the pack again")
        header = _up_to(content, length)
    try:
        said = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        said.pop("__metadata__", None)
        entries = {name: msgspec.json.decode(entry, type=TensorEntry) for name, entry in said.items()}
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise Unreadable("is damaged (no safetensors header): install the pack again") from error
    expected = 8 + length + max((entry.data_offsets[1] for entry in entries.values()), default=0)
    if size != expected:
        raise Unreadable(f"is damaged ({size} bytes instead of {expected}): install the pack again")
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        first, last = entry.data_offsets
        bits = ITEM_BITS.get(entry.dtype)
        whole = bits is not None and min(entry.shape, default=0) >= 0 and prod(entry.shape) * bits == 8 * (last - first)
        if first != end or not whole:
            raise Unreadable(
                f"is damaged (tensor {name[:80]!a}, {entry.dtype[:20]!a} {str(entry.shape)[:80]}, does not fill bytes "
                f"{first} to {last}): install the pack again"
            )
        end = last


def _up_to(content: FileIO, count: int) -> bytes:
    """`count` bytes, or what there is."""
    parts = []
    while count and (part := content.read(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _why_unopened(path: Path, error: OSError | ValueError) -> str:
    if not isinstance(error, OSError):
        return "has no name that a file can have: rename it"
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        mode = stat.S_IFREG
    if not stat.S_ISREG(mode):
        return f"is {_kind(mode)}, not a file: put the pack's own there, or remove it"
    return f"cannot be read ({error.strerror}): check its permissions"


def _kind(mode: int) -> str:
    return next((said for holds, said in KINDS if holds(mode)), "something else")
