"""Songs of a data set as they lie on the disk, to be judged by: nothing is prepared, and nothing is written.

songs = read_in_place("musdb18hq:/data/musdb18hq", has_four_tracks)
songs.song(TEST_SEED)     # the first song of its test folder, a Multitrack
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from backline.corpus.corpus import Wanted, read_at
from backline.corpus.layouts import FoundSong, FoundStem, find_songs
from backline.corpus.manifest import SAMPLE_RATE, CorpusError
from backline.corpus.multitrack import Multitrack, span_samples
from backline.corpus.song import BLOCK, stem_names
from backline.corpus.songs import CLIP_SECONDS, Passage, in_passages
from backline.corpus.sources import StemSource
from backline.ffmpeg import NoSound
from backline.music.seeds import TEST_SEED, Purpose, purpose
from backline.sound_files import Audio

DATA_SETS = {"musdb18hq": "MUSDB18-HQ"}  # by what stands before the colon


def read_in_place(place: str, wanted: Wanted) -> SongsInPlace:
    """The songs of `NAME:FOLDER`.

    Args:
        wanted: which of them: `has_four_tracks`, for example.
    Raises:
        CorpusError: there are none.
    """
    name, _, folder = place.partition(":")
    if name not in DATA_SETS:
        raise CorpusError(
            f"no data set is called {name!r}: use {', '.join(DATA_SETS)}, as in musdb18hq:/data/musdb18hq"
        )
    test = Path(folder) / "test"
    if not test.is_dir():
        raise CorpusError(f"{folder or place} has no folder test: give the folder of {DATA_SETS[name]} that has it")
    songs = [SongInPlace(found) for found in find_songs(test) if not found.problem]
    if not (songs := [song for song in songs if wanted(song)]):
        raise CorpusError(f"{test} has no songs with the stems that are needed: is it that of {DATA_SETS[name]}?")
    return SongsInPlace(place, tuple(songs))


@dataclass(frozen=True)
class SongsInPlace:
    """`Songs` that are for judging alone."""

    place: str  # as it was asked for
    found: Sequence[Multitrack]

    def song(self, seed: int) -> Multitrack:
        if purpose(seed) != "test":
            raise CorpusError(
                f"{self.place} is for judging alone: `backline data prepare` makes a corpus to learn from"
            )
        if seed - TEST_SEED >= len(self.found):
            raise CorpusError(f"{self.place} has {len(self.found)} songs to judge by")
        return self.found[seed - TEST_SEED]

    def test_songs(self) -> int:
        return len(self.found)

    def passages(self, split: Purpose, composed: int) -> list[Passage]:
        whole = [(song, [(0.0, song.seconds)]) for song in self.found] if split == "test" else []
        return in_passages(whole, CLIP_SECONDS, split)

    def people(self) -> bool:
        return True

    def card(self) -> dict[str, Any]:
        return {"data": f"{DATA_SETS[self.place.partition(':')[0]]}: {len(self.found)} songs"}

    def options(self) -> str:
        return f"--songs {self.place}"


class SongInPlace:
    """A `Multitrack`. Every read decodes its files from their beginning, but holds no more than is asked for."""

    def __init__(self, found: FoundSong) -> None:
        self.title = found.title
        self._stems: Mapping[str, FoundStem] = dict(
            zip(stem_names(stem.label for stem in found.stems), found.stems, strict=True)
        )
        self.labels: Mapping[str, str] = {name: stem.label for name, stem in self._stems.items()}

    @cached_property
    def seconds(self) -> float:
        return max(self._samples(stem) for stem in self._stems) / SAMPLE_RATE

    def read(self, stem: str, sample_rate: int, begin: float = 0.0, seconds: float | None = None) -> Audio:
        """As `Multitrack.read`. Raises CorpusError: a file cannot be read."""
        first, last = span_samples(self.seconds, sample_rate, begin, seconds)
        found = read_at(lambda start, end: self._read(stem, start, end), sample_rate, first, last)
        return np.pad(found, ((0, 0), (0, last - first - found.shape[1])))  # other stems are longer

    def _read(self, stem: str, first: int, last: int) -> Audio:
        try:
            with closing(StemSource(self._stems[stem])) as source:
                skipped = 0
                while skipped < first and (count := source.read(min(BLOCK, first - skipped)).shape[1]):
                    skipped += count
                return source.read(max(0, last - first))
        except NoSound as error:
            raise CorpusError(f"{self.title}: {error}") from error

    def _samples(self, stem: str) -> int:
        try:
            with closing(StemSource(self._stems[stem])) as source:
                samples = 0
                while count := source.read(BLOCK).shape[1]:
                    samples += count
                return samples
        except NoSound as error:
            raise CorpusError(f"{self.title}: {error}") from error
