"""Songs as tokens, for the stages: made once by a side process, read from disk by every trainer.

A shard is one .npz of a few dozen songs. Shards are numbered; number n holds the songs of its own seeds and no song
stands in two, so whoever reads the shards in order never meets a piece again.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing import connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backline.codecs.base import Codec, SemanticEncoder
from backline.corpus.pair_tokens import Tokens, read_tokens, write_tokens
from backline.models.hafm.aligned.config import BAND, BEAT
from backline.models.hafm.grid import CHUNK_QUANTUM
from backline.models.hafm.score import semitones_from_c
from backline.models.hafm.transport import BEAT_STEPS, transport_tokens
from backline.models.stream import Transport
from backline.music.seeds import training_seed
from backline.music.songs import Song, song
from backline.music.world import World
from backline.training.augmentation import add_noise, vary_equalization, vary_gain, vary_polarity
from backline.training.score import score_tokens
from backline.training.semantics import VOCAL_NOISE

SHARDS_AHEAD = 16  # that lie ready for the trainer that has read most
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Tokenizers:
    """What makes tokens of a song's two sides."""

    vocal: SemanticEncoder
    codec: Codec

    @torch.inference_mode()
    def __call__(self, source: Song, seed: int) -> Tokens:
        """All tokens of a song, cut to whole chunk quanta so that every rate fits.

        The voice comes in another level, colour and polarity every time, and under noise, so that none of it tells.
        """
        rate = self.codec.sample_rate
        quanta = len(source.accompaniment) // int(CHUNK_QUANTUM * rate)
        samples = quanta * int(CHUNK_QUANTUM * rate)
        random = np.random.default_rng(seed)
        voice = vary_equalization(source.vocal[:samples], rate, random)
        voice = add_noise(vary_polarity(vary_gain(voice, random), random, 0.5), VOCAL_NOISE, random)
        vocal = torch.from_numpy(voice)[None, None]
        band = torch.from_numpy(source.accompaniment[:samples])[None, None]
        beat = transport_tokens(_transport(source), 0, quanta * int(CHUNK_QUANTUM * BEAT.rate), BEAT.rate, BEAT_STEPS)
        key = source.piece.key
        up = semitones_from_c(key.tonic + 12 * (key.mode == "minor"))
        found = {
            "vocal": self.vocal.encode(vocal).numpy(),
            "band": score_tokens(source.piece, quanta * int(CHUNK_QUANTUM * BAND.rate)),
            "beat": beat[None],
            "key": np.full((1, quanta), up),
            "codes": self.codec.encode(band)[0].numpy(),
        }
        return {name: tokens.astype(np.int16) for name, tokens in found.items()}


def _transport(source: Song) -> Transport:
    piece = source.piece
    return Transport(at_seconds=0.0, playing=True, tempo=piece.tempo, numerator=piece.beats_per_bar)


# ---- writing ----


def shard_path(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}.npz"


def write_shard(path: Path, tokenizers: Tokenizers, world: World, first_seed: int, songs: int) -> None:
    """Composes, renders and tokenizes `songs` songs; the file appears whole or not at all."""
    seeds = range(first_seed, first_seed + songs)
    write_tokens(path, (tokenizers(song(seed, world), seed) for seed in seeds))


def write_numbered(path: Path, number: int, tokenizers: Tokenizers, world: World, seed: int, songs: int) -> None:
    """Shard `number` of a training run, each of so many songs."""
    write_shard(path, tokenizers, world, training_seed(seed, number * songs), songs)


@contextmanager
def producer(folder: Path, write: Callable[[Path, int], None]) -> Iterator[None]:
    """Within, a side process writes shard after shard into `folder`, from the first that is not there yet.

    Where several trainers share the folder, one process at a time writes.

    Args:
        write: writes the shard of a number to a path; it must be picklable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _failure(folder).unlink(missing_ok=True)  # of an earlier run: a reader may look before the process has started
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_produce, args=(folder, write), daemon=True)
    process.start()
    wanted = threading.Event()
    wanted.set()

    def watch() -> None:
        """Says that it died where it could not say so itself: the system kills who takes all memory."""
        connection.wait([process.sentinel])
        process.join()
        if wanted.is_set() and not _failure(folder).exists():
            told = f"it ended with exit code {process.exitcode}; -9 is the system's when there is no memory left"
            _failure(folder).write_text(told)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        wanted.clear()
        process.terminate()
        process.join()
        watcher.join()


def _produce(folder: Path, write: Callable[[Path, int], None]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the trainer, which ends this process when it is done
    os.nice(5)
    torch.set_num_threads(1)
    trainer, number = multiprocessing.parent_process(), first_shard(folder)
    assert trainer is not None
    try:
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            while trainer.is_alive():  # one that is killed can end nothing, and the next one waits for the lock
                if number > _furthest(folder) + SHARDS_AHEAD:
                    time.sleep(POLL_SECONDS)
                    continue
                if not shard_path(folder, number).exists():
                    write(shard_path(folder, number), number)
                number += 1
    except Exception:
        _failure(folder).write_text(traceback.format_exc())
        raise


def first_shard(folder: Path) -> int:
    """Number of the oldest shard that is there: those before it have been read by all, and deleted."""
    return min((int(path.stem.removeprefix("shard-")) for path in folder.glob("shard-*.npz")), default=0)


def _failure(folder: Path) -> Path:
    """Where the process says why it could not go on."""
    return folder / "failed.txt"


def _furthest(folder: Path) -> int:
    """The shard up to which the quickest trainer has read."""
    return max((int(path.read_text() or 0) for path in folder.glob("read-*")), default=0)


# ---- reading ----


def await_shard(folder: Path, number: int) -> Path:
    """Waits until that shard is there. Raises RuntimeError: the side process that writes them has failed."""
    path = shard_path(folder, number)
    while not path.exists():
        check_producer(folder)
        time.sleep(POLL_SECONDS)
    return path


def check_producer(folder: Path) -> None:
    """Raises RuntimeError: the side process that writes there has failed."""
    if (failure := _failure(folder)).exists():
        raise RuntimeError(f"the process that composes the songs has failed:\n{failure.read_text()}")


def note_read(folder: Path, reader: str, shards: int) -> None:
    """Tells the side process how many shards a reader has read: it stays so far ahead and no further."""
    (folder / f"read-{reader}").write_text(str(shards))


class ShardReader:
    """Crops of songs for one stage, in an order that the seed decides; no song comes again later.

    Args:
        folder: where shards are, or will be: a missing one is waited for.
        target: name of the tokens that the stage predicts.
        clip: seconds of a crop.
        rows: crops of a batch.
        cuts: how often a song is cut into crops, each time elsewhere, while it is at hand.
        batches_held: how many batches the crops at hand, from which each batch is drawn, make.
    """

    def __init__(
        self,
        folder: Path,
        target: str,
        clip: Fraction,
        rows: int,
        seed: int,
        cuts: int = 1,
        batches_held: int = 32,
    ) -> None:
        self.folder, self.target, self.clip, self.rows = folder, target, clip, rows
        self.cuts = cuts
        self.crops_held = batches_held * rows * cuts
        self.random = np.random.default_rng([seed, len(target)])
        self.number = 0
        self.held: list[Tokens] = []

    def state_dict(self) -> dict[str, Any]:
        """The held crops are not part of it: a resumed run goes on with the next shard."""
        return {"number": self.number, "random": self.random.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.number = state["number"]
        self.random.bit_generator.state = state["random"]

    def batch(self) -> list[Tokens]:
        """Crops of equal length, as many as the batch has rows.

        Raises:
            RuntimeError: the side process that writes the shards has failed.
            ValueError: a song is shorter than the clip.
        """
        while len(self.held) < self.crops_held:
            self.held += self._crops(read_tokens(await_shard(self.folder, self.number)))
            self.number += 1
            note_read(self.folder, self.target, self.number)
        return [self._draw() for _ in range(self.rows)]

    def _draw(self) -> Tokens:
        index = int(self.random.integers(len(self.held)))
        self.held[index], self.held[-1] = self.held[-1], self.held[index]
        return self.held.pop()

    def _crops(self, songs: list[Tokens]) -> list[Tokens]:
        quanta = int(self.clip / CHUNK_QUANTUM)
        crops = []
        for tokens in songs * self.cuts:
            whole = tokens["key"].shape[1]
            if whole < quanta:
                raise ValueError(
                    f"a song of {float(whole * CHUNK_QUANTUM):g} s has no clip of {float(self.clip):g} s: "
                    "shorten the clip, or give the world longer songs (more bars, slower tempi)"
                )
            start = int(self.random.integers(min(quanta, whole - quanta + 1)))
            crops += [crop(tokens, at, quanta) for at in range(start, whole - quanta + 1, quanta)]
        return crops


def crop(tokens: Tokens, first: int, quanta: int) -> Tokens:
    """`quanta` chunk quanta from number `first` on."""
    whole = tokens["key"].shape[1]
    cut = {}
    for name, array in tokens.items():
        frames = array.shape[1] // whole  # per quantum
        cut[name] = array[:, first * frames : (first + quanta) * frames]
    return cut
