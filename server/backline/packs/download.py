"""Downloads of large files: begun again where they broke off, and put in place only when they are what they should be.

    file = download(url, folder / "a.th", size(url), "d7cc33bc", progress)

What has come so far is `a.th.part`; beside the whole file, `a.th.sha256` keeps what it was, as sha256sum writes it.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

PATIENCE_SECONDS = 30.0  # without a byte
BLOCK = 1 << 20
LARGEST_INDEX = 1 << 20  # bytes
SPARE = 1 << 28  # bytes that a disk keeps
NAME = re.compile(r"[\w+-][\w.+-]{0,127}")
TROUBLE = (OSError, HTTPException)  # URLError and time-outs are OSErrors


class Unavailable(ValueError):
    """What was asked for is not to be had; the message says why, and what to do."""


def file_name(url: str) -> str:
    """What a file is called by its address. Raises Unavailable: it has no name that a file can have."""
    parts = urlsplit(url)
    name = unquote(parts.path).rpartition("/")[2]
    if parts.scheme not in ("http", "https") or not NAME.fullmatch(name):
        raise Unavailable(f"{url[:200]!a} is no address of a file: use one as in https://example.org/model.th")
    return name


def size(url: str) -> int:
    """How many bytes the file has. Raises Unavailable."""
    with _open(url, {}) as answer:
        return _length(answer, url)


def listed_checksum(index: str, key: str) -> str:
    """The SHA-256 that a publisher's JSON at `index` lists of `key`. Raises Unavailable."""
    with _open(index, {}) as answer:
        content = answer.read(LARGEST_INDEX)
    try:
        found = json.loads(content)[key]
        if not re.fullmatch("[0-9a-f]{64}", found):
            raise ValueError
    except (ValueError, LookupError, TypeError) as error:
        raise Unavailable(f"{index} does not list a SHA-256 of {key}") from error
    return str(found)


def recorded_checksum(file: Path) -> str:
    """What this file was when it was first downloaded; "": it never was."""
    try:
        recorded = _beside(file, ".sha256").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return recorded[:64] if re.match("[0-9a-f]{64}  ", recorded) else ""


def download(url: str, file: Path, total: int, sha256: str, progress: Callable[[float], None]) -> str:
    """Gets `file` from `url`, whole, unless it is there already. Returns its SHA-256, which is recorded beside it.

    Args:
        total: its bytes.
        sha256: what it must be, or how that must begin; "": whatever it is.
        progress: told the share of the bytes that are here.

    Raises:
        Unavailable: it cannot be had, or is something else; what has come of the right one stays for the next time.
    """
    if file.exists():
        found = _checksum(file)
        if not found.startswith(sha256):
            raise Unavailable(f"{file} is something else (sha256 {found[:12]}..., not {sha256[:12]}...): remove it")
        return found
    file.parent.mkdir(parents=True, exist_ok=True)
    part = _beside(file, ".part")
    free = shutil.disk_usage(file.parent).free
    if total - _bytes(part) > free - SPARE:
        raise Unavailable(f"{file.parent} has {free / 1e9:.1f} GB left for a file of {total / 1e9:.1f} GB: make room")
    while (before := _bytes(part)) < total:
        _continue(url, part, total, progress)
        if _bytes(part) <= before:
            raise Unavailable(f"{url} broke off at {before} of {total} bytes: ask again, and it goes on from there")
    found = _checksum(part)
    if part.stat().st_size != total or not found.startswith(sha256):
        part.unlink()
        raise Unavailable(
            f"{url} gave something else (sha256 {found[:12]}..., must be {sha256[:12]}...): nothing is kept of it"
        )
    _beside(file, ".sha256").write_text(f"{found}  {file.name}\n", encoding="utf-8")
    part.rename(file)
    _beside(file, ".etag").unlink(missing_ok=True)
    return found


def _continue(url: str, part: Path, total: int, progress: Callable[[float], None]) -> None:
    """Adds what comes to `part`, from its end where the server still has the same file, else from the start."""
    here, kept = _bytes(part), _beside(part.with_suffix(""), ".etag")
    same = kept.read_text(encoding="utf-8").strip() if kept.exists() else ""
    wanted = {"Range": f"bytes={here}-"} | ({"If-Range": same} if same else {}) if here else {}
    with _open(url, wanted) as answer:
        goes_on = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {here}-")
        tag = answer.headers.get("ETag", "")
        if not goes_on:
            here = 0
            if _length(answer, url) != total:
                raise Unavailable(f"{url} has changed while it was downloaded: ask again")
        if tag and not tag.startswith("W/"):
            kept.write_text(tag, encoding="utf-8")
        with part.open("ab" if goes_on else "wb") as writing:
            try:
                while here < total and (block := answer.read(min(BLOCK, total - here))):
                    writing.write(block)
                    here += len(block)
                    progress(here / total)
            except TROUBLE as error:
                if not here:
                    raise Unavailable(f"{url} breaks off ({error}): try again later") from error


def _open(url: str, headers: Mapping[str, str]) -> Any:
    """The answer of a server. Raises Unavailable."""
    file_name(url)  # no other schemes: urllib would open files of this machine, too
    request = Request(url, headers={"User-Agent": "backline", "Accept-Encoding": "identity", **headers})
    try:
        answer = urlopen(request, timeout=PATIENCE_SECONDS)
    except HTTPError as error:
        raise Unavailable(f"{url} answers {error.code} {error.reason}: look whether the address is right") from error
    except URLError as error:
        raise Unavailable(f"{url} cannot be reached ({error.reason}): is this machine online?") from error
    except (*TROUBLE, ValueError) as error:
        raise Unavailable(f"{url} cannot be reached ({error})") from error
    if urlsplit(url).scheme == "https" and urlsplit(answer.url).scheme != "https":
        answer.close()
        raise Unavailable(f"{url} leads to {answer.url}, which anybody on the way can change: download it yourself")
    return answer


def _length(answer: Any, url: str) -> int:
    length = answer.headers.get("Content-Length", "")
    if not length.isdecimal() or not int(length):
        raise Unavailable(f"{url} does not say how long it is: download it yourself")
    return int(length)


def _checksum(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _bytes(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _beside(file: Path, ending: str) -> Path:
    return file.with_name(file.name + ending)
