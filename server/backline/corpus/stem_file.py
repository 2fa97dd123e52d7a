"""A stem of a corpus in the making: FLAC of 24 bits, block by block, however long and however loud it is.

Samples of 16 and 24 bits are kept as they are. What is louder than full scale, as stems of floats may be, is written
quieter by a power of two, which whoever reads it takes back.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from backline.corpus.manifest import LOUDEST, SAMPLE_RATE
from backline.ffmpeg import NoSound
from backline.sound_files import Audio, Disk

FULL_SCALE = 1 << 23
BLOCK = 1 << 16


class StemFile:
    """Write blocks, then `finish`; or `discard`."""

    def __init__(self, path: Path, channels: int) -> None:
        self.path, self.channels = path, channels
        self.scale = 1  # by which what stands in the file is quieter
        self.samples = 0  # of one channel, so far
        self._begin()

    def write(self, audio: Audio) -> None:
        """Appends [channel, sample], finite, at SAMPLE_RATE.

        Raises:
            NoSound: it is louder than any sound is.
            OSError: the disk takes no more.
        """
        peak = float(np.abs(audio).max(initial=0.0))
        if peak > self.scale:
            if peak > LOUDEST:
                raise NoSound(f"it has samples of {peak:.3g} times full scale: that is no sound")
            self._make_quieter(1 << int(np.ceil(np.log2(peak))))
        self._write(to_integers(audio / np.float32(self.scale)))
        self.samples += audio.shape[1]

    def finish(self) -> str:
        """Completes the file; gives its SHA-256. Raises OSError: the disk takes no more."""
        self._end()
        with open(self.path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def discard(self) -> None:
        with contextlib.suppress(OSError, soundfile.LibsndfileError):
            self._sound.close()
        self._disk.close()
        self.path.unlink(missing_ok=True)

    def _begin(self) -> None:
        self._disk = Disk(self.path)
        self._sound = soundfile.SoundFile(self._disk, "w", SAMPLE_RATE, self.channels, "PCM_24", format="FLAC")

    def _end(self) -> None:
        self._sound.close()
        self._disk.close()
        self._check()

    def _write(self, integers: NDArray[np.int32]) -> None:
        """[channel, sample] of 24 bits."""
        try:
            self._sound.write(np.ascontiguousarray(integers.T) << 8)
        except (AssertionError, soundfile.LibsndfileError):
            self._check()
            raise
        self._check()

    def _check(self) -> None:
        """libsndfile does not say that the disk is full."""
        if self._disk.failure is not None:
            raise OSError(self._disk.failure.errno, self._disk.failure.strerror, str(self.path))

    def _make_quieter(self, scale: int) -> None:
        """Writes what there is once more, and goes on from there."""
        factor, self.scale = scale // self.scale, scale
        self._end()
        louder = self.path.with_suffix(".louder.flac")
        self.path.rename(louder)
        self._begin()
        if self.samples:  # else it is no FLAC yet
            with soundfile.SoundFile(louder) as file:
                for block in file.blocks(BLOCK, dtype="int32", always_2d=True):
                    self._write((block.T >> 8) // factor)
        louder.unlink()


def to_integers(audio: Audio) -> NDArray[np.int32]:
    """[...] as 24-bit samples."""
    return np.clip(np.rint(audio * np.float32(FULL_SCALE)), -FULL_SCALE, FULL_SCALE - 1).astype(np.int32)
