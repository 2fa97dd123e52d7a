"""Songs as DuoTok's renderers learn from them: each track's tokens and its latents, written by a side process.

    encoder = Encoder(tokenizer, vae, songs)
    with producer(folder, partial(write_songs, encoder=encoder, seed=0)):
        pool = Pool(folder, "vocals")
        pool.refresh()

A track comes in another level and colour each time, and tokenizer and VAE hear the same one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from backline.codecs.duotok.config import ROLES, Role
from backline.codecs.duotok.renderer import SMALL
from backline.codecs.duotok.tokenizer import Tokenizer
from backline.codecs.vae.config import Vae
from backline.codecs.vae.whole import encoded
from backline.corpus.manifest import CorpusError
from backline.corpus.multitrack import (
    Multitrack,
    StemsMissing,
    has_four_tracks,
    has_voice_and_band,
    made_of,
    mono,
    sum_of,
)
from backline.corpus.pair_tokens import read_tokens, write_tokens
from backline.corpus.songs import Songs
from backline.corpus.stem_names import MIX, VOCALS
from backline.music.seeds import training_seed
from backline.nn.diffusion import LEAST_TIME
from backline.sound_files import Audio
from backline.training.augmentation import vary_equalization
from backline.training.tokens import await_shard, check_producer, note_read

SONGS_PER_SHARD = 8
EQUALIZED = 4.0  # dB at most, either way
LEVELS = -12.0, 3.0  # dB by which a track is louder: recordings differ
FEWEST = 4  # of a window there are at least as many of its frames as one part of so many


@dataclass(frozen=True)
class Track:
    """A track of a song, cut to whole tokens and latent frames."""

    tokens: NDArray[np.int32]  # [token]
    latents: NDArray[np.float16]  # [channel, frame], the VAE's

    @property
    def frames(self) -> int:
        return self.latents.shape[1]


@dataclass(frozen=True)
class Encoder:
    """What makes tokens and latents of the song of a seed; picklable."""

    tokenizer: Tokenizer
    vae: Vae
    songs: Songs

    def __call__(self, seed: int, varied: bool = True) -> dict[Role, Track]:
        """Its tracks by role, `varied` in level and colour.

        Raises:
            CorpusError: there is none.
            StemsMissing: its voice and its band are not apart.
        """
        draw = np.random.default_rng([seed, 0xDEC])
        song = self.songs.song(seed)
        return {role: self.track(sound_of(song, role, self.vae), role, draw if varied else None) for role in ROLES}

    @torch.inference_mode()
    def track(self, sound: Audio, role: Role, draw: Generator | None = None) -> Track:
        """Of a sound [channel, sample] at the VAE's rate; `draw` varies it."""
        vae, config = self.vae, self.tokenizer.config
        if draw is not None:
            level = np.float32(10 ** (draw.uniform(*LEVELS) / 20))
            sound = level * coloured(sound, vae.sample_rate, draw)
        sizes = SMALL.fitted(vae, config.code_dim)
        frames = sound.shape[1] // vae.hop // sizes.frames * sizes.frames
        count = sizes.tokens_of(frames)
        heard = soxr.resample(mono(sound), vae.sample_rate, config.sample_rate).astype(np.float32)
        samples = count * config.samples_per_token
        heard = np.pad(heard[:samples], (0, max(0, samples - len(heard))))
        tokens = self.tokenizer.encode(torch.from_numpy(heard)[None], role)[0]
        latents = encoded(vae, np.ascontiguousarray(sound[:, : frames * vae.hop]), frames)
        return Track(tokens.numpy().astype(np.int32), latents.half().numpy())


def sound_of(song: Multitrack, role: Role, vae: Vae) -> Audio:
    """A track of a song [channel, sample], in as many channels and at the rate that the VAE has.

    Raises:
        StemsMissing: its voice and its band are not apart.
    """
    if not (has_voice_and_band(song) or has_four_tracks(song)):
        raise StemsMissing(f"{song.title} has no voice apart from a band: take another song")
    sung = role == "vocals"
    stems = [stem for stem, label in song.labels.items() if label != MIX and (label == VOCALS) == sung]
    sound = sum_of(song, stems, vae.sample_rate)
    return mono(sound)[None] if vae.channels == 1 else np.repeat(sound[:2], 1 if len(sound) > 1 else 2, axis=0)


def coloured(sound: Audio, sample_rate: int, draw: Generator) -> Audio:
    """[channel, sample], all channels in the same way."""
    state = draw.bit_generator.state
    channels = []
    for channel in sound:
        draw.bit_generator.state = state
        channels.append(vary_equalization(channel, sample_rate, draw, EQUALIZED))
    return np.stack(channels)


# ---- files ----


def write_songs(path: Path, number: int, encoder: Encoder, seed: int, songs: int = SONGS_PER_SHARD) -> None:
    """Shard `number` of a training run. Songs of a corpus whose voice is not apart are passed over.

    Raises:
        CorpusError: all of them are such.
    """
    first = training_seed(seed, number * songs)
    write_tokens(path, [arrays(tracks) for tracks in encoded_songs(encoder, range(first, first + songs), varied=True)])


def encoded_songs(encoder: Encoder, seeds: range, varied: bool) -> list[dict[Role, Track]]:
    """The songs of these seeds that have what is needed. Raises CorpusError: none has."""
    made = list(made_of(partial(encoder, varied=varied), seeds))
    if not made:
        raise CorpusError("no song has a voice that is apart from its band: `backline data prepare` separates them")
    return made


def arrays(tracks: Mapping[Role, Track]) -> dict[str, NDArray[Any]]:
    """As a file has them."""
    return {f"{role}_{name}": array for role, track in tracks.items() for name, array in vars(track).items()}


def read_songs(path: Path, role: Role) -> list[Track]:
    """One track of the songs of a file."""
    return [Track(song[f"{role}_tokens"], song[f"{role}_latents"]) for song in read_tokens(path)]


class Pool:
    """A track of the newest songs of a folder of shards, as many as there are yet, all of which stay at hand."""

    def __init__(self, folder: Path, role: Role, most: int = 3000) -> None:
        self.folder, self.role, self.most, self.number = folder, role, most, 0
        self.songs: list[Track] = []

    def refresh(self) -> None:
        """Reads all shards that have come; waits where there is no song yet.

        Raises:
            RuntimeError: the side process that writes them has failed: old songs alone would be learnt by heart.
        """
        check_producer(self.folder)
        there = sum(1 for _ in self.folder.glob("shard-*.npz"))  # they come in order
        while not self.songs or self.number < there:
            fresh = read_songs(await_shard(self.folder, self.number), self.role)
            self.songs = [*self.songs, *fresh][-self.most :]
            self.number += 1
            note_read(self.folder, self.role, self.number)


def spread(songs: Sequence[Track]) -> tuple[Tensor, Tensor]:
    """Mean [channel] and, over all channels, the deviation from it of the latents."""
    latents = np.concatenate([song.latents.astype(np.float64) for song in songs], axis=1)
    mean = latents.mean(axis=1)
    deviation = np.sqrt(np.square(latents - mean[:, None]).mean())
    return torch.tensor(mean, dtype=torch.float32), torch.tensor(deviation, dtype=torch.float32)


# ---- rows ----


@dataclass(frozen=True)
class Batch:
    """Rows, ready to learn from."""

    clean: Tensor  # [row, channel, frame], as the VAE has latents
    tokens: Tensor  # int64 [row, token]
    times: Tensor  # [row, frame]; 0 where frames are given
    present: Tensor  # bool [row, frame]: frames that there are; before a song's beginning there are none

    def to(self, device: torch.device) -> Batch:
        parts = (part.to(device) for part in (self.clean, self.tokens, self.times, self.present))
        return Batch(*parts)


class Drawing:
    """Draws batches from songs; a resumed one goes on with the draws that would have come."""

    def __init__(self, rows: int, prefix: float, window: int, tokens: int, frames: int, seed: int) -> None:
        """
        Args:
            prefix: share of the rows whose beginning is clean, so that a stream can go on from what it has said.
            window: latent frames of a row.
            tokens, frames: as many tokens lie beside as many latent frames.
        """
        self.rows, self.prefix, self.window = rows, prefix, window
        self.tokens, self.frames = tokens, frames
        self.random = np.random.default_rng([seed, 0xDEC])

    def state_dict(self) -> dict[str, Any]:
        return {"random": self.random.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.random.bit_generator.state = state["random"]

    def batch(self, songs: Sequence[Track]) -> Batch:
        """Rows of as many songs, each from anywhere."""
        rows = [self.row(songs[int(self.random.integers(len(songs)))]) for _ in range(self.rows)]
        return Batch(*(torch.from_numpy(np.stack(parts)) for parts in zip(*rows, strict=True)))

    def row(self, song: Track) -> tuple[NDArray[Any], ...]:
        """Latents [channel, frame], tokens [token], times [frame] and the frames that there are [frame].

        Windows begin up to three quarters of one before the song, as a stream's first ones do, and end up to half of
        one after it.
        """
        draw, window = self.random, self.window
        earliest, latest = -(window - window // FEWEST), max(0, song.frames - window // 2)
        start = int(draw.integers(earliest // self.frames, latest // self.frames + 1)) * self.frames
        there = slice(max(0, -start), min(window, song.frames - start))
        latents = np.zeros((len(song.latents), window), np.float32)
        latents[:, there] = song.latents[:, start + there.start : start + there.stop]
        present = np.zeros(window, bool)
        present[there] = True
        tokens = np.zeros(window * self.tokens // self.frames, np.int64)
        first, last = (at * self.tokens // self.frames for at in (there.start, there.stop))
        skipped = start * self.tokens // self.frames
        tokens[first:last] = song.tokens[first + skipped : last + skipped]
        times = np.full(window, draw.uniform(LEAST_TIME, 1.0), np.float32)
        if draw.random() < self.prefix:
            times[: there.start + int(draw.integers(there.stop - there.start))] = 0.0
        return latents, tokens, times, present
