"""A session's event log: JSON lines that, with the same audio, give the same session again.

    {"backline_log": 1, "pack": "default", "digest": "5a...", "open": {"sample_rate": 48000, "seed": 7, ...}}
    {"chunk": 0, "take": 0, "transport": {"position": 0, "playing": true, "tempo": 96.0, ...}}
    {"tokens": "9f02...", "take": 0, "first": 0, "frames": 60}
    {"take": 1, "position": 240000, "heard_from": 240000}
    {"end": "closed", "start": 0, "samples": 480000, "audio": "77...", "output": {"main": "e1..."}}

The first line is the header; every further one is a chunk that something came into force with, the tokens of a chunk, a
take, a warning, or the end. What came into force is told with the chunk that first obeyed it, whenever it had come, and
`skipped` takes are what a live session did not compute: a replay does what was done, and depends on no clock. Positions
are the client's. Of audio and output there are hashes: SHA-256 of float32, little-endian and interleaved, where what is
missing or not finite is zero; output that came too late is not in it. `tokens` is the first half of one, of int32
[frame, codebook].
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

VERSION = 1
LINE_BYTES = 1 << 20
FILE_BYTES = 256 << 20

Whole = Annotated[int, Meta(ge=-(2**53), le=2**53)]
Count = Annotated[int, Meta(ge=0, le=2**53)]


class _Line(Struct, frozen=True, omit_defaults=True):
    """One line; what a newer version adds to it is passed over."""


class Opening(_Line, frozen=True):
    """The session that was granted."""

    sample_rate: Annotated[int, Meta(ge=1)]
    channels: Annotated[int, Meta(ge=1)]
    chunk_seconds: float
    visibility_seconds: float
    seed: Annotated[int, Meta(ge=0)]
    parameters: dict[str, float] = {}
    texts: dict[str, str] = {}
    task: str = ""
    channel_layout: str = ""
    inputs: list[tuple[str, int]] = []


class Header(_Line, frozen=True):
    """The first line."""

    backline_log: int
    pack: str
    digest: str  # of the pack; "": it is none on disk
    open: Opening


class TransportLine(_Line, frozen=True):
    """As `Transport`; the position is the client's."""

    position: Whole
    playing: bool
    tempo: float
    numerator: int
    denominator: int
    song_position: float
    bar_start: float
    loop: tuple[float, float] | None = None


class ChunkLine(_Line, frozen=True):
    """What a chunk has brought into force."""

    chunk: Whole  # position of the last sample that starts no later than the chunk
    take: Count
    controls: dict[str, float] = {}
    texts: dict[str, str] = {}
    transport: TransportLine | None = None
    notes: list[tuple[Whole, str]] = []  # hexadecimal


class TokensLine(_Line, frozen=True):
    """The codec frames of a chunk."""

    tokens: str
    take: Count
    first: Count
    frames: Count


class TakeLine(_Line, frozen=True):
    """A take that has begun."""

    take: Count
    position: Whole
    heard_from: Whole
    skipped: bool = False


class WarningLine(_Line, frozen=True):
    """What went wrong on the way, as the client was told."""

    warning: str
    count: Count
    position: Whole


class EndLine(_Line, frozen=True):
    """The last line; one that is missing tells that the log was torn."""

    end: str  # closed, or why not
    start: Whole = 0
    samples: Count = 0
    audio: str = ""
    output: dict[str, str] = {}  # by port
    late: Count = 0  # samples of output that were dropped


Line = Header | ChunkLine | TokensLine | TakeLine | WarningLine | EndLine
KINDS: dict[str, type[_Line]] = {  # by a field that no other kind has; those that share one come last
    "backline_log": Header, "chunk": ChunkLine, "tokens": TokensLine, "warning": WarningLine, "end": EndLine,
    "heard_from": TakeLine,
}  # fmt: skip


class DamagedLog(ValueError):
    """A file is no event log, or not all of one. The message names the line."""


class EventLog(Struct, frozen=True):
    """A whole one."""

    header: Header
    chunks: list[ChunkLine]
    takes: list[TakeLine]
    tokens: list[TokensLine]
    end: EndLine


def written(line: Line) -> str:
    """A line, without its end."""
    return msgspec.json.encode(line).decode()


def read_log(path: Path) -> EventLog:
    """A log from its file.

    Raises:
        OSError: the file cannot be read.
        DamagedLog: it holds none, a newer one, or not all of it.
    """
    if path.stat().st_size > FILE_BYTES:
        raise DamagedLog(f"{path} is larger than {FILE_BYTES >> 20} MiB, which no log becomes")
    found: dict[type[Any], list[Any]] = {kind: [] for kind in KINDS.values()}
    for number, line in enumerate(_lines(path), 1):
        try:
            entry = msgspec.json.decode(line)
            kind = next((KINDS[name] for name in KINDS if name in entry), None)
            if kind is not None:
                found[kind].append(msgspec.convert(entry, kind))
        except (msgspec.MsgspecError, TypeError) as error:
            raise DamagedLog(f"{path}, line {number}: no line of an event log ({error})") from None
        if number == 1 and not found[Header]:
            raise DamagedLog(f"{path} is no event log: it does not begin with one's header")
    if not found[Header]:
        raise DamagedLog(f"{path} is empty")
    header: Header = found[Header][0]
    if header.backline_log != VERSION:
        raise DamagedLog(f"{path} is an event log of version {header.backline_log}: this Backline reads {VERSION}")
    if not found[EndLine]:
        raise DamagedLog(f"{path} has no end: the session, or the disk, broke off before the log was whole")
    return EventLog(header, found[ChunkLine], found[TakeLine], found[TokensLine], found[EndLine][-1])


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while line := file.readline(LINE_BYTES + 1):
            if len(line) > LINE_BYTES:
                raise DamagedLog(f"{path} has a line of more than {LINE_BYTES} bytes: it is no event log")
            yield line
