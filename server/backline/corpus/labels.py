"""labels.json: beats, chords, voice, pitch and words of a song, as tools have heard them; times are in seconds.

song = corpus.songs()[0]
song.entry.labels.tempo, song.entry.labels.beats.source    # corpus.json says what there is, and whose work it is
song.heard().beats                                         # this file

It is read as the work of a stranger, and belongs to corpus.json by its hash.
"""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from backline.corpus.manifest import SONGS, CorpusError, Hash, Seconds, Spans, Text
from backline.whole_file import whole_file

LABELS = "labels.json"
KINDS = ("tempo", "beats", "key", "chords", "voice", "f0", "lyrics")
LARGEST = 1 << 28  # bytes: a day of pitch

HARTE = r"^(N|[A-G]b?:(maj|min|dim|aug|sus[24]|maj7|min7|7|dim7|hdim7|minmaj7|maj6|min6|9|maj9|min9))\Z"
ChordName = Annotated[str, Meta(pattern=HARTE)]  # N: none sounds
Hertz = Annotated[float, Meta(ge=0, le=20_000)]


class ToolMissing(ValueError):
    """A tool that is asked for is not there, or cannot be used; the message says how to get it."""


class PitchTrack(Struct, frozen=True, forbid_unknown_fields=True):
    """The pitch of a voice."""

    rate: Annotated[float, Meta(gt=0, le=1_000)]  # frames a second; the first is at 0 s
    hertz: Annotated[tuple[Hertz, ...], Meta(max_length=10_000_000)]  # [frame]; 0 where nothing has a pitch


class Heard(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """labels.json."""

    format: Literal[1] = 1
    beats: Annotated[tuple[Seconds, ...], Meta(max_length=1_000_000)] = ()
    chords: Annotated[tuple[tuple[Seconds, Seconds, ChordName], ...], Meta(max_length=1_000_000)] = ()
    voice: Spans = ()  # where somebody sings or speaks
    lyrics: Annotated[tuple[tuple[Seconds, Seconds, Text], ...], Meta(max_length=1_000_000)] = ()
    f0: PitchTrack | None = None


def labels_path(folder: Path, song: str) -> Path:
    """Where the labels of a song are."""
    return folder / SONGS / song / LABELS


def read_heard(folder: Path, song: str, sha256: str) -> Heard:
    """The labels of the song of that id.

    Raises:
        CorpusError: they are missing, damaged, or others than corpus.json speaks of.
    """
    path, remedy = labels_path(folder, song), f"`backline data label {folder}` makes them anew"
    try:
        mode = path.lstat().st_mode
        if not path.resolve().is_relative_to(folder.resolve()) or not stat.S_ISREG(mode):
            raise CorpusError(f"{path} is no plain file of this corpus: {remedy}")
        if path.stat().st_size > LARGEST:
            raise CorpusError(f"{path} has more than {LARGEST >> 20} MiB: {remedy}")
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise CorpusError(f"{path} is not the file that corpus.json speaks of: {remedy}")
        return msgspec.json.decode(data, type=Heard)
    except OSError as error:
        raise CorpusError(f"{path} cannot be read ({error.strerror}): {remedy}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CorpusError(f"{path} is damaged ({error}): {remedy}") from error


def write_heard(folder: Path, song: str, heard: Heard) -> Hash:
    """Replaces the labels of a song; gives the file's SHA-256. Raises OSError: it cannot be written."""
    data = msgspec.json.encode(heard)
    msgspec.json.decode(data, type=Heard)
    with whole_file(labels_path(folder, song)) as fresh:
        fresh.write_bytes(data)
    return hashlib.sha256(data).hexdigest()
