"""Which songs lie in a folder, and what their stems are: by the layouts of data sets, or by the names of files.

| what lies there | what it is taken for |
|---|---|
| `vocals.wav drums.wav bass.wav other.wav` and `mixture.wav` | a song of stems: MUSDB18-HQ, Demucs, `music compose` |
| `Title (Vocals).wav`, `Title (Instrumental).wav` | the same, several songs in one folder: UVR's MDX-Net |
| `Title.stem.mp4` | MUSDB18 and stems for DJs: a mix and four stems as streams of one file |
| `data.json`, `bass/…wav`, `vocals/…wav`, … | MoisesDB: a stem is the sum of its tracks |
| `metadata.yaml`, `stems/S00.flac`, … | Slakh2100: metadata.yaml says what each stem is |
| `song.ini`, `guitar.ogg`, `song.ogg` | Frets on Fire: the guitar and all the rest |
| any other sound | a mix |

Folders called train, valid(ation) or test say which split their songs belong to.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from backline.corpus.manifest import Source
from backline.corpus.stem_names import BASS, DRUMS, INSTRUMENTAL, MIX, OTHER, REST, VOCALS, label_of, title_and_label
from backline.music.seeds import Purpose

SOUNDS = frozenset(
    "wav flac ogg oga opus mp3 aif aiff aifc au caf w64 rf64 m4a mp4 aac webm wma mka ac3 ape wv".split(" ")  # noqa: SIM905
)
STEM_FILES = (".stem.mp4", ".stem.m4a")
STREAMS = (DRUMS, BASS, OTHER, VOCALS)  # of such a file after the first, which is the mix, where it does not say
SPLITS: dict[str, Purpose] = {
    "train": "training", "training": "training",
    "valid": "validation", "validation": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
LARGEST_TEXT = 1 << 20  # bytes of a file that describes a song


@dataclass(frozen=True)
class Part:
    """A sound in a file."""

    file: Path
    stream: int = 0  # of a file that has several


@dataclass(frozen=True)
class FoundStem:
    """A stem is the sum of its parts."""

    label: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class FoundSong:
    """A song as it lies on the disk; the only stem of one that is not in stems is its mix."""

    title: str
    source: Source
    split: Purpose | None  # that its folders name
    stems: tuple[FoundStem, ...]
    problem: str = ""  # why it cannot be taken

    @property
    def is_mix(self) -> bool:
        return [stem.label for stem in self.stems] == [MIX]


class _MoisesSong(msgspec.Struct):
    """What data.json says, as far as it is wanted."""

    song: str
    artist: str = ""


class _StemName(msgspec.Struct):
    name: str


class _StemNames(msgspec.Struct):
    """What a .stem.mp4 says of its streams after the first."""

    stems: list[_StemName]


def find_songs(place: Path) -> Iterator[FoundSong]:
    """All songs in a folder and the folders in it, or the one in a file, in the order of their names.

    Links to folders are not followed. Files that are no sound by their ending are passed over.
    """
    place = place.absolute()
    if not place.is_dir():
        yield from _by_names([place], place.parent)
        return
    for name, folders, files in os.walk(place):
        folder = Path(name)
        folders.sort()
        folders[:] = [each for each in folders if not each.startswith(".")]
        shown = sorted(each for each in files if not each.startswith("."))
        song = _slakh(folder, shown, folders) or _moises(folder, shown, folders) or _frets(folder, shown)
        if song is None:
            yield from _by_names([folder / each for each in shown if _is_sound(each)], place)
        else:
            folders.clear()
            yield _song(*song, folder, place)


def _is_sound(name: str) -> bool:
    return os.path.splitext(name)[1][1:].lower() in SOUNDS


def _by_names(files: Sequence[Path], place: Path) -> Iterator[FoundSong]:
    """Songs in one folder, whose files belong together by their names."""
    named: dict[str, list[tuple[str, Path]]] = {}  # (label, file) by title; "" where a file is called like a stem
    mixes: list[Path] = []
    for file in files:
        if file.name.lower().endswith(STEM_FILES):
            yield _song(file.name[: -len(STEM_FILES[0])], _streams(file), file, place)
            continue
        whole = label_of(file.stem)
        title, label = ("", whole) if whole is not None else title_and_label(file.stem) or ("", None)
        if label is None:
            mixes.append(file)
        else:
            named.setdefault(title, []).append((label, file))
    for title, stems in named.items():
        if len(stems) == 1 and (title or len(files) > 1 or stems[0][0] == MIX):
            mixes.append(stems[0][1])  # a song that is called so
            continue
        parts = [FoundStem(label, (Part(file),)) for label, file in stems]
        folder = stems[0][1].parent
        yield _song(title or folder.name, parts, folder / title if title else folder, place)
    for file in sorted(mixes):
        yield _song(file.stem, [FoundStem(MIX, (Part(file),))], file, place)


def _slakh(folder: Path, files: Sequence[str], folders: Sequence[str]) -> tuple[str, list[FoundStem]] | None:
    if "metadata.yaml" not in files or "stems" not in folders:
        return None
    found: dict[str, str] = {}  # what each stem is
    stem = ""
    for line in _text(folder / "metadata.yaml").splitlines():  # of YAML only what this file has of it
        if match := re.fullmatch(r"\s+(S\d+):\s*", line):
            stem = match[1]
        elif stem and (match := re.fullmatch(r"\s+(inst_class|is_drum):\s*['\"]?(.*?)['\"]?\s*", line)):
            if match[1] == "inst_class":
                found.setdefault(stem, label_of(match[2]) or OTHER)
            elif match[2].lower() == "true":
                found[stem] = DRUMS
    sounds = {file.stem: file for file in sorted((folder / "stems").iterdir()) if _is_sound(file.name)}
    return folder.name, [FoundStem(found.get(name, OTHER), (Part(file),)) for name, file in sounds.items()]


def _moises(folder: Path, files: Sequence[str], folders: Sequence[str]) -> tuple[str, list[FoundStem]] | None:
    labels = {name: label for name in folders if (label := label_of(name)) is not None}
    if "data.json" not in files or not labels:
        return None
    try:
        said = msgspec.json.decode(_text(folder / "data.json"), type=_MoisesSong)
    except (msgspec.MsgspecError, RecursionError):
        return None
    stems = []
    for name, label in labels.items():  # the files that are there: data.json is not asked for paths
        if parts := [Part(file) for file in sorted((folder / name).iterdir()) if _is_sound(file.name)]:
            stems.append(FoundStem(label, tuple(parts)))
    return " - ".join(filter(None, (said.artist, said.song))), stems


def _frets(folder: Path, files: Sequence[str]) -> tuple[str, list[FoundStem]] | None:
    if not {"song.ini", "guitar.ogg", "song.ogg"} <= set(files):
        return None
    rest = [Part(folder / name) for name in ("song.ogg", "rhythm.ogg") if name in files]
    return folder.name, [FoundStem("guitar", (Part(folder / "guitar.ogg"),)), FoundStem(REST, tuple(rest))]


def _streams(file: Path) -> list[FoundStem]:
    """The stems of a .stem.mp4."""
    labels: Sequence[str] = STREAMS
    try:
        with open(file, "rb") as content:
            said = _box(content, file.stat().st_size, [b"moov", b"udta", b"stem"])
        names = msgspec.json.decode(said, type=_StemNames).stems
        labels = [label_of(each.name) or OTHER for each in names] or STREAMS
    except (OSError, msgspec.MsgspecError, RecursionError, struct.error):
        pass  # it does not say
    return [FoundStem(label, (Part(file, number),)) for number, label in enumerate(labels, start=1)]


def _box(content: IO[bytes], end: int, path: Sequence[bytes]) -> bytes:
    """What stands in a box of an MP4 file; b"" where there is none."""
    while content.tell() + 8 <= end:
        start = content.tell()
        size, name = struct.unpack(">I4s", content.read(8))
        if size == 1:
            (size,) = struct.unpack(">Q", content.read(8))
        last = end if size == 0 else start + size
        if last < content.tell() or last > end:
            break
        if name == path[0]:
            if len(path) > 1:
                return _box(content, last, path[1:])
            return content.read(min(last - content.tell(), LARGEST_TEXT))
        content.seek(last)
    return b""


def _song(title: str, stems: Sequence[FoundStem], where: Path, place: Path) -> FoundSong:
    """A song whose files have been found in the file or folder `where`, below the `place` that was given."""
    inside = where.relative_to(place.parent).parts
    split = next((SPLITS[part.lower()] for part in reversed(inside[:-1] or inside) if part.lower() in SPLITS), None)
    stems, problem = _whole(stems)
    states = [part.file.stat() for stem in stems for part in stem.parts]
    size, modified = sum(state.st_size for state in states), max((state.st_mtime_ns for state in states), default=0)
    at = hashlib.sha256(os.fsencode(place.parent)).hexdigest()[:16]
    source = Source(_shown("/".join(inside))[-1_000:], at, size, max(0, modified))
    return FoundSong(_shown(title)[:200] or "song", source, split, tuple(stems), problem)


def _whole(stems: Sequence[FoundStem]) -> tuple[Sequence[FoundStem], str]:
    """The stems that sum to the song, without those that are sums of others; and why there are none, if so."""
    labels = {stem.label for stem in stems}
    if labels <= {MIX}:
        return stems[:1], "" if stems else "it has no stems"
    if labels == {INSTRUMENTAL, MIX}:
        return [stem for stem in stems if stem.label == INSTRUMENTAL], ""
    parts = [stem for stem in stems if stem.label != MIX]
    if labels - {MIX, VOCALS, INSTRUMENTAL}:
        parts = [stem for stem in parts if stem.label != INSTRUMENTAL]
    if MIX in labels and len(parts) == 1:
        return parts, f"it has a mix and {parts[0].label}, and not the rest: put rest.wav beside them"
    return parts, ""


def _text(file: Path) -> str:
    with open(file, "rb") as content:
        return content.read(LARGEST_TEXT).decode("utf-8", "replace")


def _shown(name: str) -> str:
    """A file's name as text, whatever bytes it is made of."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return re.sub(r"[\x00-\x1f\x7f]", lambda match: f"\\x{ord(match[0]):02x}", text)
