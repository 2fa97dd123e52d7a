"""What separation is trained on: random crops of composed songs' stems, augmented as the paper does, and their sums.

MSS-LM's augmentation (MODELS.md B2): each track times a gain in [0.5, 1.5], upside down in one case of ten, through a
seven-band equalizer. PAPER is that. In OURS the equalizer is cheaper and bends no phases, tracks fall silent now and
then, so that silence is known when it comes, and whole crops are louder or softer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from backline.music.seeds import training_seed
from backline.music.stems import SAMPLE_RATE, Stems
from backline.training.augmentation import vary_bands, vary_equalization, vary_gain, vary_polarity

StemsMaker = Callable[[int], Stems]  # those of the song of a seed
Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Augmentation:
    """How crops are varied, beside each track's gain and polarity."""

    silent: float = 0.08  # share of tracks that are silenced
    early: float = 0.1  # share of crops that begin with silence, as sessions do
    parametric: bool = False  # the equalizer: a parametric one, or a curve without delay
    decibels: tuple[float, ...] = (6.0,)  # of its bands at most, either way, by track; the last one for all others
    levels: tuple[float, float] = (-12.0, 3.0)  # dB by which a whole crop is louder: recordings differ


OURS = Augmentation()
PAPER = Augmentation(silent=0.0, early=0.0, parametric=True, decibels=(4.0, 6.0), levels=(0.0, 0.0))


@dataclass(frozen=True)
class Feed:
    """How crops are drawn."""

    samples: int  # of a crop
    rows: int  # of a batch
    augmentation: Augmentation = OURS
    songs: int = 24  # kept at hand to cut crops from
    batches_per_song: int = 2  # then the oldest song is replaced by a new one


class Rehearsed(Generic[Batch]):
    """Batches that are each met several times, in an order that chance decides: making one costs more than a step."""

    def __init__(self, make: Callable[[], Batch], passes: int, kept: int, seed: int) -> None:
        """`make` makes a new batch, in one call of `passes`; the last `kept` can be met again."""
        self.make, self.passes, self.kept = make, passes, kept
        self.generator = np.random.default_rng(seed)
        self.batches: list[Batch] = []

    def next(self) -> Batch:
        if len(self.batches) < self.passes or self.generator.random() < 1 / self.passes:
            self.batches = [*self.batches, self.make()][-self.kept :]
            return self.batches[-1]
        return self.batches[int(self.generator.integers(len(self.batches)))]


class Mixtures:
    """Batches of stems [row, track, sample]; the mixture is their sum. Songs are never heard again once replaced."""

    def __init__(self, feed: Feed, make_stems: StemsMaker, seed: int) -> None:
        self.feed, self.make_stems = feed, make_stems
        self.next_seed = training_seed(seed, 0)
        self.generator = np.random.default_rng(seed)
        self.songs: list[Stems] = []
        self.batches = 0

    def batch(self) -> NDArray[np.float32]:
        """[row, track, sample]."""
        if len(self.songs) < 4 or self.batches % self.feed.batches_per_song == 0:
            while len(self.songs) < 4:
                self.add_song()
            self.add_song()
        self.batches += 1
        return np.stack([self.crop() for _ in range(self.feed.rows)])

    def add_song(self) -> None:
        self.songs = [*self.songs[-self.feed.songs + 1 :], self.make_stems(self.next_seed)]
        self.next_seed += 1

    def crop(self, tracks: slice = slice(None)) -> Stems:
        """[track, sample] from anywhere in a song, each track augmented by itself; `tracks` are those that are kept."""
        feed, vary, draw = self.feed, self.feed.augmentation, self.generator
        stems = self.songs[int(draw.integers(len(self.songs)))]
        start = int(draw.integers(max(1, stems.shape[1] - feed.samples + 1)))
        cut = stems[tracks, start : start + feed.samples]
        cut = np.pad(cut, ((0, 0), (0, feed.samples - cut.shape[1])))
        if draw.random() < vary.early:
            cut[:, : int(draw.integers(feed.samples))] = 0
        level = np.float32(10 ** (draw.uniform(*vary.levels) / 20))
        places = range(len(stems))[tracks]
        return level * np.stack([self.augmented(track, place) for track, place in zip(cut, places, strict=True)])

    def augmented(self, track: NDArray[np.float32], place: int) -> NDArray[np.float32]:
        """A track [sample], which stands at `place` among the song's."""
        vary, draw = self.feed.augmentation, self.generator
        if draw.random() < vary.silent:
            return np.zeros_like(track)
        equalize = vary_bands if vary.parametric else vary_equalization
        track = equalize(track, SAMPLE_RATE, draw, vary.decibels[min(place, len(vary.decibels) - 1)])
        return vary_polarity(vary_gain(track, draw), draw)

    def state_dict(self) -> dict[str, Any]:
        return {"next_seed": self.next_seed, "batches": self.batches, "generator": self.generator.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on with new songs; those at hand when the state was taken are not made again."""
        self.next_seed = state["next_seed"]
        self.batches = state["batches"]
        self.generator.bit_generator.state = state["generator"]
