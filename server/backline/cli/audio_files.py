"""Audio files in, block by block, and the rates and channels that they are brought to."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soxr

from backline.cli.console import UserError, error_console, labelled
from backline.sound_files import Audio, Decoder, RateChange, open_decoder

if TYPE_CHECKING:
    from backline_protos.v1 import backline_pb2 as pb

SERVED_RATES = (8_000, 192_000)  # Hz, as the wire contract has it
SERVED_CHANNELS = 64
BLOCK = 4_096  # samples that are read at a time: of a damaged file, so many at most are lost before the damage
FRAMES_OFF = 4  # by how many times as many samples a length that is only estimated may be exceeded


class Sound:
    """An audio file that is being read. One thread reads; any may close it."""

    def __init__(self, path: Path, decoder: Decoder) -> None:
        self.path, self._decoder = path, decoder
        self.rate, self.channels, self.frames = decoder.rate, decoder.channels, decoder.frames
        self.read_frames = 0  # so far
        self._lock = threading.Lock()
        self._closed = False

    @property
    def most_frames(self) -> int | None:
        """More samples than these it will not have; None: nobody knows."""
        return self.frames if self._decoder.exact or self.frames is None else FRAMES_OFF * self.frames

    @property
    def damage(self) -> str:
        """One sentence about what of the file could not be read; empty where all was."""
        return f"{self.path} is damaged: {self._decoder.damage}" if self._decoder.damage else ""

    def blocks(self) -> Iterator[Audio]:
        """All of it [channel, sample]; ends early where the file is damaged or has been closed."""
        while True:
            with self._lock:
                block = np.zeros((self.channels, 0), np.float32) if self._closed else self._decoder.read(BLOCK)
            if not block.shape[1]:
                return
            self.read_frames += block.shape[1]
            yield block

    def close(self) -> None:
        self._decoder.stop()
        with self._lock:
            self._closed = True
            self._decoder.close()


@contextmanager
def opened(path: Path) -> Iterator[Sound]:
    """The file, ready to be read.

    Raises:
        NoSound: there is no such file, or no sound in it.
        UserError: it has no samples.
    """
    sound = Sound(path, open_decoder(path))
    try:
        if sound.frames == 0:
            raise UserError(f"{path} holds no samples: there is nothing to play along with")
        yield sound
    finally:
        sound.close()


def read_audio(path: Path) -> tuple[Audio, int]:
    """All of the file [channel, sample] and its rate in Hz; says so where some of it could not be read.

    Raises:
        UserError: as `opened`.
    """
    with opened(path) as sound:
        blocks = list(sound.blocks())
        if not blocks:
            raise UserError(sound.damage or f"{path} holds no samples: there is nothing to play along with")
        if sound.damage:
            error_console.print(labelled("warning", sound.damage, "yellow"), soft_wrap=True)
        return np.concatenate(blocks, axis=1), sound.rate


def served_rate(rate: int) -> int:
    """The rate at which to send audio of `rate`."""
    return min(max(rate, SERVED_RATES[0]), SERVED_RATES[1])


def served(sound: Sound, pack: pb.Pack) -> tuple[int, Iterator[Audio]]:
    """How many channels of `sound` are sent to a session on `pack`, and its blocks with them.

    Of more than the wire takes, their mix is sent, as the server would make it for most packs anyway.

    Raises:
        UserError: the pack gives back as many channels as it gets, and these cannot all be sent.
    """
    if sound.channels <= SERVED_CHANNELS:
        return sound.channels, sound.blocks()
    if any(port.channels == 0 for port in pack.ports):
        raise UserError(
            f"{sound.path} has {sound.channels} channels, and {pack.name} gives back as many as it gets, which are "
            f"{SERVED_CHANNELS} at most: split the file"
        )
    from backline.engine.downmix import Downmix
    from backline.models.stream import ChannelLayout

    downmix = Downmix(ChannelLayout.DISCRETE, sound.channels, 1, sound.rate)
    return 1, (downmix.process(block) for block in sound.blocks())


def at_rate(blocks: Iterable[Audio], rate_in: int, rate_out: int, channels: int) -> Iterator[Audio]:
    """Blocks [channel, sample] at another rate."""
    change = RateChange(rate_in, rate_out, channels)
    for block in blocks:
        yield change.process(block)
    yield change.finish()


def change_rate(audio: Audio, rate_in: int, rate_out: int) -> Audio:
    """[channel, sample] at another rate."""
    if rate_in == rate_out:
        return audio
    return np.ascontiguousarray(soxr.resample(audio.T, rate_in, rate_out).T, np.float32)


def mix(ports: dict[str, Audio], channels: int) -> Audio:
    """The sum of all ports [channel, sample], each brought to `channels`."""
    return np.sum([with_channels(audio, channels) for audio in ports.values()], axis=0, dtype=np.float32)


def with_channels(audio: Audio, channels: int) -> Audio:
    """As many channels as wanted: copies of mono, the mean for mono, 5.1 and 7.1 in stereo as everywhere.

    Otherwise the first ones and silence.
    """
    have = audio.shape[0]
    if have == channels:
        return audio
    if channels == 2 and have in (6, 8):
        from backline.engine.downmix import Downmix

        return Downmix(None, have, 2, SERVED_RATES[0]).process(audio)  # to stereo, without a memory
    if have == 1:
        return np.repeat(audio, channels, axis=0)
    if channels == 1:
        return audio.mean(axis=0, keepdims=True, dtype=np.float32)
    return np.pad(audio[:channels], ((0, max(0, channels - have)), (0, 0)))
