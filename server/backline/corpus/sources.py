"""The sounds that a stem is made of, brought to 48 kHz and one or two channels, block by block, however long."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from backline import ffmpeg
from backline.corpus.layouts import FoundStem, Part
from backline.corpus.manifest import SAMPLE_RATE
from backline.ffmpeg import NoSound
from backline.sound_files import Audio, Decoder, RateChange, open_decoder

RATES = (4_000, 768_000)  # Hz
BLOCK = 1 << 14  # samples that are read of a file at a time


class StemSource:
    """A stem that is being read: the sum of its parts. `channels` is 1 or 2."""

    def __init__(self, stem: FoundStem) -> None:
        """Raises NoSound: a part of it cannot be read."""
        self.label = stem.label
        self._parts: list[_PartSource] = []
        try:
            self._parts += (_PartSource(part) for part in stem.parts)
        except BaseException:
            self.close()
            raise
        self.channels = max(part.channels for part in self._parts)

    def read(self, count: int) -> Audio:
        """The next `count` samples [channel, sample] at SAMPLE_RATE; fewer at the end.

        Raises:
            NoSound: a part is damaged.
        """
        blocks = [part.read(count) for part in self._parts]
        found = np.zeros((self.channels, max(block.shape[1] for block in blocks)), np.float32)
        for block in blocks:
            found[:, : block.shape[1]] += block  # mono on both
        return found

    def close(self) -> None:
        for part in self._parts:
            part.close()


class _PartSource:
    """One sound."""

    def __init__(self, part: Part) -> None:
        self._path = part.file
        self._decoder = _decoder(part)
        if not RATES[0] <= self._decoder.rate <= RATES[1]:
            self.close()
            raise NoSound(f"{part.file.name} says it has {self._decoder.rate} samples a second: that is no sound")
        channels = self._decoder.channels
        self.channels = 2 if channels in (2, 6, 8) else 1  # of layouts that nobody knows, the mean
        self._downmix = None
        if channels in (6, 8):
            from backline.engine.downmix import Downmix

            self._downmix = Downmix(None, channels, 2, self._decoder.rate)
        self._change = RateChange(self._decoder.rate, SAMPLE_RATE, self.channels)
        self._ready: list[Audio] = []
        self._at_end = False

    def read(self, count: int) -> Audio:
        while not self._at_end and sum(block.shape[1] for block in self._ready) < count:
            self._ready.append(self._next())
        found = np.concatenate([np.zeros((self.channels, 0), np.float32), *self._ready], axis=1)
        self._ready = [found[:, count:]]
        return found[:, :count]

    def close(self) -> None:
        self._decoder.stop()
        self._decoder.close()

    def _next(self) -> Audio:
        block = self._decoder.read(BLOCK)
        if self._decoder.damage:
            raise NoSound(f"{self._path.name} is damaged: {self._decoder.damage}")
        if not block.shape[1]:
            self._at_end = True
            return self._change.finish()
        block = np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0)
        if self._downmix is not None:
            block = self._downmix.process(block)
        elif block.shape[0] != self.channels:
            block = block.mean(axis=0, keepdims=True, dtype=np.float32)
        return self._change.process(block)


def read_together(sources: Sequence[StemSource], count: int) -> list[Audio]:
    """The next `count` samples of each [channel, sample], fewer at the end; shorter ones are followed by silence."""
    blocks = [source.read(count) for source in sources]
    longest = max(block.shape[1] for block in blocks)
    return [np.pad(block, ((0, 0), (0, longest - block.shape[1]))) for block in blocks]


def _decoder(part: Part) -> Decoder:
    path: Path = part.file
    if not part.stream:
        return open_decoder(path)
    if not ffmpeg.is_installed():
        raise NoSound(f"{path.name} holds several streams: {ffmpeg.INSTALL} and try again")
    return ffmpeg.FfmpegSound(path, part.stream)
