"""Where training songs come from: made on the fly by side processes, never one twice; and the papers' augmentations."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.queues import Queue
from queue import Empty, Full
from types import TracebackType

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from backline.music.songs import Song, song
from backline.music.world import NARROW, World

HELD_OUT_SEED = 1 << 40  # seeds of songs that no trainer hears lie from here on
_SONGS_PER_SEED = 1 << 24
_POLL_SECONDS = 1.0

Sound = NDArray[np.float32]


def training_seed(seed: int, number: int) -> int:
    """The seed of song `number` of a training run: all different over all runs and numbers, below HELD_OUT_SEED.

    Raises:
        ValueError: no song has such a seed.
    """
    if not 0 <= seed < HELD_OUT_SEED // _SONGS_PER_SEED or not 0 <= number < _SONGS_PER_SEED:
        raise ValueError(
            f"there is no song {number} of run {seed}: run seeds go from 0 to {HELD_OUT_SEED // _SONGS_PER_SEED - 1}, "
            f"songs from 0 to {_SONGS_PER_SEED - 1}"
        )
    return seed * _SONGS_PER_SEED + number


def held_out(count: int, world: World = NARROW, sample_rate: int = 24_000) -> Iterator[Song]:
    """The first `count` songs to judge by; training hears none of them."""
    return (song(HELD_OUT_SEED + number, world, sample_rate) for number in range(count))


class SongFeedError(RuntimeError):
    """A side process could not make its song; the message carries its traceback."""


class SongFeed:
    """Endless new songs, made ahead by side processes: `with SongFeed(...) as feed: next(feed)`.

    Song n is that of `training_seed(seed, n)`, however many processes there are, so a run that stopped at `position`
    goes on with `start=position`. One thread at a time may take songs.

    Args:
        processes: process p makes songs p, p + processes, ...
        ahead: songs that each process holds ready at most.
        start: number of the first song.
    """

    def __init__(
        self,
        world: World = NARROW,
        seed: int = 0,
        processes: int = 1,
        ahead: int = 4,
        start: int = 0,
        sample_rate: int = 24_000,
    ) -> None:
        training_seed(seed, start)
        self.position = start
        context = multiprocessing.get_context("spawn")
        self._queues: list[Queue[Song | _Failure]] = [context.Queue(ahead) for _ in range(processes)]
        self._processes = [
            context.Process(
                target=_make_songs,
                args=(queue, world, seed, start + first, processes, sample_rate),
                daemon=True,
                name=f"songs-{first}",
            )
            for first, queue in enumerate(self._queues)
        ]
        self._start = start
        for process in self._processes:
            process.start()

    def __enter__(self) -> SongFeed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> SongFeed:
        return self

    def __next__(self) -> Song:
        """The next song; waits for it.

        Raises:
            SongFeedError: the process that makes it has failed.
        """
        turn = (self.position - self._start) % len(self._processes)
        made = self._take(turn)
        if isinstance(made, _Failure):
            raise SongFeedError(f"song {self.position} could not be made:\n{made.trace}")
        self.position += 1
        return made

    def close(self) -> None:
        """Ends the side processes at once. May be called again."""
        for process in self._processes:
            process.terminate()
        for process, queue in zip(self._processes, self._queues, strict=True):
            process.join()
            queue.close()
            queue.cancel_join_thread()

    def _take(self, turn: int) -> Song | _Failure:
        process = self._processes[turn]
        while True:
            alive = process.is_alive()  # asked first: what a process has put before it ended is still to be taken
            try:
                return self._queues[turn].get(timeout=_POLL_SECONDS)
            except Empty:
                if not alive:
                    raise SongFeedError(
                        f"the process that makes song {self.position} has ended with exit code {process.exitcode}"
                    ) from None


@dataclass(frozen=True)
class _Failure:
    trace: str


def _make_songs(
    queue: Queue[Song | _Failure], world: World, seed: int, first: int, stride: int, sample_rate: int
) -> None:
    """Body of a side process: songs until it is ended, its parent is gone, or one fails."""
    os.nice(5)  # training goes first
    number = first
    while True:
        made: Song | _Failure
        try:
            made = song(training_seed(seed, number), world, sample_rate)
        except Exception:
            made = _Failure(traceback.format_exc())
        if not _put(queue, made):
            queue.cancel_join_thread()
            return
        if isinstance(made, _Failure):
            return
        number += stride


def _put(queue: Queue[Song | _Failure], made: Song | _Failure) -> bool:
    """Waits for room; false if the parent is gone and nobody will ever take it."""
    parent = multiprocessing.parent_process()
    while True:
        try:
            queue.put(made, timeout=_POLL_SECONDS)
            return True
        except Full:
            if parent is None or not parent.is_alive():
                return False


# ---- augmentation: new arrays, drawn from the given generator ----


def crop(sounds: Sequence[Sound], samples: int, generator: Generator) -> list[Sound]:
    """The same random stretch of `samples` of every sound [sample]; sounds that are shorter are followed by silence."""
    shortest = min(len(sound) for sound in sounds)
    start = int(generator.integers(max(1, shortest - samples + 1)))
    return [np.pad(cut := sound[start : start + samples], (0, samples - len(cut))) for sound in sounds]


def vary_gain(sound: Sound, generator: Generator, low: float = 0.5, high: float = 1.5) -> Sound:
    """Times an even draw from [low, high]."""
    return sound * np.float32(generator.uniform(low, high))


def vary_polarity(sound: Sound, generator: Generator, share: float = 0.1) -> Sound:
    """Turned upside down in `share` of the cases."""
    return -sound if generator.random() < share else sound.copy()


def vary_equalization(sound: Sound, sample_rate: int, generator: Generator, decibels: float = 6.0) -> Sound:
    """Through a seven-band equalizer, each band an even draw from [-decibels, decibels]; no delay."""
    bands = np.geomspace(80.0, 8_000.0, 7)  # Hz
    levels = generator.uniform(-decibels, decibels, len(bands))
    padded = 2 * len(sound)  # else the end would ring into the start
    hertz = np.fft.rfftfreq(padded, 1 / sample_rate)
    curve = 10 ** (np.interp(np.log(np.maximum(hertz, 1.0)), np.log(bands), levels) / 20)
    return np.fft.irfft(np.fft.rfft(sound, padded) * curve, padded)[: len(sound)].astype(np.float32)


def add_noise(sound: Sound, sigma: float, generator: Generator) -> Sound:
    """With white noise of standard deviation `sigma`: it hides what a separator leaves of the band in a vocal."""
    return sound + np.float32(sigma) * generator.standard_normal(len(sound), dtype=np.float32)
