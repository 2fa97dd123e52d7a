"""corpus.json: which songs a corpus holds, what is known of each, and where it fails which filter.

    CORPUS/corpus.json
    CORPUS/songs/ID/NAME.flac        every stem, 48 kHz, 24 bits, all of a song of one length
    CORPUS/songs/ID/labels.json      what tools have heard in it, if it has been labelled (labels.py)

No path stands in it: a file's place follows from ids and names that no path can be made of. It is read as the work of
a stranger, all of it checked by msgspec, and replaced as a whole.
"""

from __future__ import annotations

import re
import stat
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from backline.corpus.stem_names import LABEL
from backline.models.names import RESERVED
from backline.music.seeds import Purpose
from backline.whole_file import whole_file

MANIFEST, SONGS = "corpus.json", "songs"
FORMAT = 1
SAMPLE_RATE = 48_000  # Hz
LARGEST = 1 << 30  # bytes of corpus.json: a million songs
LONGEST = 48_000 * 86_400  # samples of a song: a day
LOUDEST = 1 << 12  # times full scale

Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,63}\Z")]
Label = Annotated[str, Meta(pattern=rf"^{LABEL}\Z")]
Text = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]*\Z", max_length=1_000)]
Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Seconds = Annotated[float, Meta(ge=0, le=86_400)]
Spans = Annotated[tuple[tuple[Seconds, Seconds], ...], Meta(max_length=100_000)]  # (begin, end), in order
Count = Annotated[int, Meta(ge=0, le=1 << 62)]


class CorpusError(ValueError):
    """A corpus that cannot be read, or does not hold what is asked of it; the message says why and what to do."""


class StemEntry(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One stem of a song."""

    name: Name  # of its file
    label: Label  # what it is: see stem_names.py
    channels: Annotated[int, Meta(ge=1, le=8)]
    sha256: Hash  # of its file
    scale: Annotated[int, Meta(ge=1, le=LOUDEST)] = 1  # what stands in the file is quieter by this factor
    separator: Text = ""  # what has cut it out of the mix; "": it is as it was recorded


class Source(Struct, frozen=True, forbid_unknown_fields=True):
    """The files that a song was made from, to know them again."""

    name: Text  # where they lie, from the folder on that was given
    place: Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]  # of the hash of where that folder lies
    size: Count  # bytes, of all
    modified: Count  # nanoseconds, of the latest

    @property
    def key(self) -> tuple[str, str]:
        """The same for the same files, whatever has become of them."""
        return self.place, self.name


class Estimate(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a tool has found out about a song: it stands in labels.json (labels.py)."""

    source: Text  # tool and version
    heard: Label  # what it listened to: the label of stems, `mix` for the whole song, `instrumental` for all but voice


class TempoEstimate(Estimate, frozen=True, forbid_unknown_fields=True):
    """How fast it is."""

    beats_per_minute: Annotated[float, Meta(ge=1, le=1_000)]


class KeyEstimate(Estimate, frozen=True, forbid_unknown_fields=True):
    """Its key, as Key.name has it: "Db minor"."""

    key: Annotated[str, Meta(pattern=r"^[A-G]b? (major|minor)\Z")]


class LabelsEntry(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which labels a song has. None of them is true beyond doubt: each says who has found it."""

    sha256: Hash  # of labels.json
    tempo: TempoEstimate | None = None
    key: KeyEstimate | None = None
    beats: Estimate | None = None
    chords: Estimate | None = None
    voice: Estimate | None = None
    f0: Estimate | None = None
    lyrics: Estimate | None = None
    untold: tuple[Label, ...] = ()  # kinds that were looked for in vain: pitch without a voice of its own, for one

    def found(self) -> dict[str, Estimate]:
        """The estimates that there are, by kind."""
        kinds = {kind: getattr(self, kind) for kind in self.__struct_fields__ if kind not in ("sha256", "untold")}
        return {kind: estimate for kind, estimate in kinds.items() if estimate is not None}


class SongEntry(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One song."""

    id: Name
    title: Text
    split: Purpose
    samples: Annotated[int, Meta(ge=1, le=LONGEST)]
    sha256: Hash  # of the mix as 24-bit samples: the same for every file that holds the same sound
    source: Source
    stems: Annotated[tuple[StemEntry, ...], Meta(min_length=1, max_length=256)]
    licence: Text = ""  # "": nobody has said
    failing: dict[Text, Spans] = {}  # where it fails a filter, in seconds, by the filter's name
    labels: LabelsEntry | None = None

    @property
    def seconds(self) -> float:
        return self.samples / SAMPLE_RATE


class PassedOver(Struct, frozen=True, forbid_unknown_fields=True):
    """A song that was read whole and not taken."""

    source: Source
    reason: Text
    seconds: Seconds = 0.0


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """corpus.json."""

    format: Literal[1]
    seed: Count  # of the split
    filters: tuple[Text, ...]  # those that every song has been measured by
    songs: tuple[SongEntry, ...] = ()
    passed_over: tuple[PassedOver, ...] = ()


def read_manifest(folder: Path) -> Manifest:
    """What CORPUS/corpus.json says.

    Raises:
        CorpusError: there is none, or it is no manifest of a corpus.
    """
    path = folder / MANIFEST
    try:
        mode = path.stat().st_mode  # asked first: a FIFO would keep whoever opens it waiting
        if not stat.S_ISREG(mode) or path.stat().st_size > LARGEST:
            raise CorpusError(f"{path} is no plain file of at most {LARGEST >> 20} MiB: it is no corpus's")
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise CorpusError(
            f"{folder} is no corpus, it has no {MANIFEST}: make one with `backline data prepare FOLDER -o {folder}`"
        ) from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CorpusError(f"{path} is damaged ({error}): prepare the corpus again") from error
    if problem := _problem(manifest):
        raise CorpusError(f"{path} is damaged ({problem}): prepare the corpus again")
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replaces CORPUS/corpus.json, as a whole.

    Raises:
        OSError: it cannot be written.
        msgspec.ValidationError: nobody could read it.
    """
    data = msgspec.json.encode(manifest)
    msgspec.json.decode(data, type=Manifest)
    with whole_file(folder / MANIFEST) as fresh:
        fresh.write_bytes(msgspec.json.format(data, indent=1) + b"\n")


def stem_path(folder: Path, song: str, stem: str) -> Path:
    """Where the file of a stem is."""
    return folder / SONGS / song / f"{stem}.flac"


def safe_name(text: str, longest: int = 40) -> str:
    """`text` as part of a file name on any system: lower case, digits and hyphens; "song" where nothing is left."""
    name = re.sub("[^a-z0-9]+", "-", text.lower())[:longest].strip("-") or "song"
    return f"{name}-1" if name in RESERVED else name


def _problem(manifest: Manifest) -> str:
    """What no annotation says; "" where all is well."""
    if twice := _twice(song.id for song in manifest.songs):
        return f"two songs have the id {twice!r}"
    for song in manifest.songs:
        if twice := _twice(stem.name for stem in song.stems):
            return f"two stems of song {song.id!r} have the name {twice!r}"
        if reserved := RESERVED & {song.id, *(stem.name for stem in song.stems)}:
            return f"{min(reserved)!r} is no name that a file may have"
    return ""


def _twice(names: Iterable[str]) -> str | None:
    return next((name for name, count in Counter(names).items() if count > 1), None)
