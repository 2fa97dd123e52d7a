"""Songs by seed, composed or of a corpus: what trainers learn from and evaluators judge by.

songs: Songs = Composer(BAND, 48_000)
songs = CorpusSongs(Corpus.open(folder), has_four_tracks, seconds=30.0)
songs = Mixed(songs, Composer(BAND, 48_000), share=0.5)
song = songs.song(training_seed(0, 7))     # a Multitrack: four_tracks(song, 48_000), voice_and_band(song, 24_000)
songs.song(TEST_SEED + 3)                  # the fourth by which packs are judged

The seed tells what a song is for (music/seeds.py), so no song is learnt from and judged by.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any, Protocol

import numpy as np

from backline.corpus.corpus import Corpus, Span, Wanted
from backline.corpus.manifest import CorpusError
from backline.corpus.multitrack import Composed, Excerpt, Multitrack
from backline.music.seeds import HELD_OUT_SEED, TEST_SEED, Purpose, purpose
from backline.music.songs import song
from backline.music.sources import licences
from backline.music.world import WORLDS, World

COMPOSED = (
    "composed by backline.music, rendered with FluidSynth and its General MIDI sound font FluidR3 (MIT), "
    "sung by backline.music.singer; new songs all the time, each in a few excerpts"
)
SUNG = (
    "most voices are people: syllables of Debian's klettres-data (GPL-2+), spoken by native speakers of 14 languages "
    "and sung by the vocoder WORLD (MIT); no recording is part of the pack"
)
WHY = (
    "no sample and no recording is part of the pack, nor can one be had back from it: it learns from songs that were "
    "rendered with them, as a musician does who has heard an instrument"
)
FIRST_SEED: dict[Purpose, int] = {"training": 0, "validation": HELD_OUT_SEED, "test": TEST_SEED}
SHORTEST_SECONDS = 1.0  # of a passage
CLIP_SECONDS = 30.0  # of a corpus' songs, where they are learnt from: about what a composed one lasts
FILTERED_SECONDS = 10.0  # where they are to pass filters


@dataclass(frozen=True)
class Passage:
    """A stretch of a song, which is read, or composed, when it is asked for."""

    title: str
    seed: int  # of what is drawn for it
    song: Callable[[], Multitrack]


class Songs(Protocol):
    """Where songs come from."""

    def song(self, seed: int) -> Multitrack:
        """That of a seed: the same whenever it is asked for, and for no two purposes the same.

        Raises:
            CorpusError: there is none.
        """
        ...

    def test_songs(self) -> int | None:
        """How many there are from TEST_SEED on; None: as many as seeds."""
        ...

    def passages(self, split: Purpose, composed: int) -> list[Passage]:
        """All that passes of a split, once, in passages of CLIP_SECONDS and less; of composed songs, so many."""
        ...

    def people(self) -> bool:
        """Whether people sing in them, whose voices differ more than bands do."""
        ...

    def card(self) -> dict[str, Any]:
        """What they are and whose, for the card of a pack that learns from them."""
        ...

    def options(self) -> str:
        """How a command is told of them."""
        ...


@dataclass(frozen=True)
class Composer:
    """Songs that are composed, in a world; as a rule at the rate at which they are then read."""

    world: World
    sample_rate: int  # Hz

    def song(self, seed: int) -> Composed:
        return Composed(song(seed, self.world, self.sample_rate))

    def test_songs(self) -> None:
        return None

    def passages(self, split: Purpose, composed: int) -> list[Passage]:
        first = FIRST_SEED[split]
        return [Passage(f"song {seed}", seed, partial(self.song, seed)) for seed in range(first, first + composed)]

    def people(self) -> bool:
        return self.world.people

    def card(self) -> dict[str, Any]:
        return {"data": data(self.world), "world": self._name}

    def options(self) -> str:
        return f"--world {self._name}"

    @property
    def _name(self) -> str:
        return next((name for name, world in WORLDS.items() if world == self.world), repr(self.world))


@dataclass(frozen=True)
class CorpusSongs:
    """Songs of a corpus: to learn from and to choose by, clips of the songs of that split; to be judged by, whole."""

    corpus: Corpus
    wanted: Wanted  # of its songs: `has_four_tracks` or `has_voice_and_band`
    seconds: float = CLIP_SECONDS
    filters: Collection[str] = ()  # that clips pass

    def song(self, seed: int) -> Multitrack:
        """Clips are shorter than `seconds` where no song is so long."""
        split = purpose(seed)
        if split == "test":
            found = self.corpus.songs("test", self.wanted)
            if seed - TEST_SEED < len(found):
                return found[seed - TEST_SEED]
            raise CorpusError(f"{self.corpus.folder} has {len(found)} songs to judge by that have the stems needed")
        number = seed if split == "training" else seed - HELD_OUT_SEED
        return self.corpus.clip(number, min(self.seconds, self._longest(split)), split, self.filters, self.wanted)

    def test_songs(self) -> int:
        return len(self.corpus.songs("test", self.wanted))

    def passages(self, split: Purpose, composed: int) -> list[Passage]:
        spans = [(song, song.passing(self.filters)) for song in self.corpus.songs(split, self.wanted)]
        return in_passages(spans, self.seconds, split)

    def people(self) -> bool:
        return True

    def card(self) -> dict[str, Any]:
        licences = Counter(song.entry.licence or "licence unknown" for song in self.corpus.songs(wanted=self.wanted))
        told = ", ".join(f"{count} of {licence}" for licence, count in licences.most_common())
        return {"data": f"the corpus {self.corpus.folder.resolve().name}: {licences.total()} songs ({told})"}

    def options(self) -> str:
        return f"--songs {self.corpus.folder}"

    def _longest(self, split: Purpose) -> float:
        """Seconds of the longest span that passes; the wanted ones where there is none, so that `clip` says so."""
        spans = [span for song in self.corpus.songs(split, self.wanted) for span in song.passing(self.filters)]
        return max((end - begin for begin, end in spans), default=self.seconds)


@dataclass(frozen=True)
class Mixed:
    """Songs of two sources to learn from, of a corpus and composed. By the first one's they are chosen and judged."""

    first: Songs
    second: Songs
    share: float  # of the second
    kept: bool = False  # the second is what a pack that learns the first knows already and is to keep

    def song(self, seed: int) -> Multitrack:
        drawn = np.random.default_rng([seed, 0x50]).random()
        return (self.second if purpose(seed) == "training" and drawn < self.share else self.first).song(seed)

    def test_songs(self) -> int | None:
        return self.first.test_songs()

    def passages(self, split: Purpose, composed: int) -> list[Passage]:
        """Of the second for training only, and so many that they have their share."""
        found = self.first.passages(split, composed)
        if split != "training":
            return found
        wanted = round(len(found) * self.share / (1 - self.share)) if self.share < 1 else composed
        return [*(found if self.share < 1 else []), *self.second.passages(split, wanted)]

    def people(self) -> bool:
        return self.first.people() or self.second.people()

    def card(self) -> dict[str, Any]:
        first, second = self.first.card(), self.second.card()
        return {**second, **first, "data": f"{first['data']}; and, for {self.share:.0%}, {second['data']}"}

    def options(self) -> str:
        second = self.second.options()
        if self.kept:
            second = second.replace("--world", "--keep-world")
        return f"{self.first.options()} {second} --composed {self.share:g}"


def in_passages(songs: Iterable[tuple[Multitrack, Iterable[Span]]], seconds: float, split: Purpose) -> list[Passage]:
    """Spans of songs in equal passages of `seconds` and less."""
    found: list[Passage] = []
    for whole, spans in songs:
        for begin, end in spans:
            if end - begin < SHORTEST_SECONDS:
                continue
            count = ceil((end - begin) / seconds)
            for number in range(count):
                start, length = begin + number * (end - begin) / count, (end - begin) / count
                title = f"{whole.title} from {start:.1f} s"
                found.append(Passage(title, FIRST_SEED[split] + len(found), partial(Excerpt, whole, start, length)))
    return found


def data(world: World) -> str:
    """What a pack that learns from a world's songs has learnt from, with licences.

    Raises:
        KitsMissing: a kit is not installed, whose own file says its licence.
    """
    if world.produced:
        return (
            f"composed by backline.music, new songs all the time, each in a few excerpts; with {licences(world)}; {WHY}"
        )
    return f"{COMPOSED}; {SUNG}" if world.people else COMPOSED
