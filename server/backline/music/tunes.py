"""Old tunes to sing: those of public-domain collections that the package music21 has, and for whom each of them is.

Fiddle tunes and airs come without chords, Bach's chorales with four voices. By its name a tune is for training,
validation or test, by its beginning for training or not: where the two disagree nobody sings it. So no tune that is
learnt from shares a name or a beginning with one that is judged by, though many stand in several collections, under
several names and in several keys.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib.util import find_spec
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any

from numpy.random import Generator

from backline.music.seeds import Purpose
from backline.music.theory import Key, Metre

REMEDY = "pip install 'backline[tunes]'"
# What a metre is played in, and how much longer its notes are there.
PLAYED = {
    "4/4": {"4/4": 1.0},
    "2/2": {"4/4": 1.0},
    "2/4": {"4/4": 2.0},
    "3/4": {"3/4": 1.0},
    "3/8": {"3/4": 2.0},
    "6/8": {"6/8": 1.0, "12/8": 1.0},
    "12/8": {"12/8": 1.0},
}
SHARES: dict[Purpose, tuple[float, float]] = {"training": (0, 0.6), "validation": (0.6, 0.8), "test": (0.8, 1)}
BEGINNING = 8  # steps from one pitch to the next that tell a tune
LEAST_BARS = 8
FASTEST, FAST = 0.24, 0.5  # beats of the shortest note that can be sung, and of those that there may be few of
MOST_FAST = 0.25  # share of the notes
MOST_TRIES = 80  # tunes that are looked at for a song
RESTRICTED = re.compile(r"(?im)^(?!T:).*(copyright|licen[cs]|permission|commercial|all rights|©)")
ALIASES = {"C": "4/4", "C|": "2/2"}


class TunesMissing(RuntimeError):
    """The package that has the tunes is not installed."""


@dataclass(frozen=True)
class Collection:
    """A folder of music21's corpus. What it takes from a book is in the public domain; of encodings it says nothing."""

    folder: str
    name: str
    license: str = "public domain; encoders' names in its files, no licence asked for"


FIDDLERS = (
    Collection("oneills1850", "O'Neill's Music of Ireland, 1903"),
    Collection("ryansMammoth", "Ryan's Mammoth Collection, 1883"),
    Collection("airdsAirs", "Aird's Airs, 1782 to 1801"),
)
CHORALES = Collection("bach", "chorales by J. S. Bach")
COLLECTIONS = (*FIDDLERS, CHORALES)  # not essenFolksong, whose licence forbids commercial use


@dataclass(frozen=True)
class Entry:
    """Where a tune is written."""

    collection: Collection
    file: Path
    number: int | None  # of those in the file; None: the file has one
    name: str
    metre: str  # "" where only the notes tell

    @property
    def purpose(self) -> Purpose:
        """By the name alone."""
        return _purpose(re.sub(r"\b(the|a|an)\b|[^a-z0-9.]", "", re.split("--|,", self.name.lower())[0]))


@dataclass(frozen=True)
class Tone:
    """A note of a tune, in beats."""

    start: float
    length: float
    pitch: int


@dataclass(frozen=True)
class Tune:
    """A tune as it is sung, from its first whole bar; a chorale's other voices are `below`, the bass last."""

    name: str
    key: Key
    metre: Metre
    bars: int
    melody: tuple[Tone, ...]
    below: tuple[tuple[Tone, ...], ...] = ()

    @property
    def held_out(self) -> bool:
        """By the first steps of the melody, in whatever key."""
        pitches = [tone.pitch for tone in self.melody]
        steps = [after - before for before, after in pairwise(pitches) if after != before]
        return _purpose(" ".join(map(str, steps[:BEGINNING]))) != "training"

    def moved(self, semitones: int) -> Tune:
        """In another key."""
        up = [
            tuple(replace(tone, pitch=tone.pitch + semitones) for tone in tones) for tones in (self.melody, *self.below)
        ]
        key = Key((self.key.tonic + semitones) % 12, self.key.mode)
        return replace(self, key=key, melody=up[0], below=tuple(up[1:]))

    def excerpt(self, first: int, bars: int) -> Tune:
        """From bar `first`, as long as `bars`; after its end it begins again."""
        per_bar = self.metre.beats_per_bar
        begin, end, whole = first * per_bar, (first + bars) * per_bar, self.bars * per_bar

        def within(tones: Sequence[Tone]) -> tuple[Tone, ...]:
            laps = (lap * whole for lap in range(-(-end // whole)))
            found = (replace(tone, start=tone.start + lap - begin) for lap in laps for tone in tones)
            ends = float(end - begin)
            return tuple(replace(t, length=min(t.length, ends - t.start)) for t in found if 0 <= t.start < ends)

        return replace(self, bars=bars, melody=within(self.melody), below=tuple(map(within, self.below)))


def missing() -> str | None:
    """Why no tune can be had here; None if they can."""
    try:
        corpus()
    except TunesMissing as error:
        return str(error)
    return None


def corpus() -> Path:
    """The folder of the collections.

    Raises:
        TunesMissing: music21 is not installed, or without its corpus.
    """
    spec = find_spec("music21")
    places = spec.submodule_search_locations if spec else None
    folder = Path(places[0]) / "corpus" if places else None
    if folder is None or not all((folder / collection.folder).is_dir() for collection in COLLECTIONS):
        raise TunesMissing(f"music21 with its corpus of old tunes is not installed: {REMEDY}")
    return folder


def draw_tune(
    rng: Generator,
    wanted: Purpose,
    metre: Metre,
    modes: Sequence[str],
    compass: tuple[int, int],
    tonics: Sequence[int],
) -> Tune | None:
    """A tune of that purpose, in a key in which it can be sung; None where the first ones that were looked at cannot.

    Args:
        compass: the lowest and the highest MIDI pitch of the singer.
        tonics: as in world.World.

    Raises:
        TunesMissing: they are not installed.
    """
    if not any(metre.name in played for played in PLAYED.values()):
        return None
    every = [entry for entry in entries(corpus()) if entry.purpose == wanted and _played(entry.metre, metre)]
    for place in rng.permutation(len(every))[:MOST_TRIES]:
        tune = read(every[int(place)], metre)
        if tune is None or tune.held_out == (wanted == "training") or tune.key.mode not in modes:
            continue
        pitches = [tone.pitch for tone in tune.melody]
        home = 0 if tune.key.mode == "major" else 9
        shifts = [
            shift
            for shift in range(compass[0] - min(pitches), compass[1] - max(pitches) + 1)
            if (tune.key.tonic + shift - home) % 12 in tonics
        ]
        if shifts:
            return tune.moved(shifts[int(rng.integers(len(shifts)))])
    return None


@cache
def entries(folder: Path) -> tuple[Entry, ...]:
    """All tunes of COLLECTIONS, but those that ask for a licence: in their folder, or beside their notes."""
    found: list[Entry] = []
    for collection in FIDDLERS:
        if not (folder / collection.folder / "license.txt").exists():
            for file in sorted((folder / collection.folder).glob("*.abc")):
                found += _written(collection, file)
    if not (folder / CHORALES.folder / "license.txt").exists():
        files = sorted((folder / CHORALES.folder).glob("*.mxl"))
        found += [Entry(CHORALES, file, None, file.stem.split("-")[0], "") for file in files]
    return tuple(found)


def _written(collection: Collection, file: Path) -> Iterator[Entry]:
    """The tunes of an ABC file, but those with a second ending: their bars would be too many."""
    for text in re.split(r"(?m)^(?=X:)", file.read_text(encoding="utf-8", errors="replace")):
        said = {field: re.search(rf"(?m)^{field}:\s*(.*?)\s*$", text) for field in "XTMK"}
        number, title, metre, key = (said[field] for field in "XTMK")
        if not (number and number[1].isdigit() and title and metre and key) or RESTRICTED.search(text):
            continue
        if not re.search(r"[|\[:]\s*1", text[key.end() :]):
            yield Entry(collection, file, int(number[1]), title[1], ALIASES.get(metre[1], metre[1]))


@lru_cache(maxsize=512)
def read(entry: Entry, metre: Metre) -> Tune | None:
    """The tune in that metre; None if it cannot be read, or is none to sing in major or minor."""
    from music21 import converter

    try:
        score = converter.parse(entry.file, number=entry.number, forceSource=True, storePickle=False)
        return _tune(score, entry, metre)
    except Exception:  # whatever music21 stumbles over: other tunes are as good
        return None


def _tune(score: Any, entry: Entry, metre: Metre) -> Tune | None:
    parts = list(score.parts)
    metres = {time.ratioString for time in parts[0].recurse().getElementsByClass("TimeSignature")}
    signatures = {signature.sharps for signature in parts[0].recurse().getElementsByClass("KeySignature")}
    if len(parts) not in (1, 4) or len(metres) != 1 or len(signatures) != 1 or RESTRICTED.search(_rights(score)):
        return None
    scale = _played(metres.pop(), metre)
    if not scale:
        return None
    bars = list(parts[0].getElementsByClass("Measure"))
    pickup = bars[0].duration.quarterLength
    whole = max(bar.duration.quarterLength for bar in bars)
    begin = float(pickup if pickup < whole else 0)
    voices = [tuple(_tones(part, begin, scale)) for part in parts]
    lengths = [tone.length for tone in voices[0]]
    ends = max(tone.start + tone.length for tone in voices[0])
    tonic = voices[-1][-1].pitch % 12  # of the bass, or of the melody alone
    major = 7 * signatures.pop() % 12
    mode = {major: "major", (major + 9) % 12: "minor"}.get(tonic)
    count = ceil(ends / metre.beats_per_bar - 1e-6)
    if mode is None or count < LEAST_BARS or min(lengths) < FASTEST:
        return None
    if sum(length < FAST - 1e-6 for length in lengths) > MOST_FAST * len(lengths):
        return None
    return Tune(f"{entry.name} ({entry.collection.name})", Key(tonic, mode), metre, count, voices[0], tuple(voices[1:]))


def _tones(part: Any, begin: float, scale: float) -> Iterator[Tone]:
    """The notes of a part from `begin`, without grace notes; what is tied is one."""
    before: Tone | None = None
    for note in part.stripTies().recurse().notes:
        start = (float(note.getOffsetInHierarchy(part)) - begin) * scale
        length = float(note.quarterLength) * scale
        if length > 0 and start > -1e-6:
            tone = Tone(max(0.0, start), length, int(note.pitches[-1].midi))
            if before is not None and tone.start < before.start + before.length - 1e-6:
                raise ValueError("two notes at once")
            yield (before := tone)


def _rights(score: Any) -> str:
    return "" if score.metadata is None else str(score.metadata.copyright or "")


def _played(written: str, metre: Metre) -> float:
    """How much longer notes are in a metre than as written; 0 if they are not played in it."""
    return 1.0 if not written else PLAYED.get(written, {}).get(metre.name, 0.0)


def _purpose(text: str) -> Purpose:
    place = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / (1 << 32)
    return next(purpose for purpose, (low, high) in SHARES.items() if low <= place < high)
