"""Songs as MGE-LDM learns from them: latents of all that can be asked of a song, written by a side process.

A song gives a latent sequence for each of its stems, for all but each, for all of them and for none: any of these is a
source, and the rest is its submixture. Beside the latents lies what the audio tower hears of each second.

encoder = Encoder(vae, towers.network.audio, songs)
with producer(folder, partial(write_songs, encoder=encoder, seed=0, songs=16)):
    pool = Pool(folder)
    pool.refresh()
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from backline.codecs.vae.config import Vae
from backline.corpus.labelled import Labels, stems_of
from backline.corpus.manifest import CorpusError
from backline.corpus.multitrack import made_of
from backline.corpus.pair_tokens import read_tokens, write_tokens
from backline.corpus.songs import Songs
from backline.music.seeds import training_seed
from backline.training.augmentation import vary_equalization, vary_gain, vary_polarity
from backline.training.tokens import await_shard, check_producer, first_shard, note_read, shard_path

SONGS_PER_SHARD = 8
READER = "network"
EQUALIZED = 4.0  # dB at most, either way
LEVELS = -12.0, 3.0  # dB by which a whole song is louder: recordings differ
LEFT_OUT = 0.25  # share of the songs that lack one of their stems: a band need not be whole


@dataclass(frozen=True)
class Encoded:
    """A song. The latents of subset 0 are of no stem, so silence; those of the last one are the whole song's."""

    labels: tuple[Labels, ...]  # of each stem
    subsets: NDArray[np.bool_]  # [subset, stem]
    latents: NDArray[np.float16]  # [subset, channel, frame]
    heard: NDArray[np.float16]  # [subset, second, dimension]

    @property
    def frames(self) -> int:
        return self.latents.shape[2]

    def rest(self, subset: int) -> int:
        """The subset of all other stems."""
        return int(np.flatnonzero((self.subsets == ~self.subsets[subset]).all(axis=1))[0])

    def named(self, subset: int) -> list[Labels]:
        """The labels of a subset's stems."""
        return [labels for labels, within in zip(self.labels, self.subsets[subset], strict=True) if within]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """As a file has it."""
        labels = np.array(["/".join(labels) for labels in self.labels])
        return {"labels": labels, "subsets": self.subsets, "latents": self.latents, "heard": self.heard}

    @classmethod
    def of(cls, arrays: dict[str, NDArray[Any]]) -> Encoded:
        labels = tuple(tuple(str(told).split("/")) if told else () for told in arrays["labels"])
        return cls(labels, arrays["subsets"], arrays["latents"], arrays["heard"])


@dataclass(frozen=True)
class Encoder:
    """What makes latents of the song of a seed."""

    vae: Vae
    hear: Callable[[Tensor], Tensor]  # the audio tower: [row, sample] at the VAE's rate -> [row, dimension]
    songs: Songs

    def __call__(self, seed: int, varied: bool = True) -> Encoded:
        """The song; `varied` in the levels, colours and number of its stems.

        Raises:
            CorpusError: there is none.
            StemsMissing: it has fewer than two stems.
        """
        draw = np.random.default_rng([seed, 0x36E])
        labels, stems = stems_of(self.songs.song(seed), self.vae.sample_rate)
        if varied:
            labels, stems = changed(labels, stems, self.vae.sample_rate, draw)
        whole = stems.shape[1] // self.vae.hop * self.vae.hop
        subsets = subsets_of(len(labels))
        sounds = torch.from_numpy(subsets.astype(np.float32) @ stems[:, :whole])
        with torch.inference_mode():
            latents = torch.cat([self.vae.encode(sound[None]) for sound in sounds])
            rate = self.vae.sample_rate
            seconds = sounds[:, : whole // rate * rate].unflatten(1, (-1, rate))
            heard = torch.stack([self.hear(each) for each in seconds])
        return Encoded(labels, subsets, latents.half().numpy(), heard.half().numpy())


def changed(
    labels: tuple[Labels, ...], stems: NDArray[np.float32], sample_rate: int, draw: Generator
) -> tuple[tuple[Labels, ...], NDArray[np.float32]]:
    """A song with another mix, and sometimes without one of its stems."""
    if len(labels) > 2 and draw.random() < LEFT_OUT:
        gone = int(draw.integers(len(labels)))
        labels, stems = labels[:gone] + labels[gone + 1 :], np.delete(stems, gone, axis=0)
    level = np.float32(10 ** (draw.uniform(*LEVELS) / 20))
    varied = [
        vary_polarity(vary_gain(vary_equalization(stem, sample_rate, draw, EQUALIZED), draw), draw) for stem in stems
    ]
    return labels, level * np.stack(varied)


def subsets_of(stems: int) -> NDArray[np.bool_]:
    """No stem, each, all but each, and all [subset, stem]; what is twice there, of two stems, is so once."""
    each = np.eye(stems, dtype=bool)
    rows = dict.fromkeys(tuple(map(bool, row)) for row in chain(np.zeros((1, stems)), each, ~each, np.ones((1, stems))))
    return np.array(list(rows))


def write_songs(path: Path, number: int, encoder: Encoder, seed: int, songs: int = SONGS_PER_SHARD) -> None:
    """Shard `number` of a training run. Songs of a corpus that have no two stems are passed over."""
    first = training_seed(seed, number * songs)
    made = [song.arrays() for song in made_of(encoder, range(first, first + songs))]
    if not made:
        raise CorpusError("no song has two stems that are apart: MGE-LDM learns from stems")
    write_tokens(path, made)


class Pool:
    """The newest songs of a folder of shards, as many as there are yet, all of which stay at hand; older shards go."""

    def __init__(self, folder: Path, most: int = 1500) -> None:
        self.folder, self.most, self.number = folder, most, first_shard(folder)
        self.shards: deque[list[Encoded]] = deque()

    @property
    def songs(self) -> list[Encoded]:
        return [song for shard in self.shards for song in shard]

    def refresh(self) -> None:
        """Reads all shards that have come; waits where there is no song yet.

        Raises:
            RuntimeError: the side process that writes them has failed: old songs alone would be learnt by heart.
        """
        check_producer(self.folder)
        while not self.shards or shard_path(self.folder, self.number).exists():  # they come in order
            self.shards.append(read_songs(await_shard(self.folder, self.number)))
            self.number += 1
            note_read(self.folder, READER, self.number)
            while sum(map(len, self.shards)) - len(self.shards[0]) >= self.most:
                shard_path(self.folder, self.number - len(self.shards)).unlink()
                self.shards.popleft()


def read_songs(path: Path) -> list[Encoded]:
    """The songs of a shard."""
    return [Encoded.of(arrays) for arrays in read_tokens(path)]


def spread(songs: Sequence[Encoded]) -> tuple[Tensor, Tensor]:
    """Mean [channel] and, over all channels, the deviation from it of the latents of whatever sounds."""
    count, total, squares = 0, 0.0, 0.0
    for song in songs:  # one at a time: a resumed run has hundreds of megabytes of them
        latents = song.latents[1:].astype(np.float64)
        count += latents.shape[0] * latents.shape[2]
        total, squares = total + latents.sum(axis=(0, 2)), squares + np.square(latents).sum(axis=(0, 2))
    mean = total / count
    deviation = np.sqrt((squares / count - np.square(mean)).mean())
    return torch.tensor(mean, dtype=torch.float32), torch.tensor(deviation, dtype=torch.float32)
