"""Songs as DuoTok's language model learns from them: both tracks' tokens, written by a side process, kept on disk.

tokenizing = Tokenizing(tokenizer, songs)
with producer(tokens_folder(run, tokenizing), partial(write_songs, tokenizing=tokenizing, seed=0)):
    pool = Pool(folder)
    pool.refresh()

A folder is named after what its tokens mean: the tokenizer's weights, and where its songs come from. Those of others
are deleted when a run comes to another tokenizer.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from backline.codecs.duotok.config import ROLES
from backline.codecs.duotok.tokenizer import Tokenizer
from backline.corpus.manifest import CorpusError
from backline.corpus.multitrack import Composed, Multitrack, made_of, voice_and_band
from backline.corpus.pair_tokens import read_tokens, write_tokens
from backline.corpus.songs import Songs
from backline.models.duotok.config import BEAT, RATE
from backline.models.hafm.transport import BEAT_STEPS, transport_tokens
from backline.models.stream import Transport
from backline.music.seeds import HELD_OUT_SEED, training_seed
from backline.training.augmentation import vary_equalization, vary_gain, vary_polarity
from backline.training.tokens import await_shard, check_producer, note_read

SONGS_PER_SHARD = 8
READER = "lm"
PREFIX = "tokens-"  # of the folders
MOST_SONGS = 20_000  # at hand; one takes some 5 kB


@dataclass(frozen=True)
class SongTokens:
    """A song [track, frame], and where in its bar each of its frames lies: tokens of the source BEAT."""

    tracks: NDArray[np.uint16]
    beats: NDArray[np.int16]  # [frame]

    @property
    def frames(self) -> int:
        return self.tracks.shape[1]


@dataclass(frozen=True)
class Tokenizing:
    """What makes tokens of the song of a seed; picklable."""

    tokenizer: Tokenizer
    songs: Songs
    digest: str  # of the tokenizer's weights

    def __call__(self, seed: int, varied: bool = True) -> SongTokens:
        """The song, cut to whole tokens; `varied` in level, colour and polarity of its tracks.

        Raises:
            CorpusError: there is none.
            StemsMissing: its voice and its band are not apart.
        """
        sizes, draw = self.tokenizer.config, np.random.default_rng([seed, 0x1A])
        song = self.songs.song(seed)
        found = []
        for role, sound in zip(ROLES, voice_and_band(song, sizes.sample_rate), strict=True):
            if varied:
                sound = vary_polarity(vary_gain(vary_equalization(sound, sizes.sample_rate, draw), draw), draw)
            frames = len(sound) // sizes.samples_per_token
            whole = np.ascontiguousarray(sound[: frames * sizes.samples_per_token], np.float32)
            with torch.inference_mode():
                found.append(self.tokenizer.encode(torch.from_numpy(whole)[None], role)[0].cpu().numpy())
        tracks = np.stack(found).astype(np.uint16)
        return SongTokens(tracks, beats_of(song, tracks.shape[1]).astype(np.int16))

    @cached_property
    def fingerprint(self) -> str:
        """Other tokens lie in another folder."""
        return hashlib.sha256(f"{self.digest} {self.songs.options()}".encode()).hexdigest()[:12]


def beats_of(song: Multitrack, frames: int) -> NDArray[np.int64]:
    """[frame] tokens of BEAT: of a composed song, whose tempo is known; of any other, unknown."""
    if not isinstance(song, Composed):
        return np.full(frames, BEAT.vocabulary)
    piece = song.song.piece
    transport = Transport(at_seconds=0.0, playing=True, tempo=piece.tempo, numerator=piece.beats_per_bar)
    return transport_tokens(transport, 0, frames, RATE, BEAT_STEPS)


def tokens_folder(run: Path, tokenizing: Tokenizing) -> Path:
    """Where the tokens lie; deletes those of other tokenizers and other songs."""
    wanted = run / f"{PREFIX}{tokenizing.fingerprint}"
    for other in run.glob(f"{PREFIX}*"):
        if other != wanted:
            shutil.rmtree(other)
    wanted.mkdir(parents=True, exist_ok=True)
    return wanted


def write_songs(path: Path, number: int, tokenizing: Tokenizing, seed: int, songs: int = SONGS_PER_SHARD) -> None:
    """Shard `number` of a training run. Songs of a corpus that have no voice apart from a band are passed over."""
    first = training_seed(seed, number * songs)
    made = [vars(song) for song in made_of(tokenizing, range(first, first + songs))]
    if not made:
        raise CorpusError("no song has a voice apart from its band: DuoTok learns from both")
    write_tokens(path, made)


def held_out_songs(folder: Path, tokenizing: Tokenizing, count: int) -> list[SongTokens]:
    """Songs that the best weights are chosen by; made once."""
    path = folder / "held-out.npz"
    if not path.exists():
        seeds = range(HELD_OUT_SEED, HELD_OUT_SEED + count)
        write_tokens(path, [vars(song) for song in made_of(partial(tokenizing, varied=False), seeds)])
    return read_songs(path)


def read_songs(path: Path) -> list[SongTokens]:
    """The songs of a shard."""
    return [SongTokens(**arrays) for arrays in read_tokens(path)]


class Pool:
    """The newest songs of a folder of shards, as many as there are yet."""

    def __init__(self, folder: Path, most: int = MOST_SONGS) -> None:
        self.folder, self.most, self.number = folder, most, 0
        self.songs: list[SongTokens] = []

    def refresh(self) -> None:
        """Reads all shards that have come; waits where there is no song yet.

        Raises:
            RuntimeError: the side process that writes them has failed.
        """
        check_producer(self.folder)
        there = sum(1 for _ in self.folder.glob("shard-*.npz"))  # they come in order
        while not self.songs or self.number < there:
            self.songs = [*self.songs, *read_songs(await_shard(self.folder, self.number))][-self.most :]
            self.number += 1
            note_read(self.folder, READER, self.number)
