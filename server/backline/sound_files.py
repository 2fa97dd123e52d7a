"""Audio files as they are read and written: decoders, a change of rate on the way, and the disk that may be full."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from backline import ffmpeg
from backline.ffmpeg import NoSound

Audio = NDArray[np.float32]  # [channel, sample]


class Decoder(Protocol):
    """What a file is read with."""

    rate: int
    channels: int
    frames: int | None  # samples of one channel, where the file tells
    exact: bool  # whether it holds as many
    damage: str  # what was wrong with the file, once it has been read

    def read(self, count: int) -> Audio:
        """The next `count` samples [channel, sample]; fewer at the end."""
        ...

    def stop(self) -> None:
        """Has a `read` in progress return. Any thread."""
        ...

    def close(self) -> None:
        """When no `read` is in progress."""
        ...


class SndfileSound:
    """What libsndfile reads."""

    def __init__(self, path: Path) -> None:
        """Raises LibsndfileError or TypeError: it is no file that libsndfile reads."""
        name: bytes | str = os.fsencode(path) if os.name == "posix" else str(path)  # soundfile encodes strictly
        self._file = soundfile.SoundFile(name)
        self.rate, self.channels, self.frames = self._file.samplerate, self._file.channels, self._file.frames
        self.exact = self._file.format not in {"MP3", "MPEG"}  # no file of these has to say how long it is
        self.damage = ""
        self._read = 0

    def read(self, count: int) -> Audio:
        try:
            samples = self._file.read(count, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError:  # what it says is about its insides
            samples = np.zeros((0, self.channels), np.float32)
            self.damage = f"its first {self._read} of {self.frames} samples could be read"
        self._read += len(samples)
        if len(samples) < count and self.exact and self._read < self.frames:
            self.damage = f"its first {self._read} of {self.frames} samples could be read"
        return np.ascontiguousarray(samples.T)

    def stop(self) -> None:
        """A file does not keep anyone waiting."""

    def close(self) -> None:
        self._file.close()


def open_decoder(path: Path) -> Decoder:
    """What `path` is read with: libsndfile, or else ffmpeg where it is installed.

    Raises:
        NoSound: there is no such file, or no sound in it.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise NoSound(f"there is no file {path}") from None
    if stat.S_ISDIR(mode):
        raise NoSound(f"{path} is a folder: name one file in it")
    if not stat.S_ISREG(mode):
        raise NoSound(f"{path} is a pipe, a socket or a device: save the sound to a file first")
    if not path.stat().st_size:
        raise NoSound(f"{path} is empty: it has no bytes")
    if not os.access(path, os.R_OK):
        raise NoSound(f"{path} may not be read by you: change its permissions")
    try:
        return SndfileSound(path)
    except (soundfile.LibsndfileError, TypeError) as error:  # a TypeError for raw samples, whose rate nobody knows
        if ffmpeg.is_installed():
            return ffmpeg.FfmpegSound(path)
        known = ", ".join(sorted(soundfile.available_formats()))
        raise NoSound(
            f"{path} is no audio file that libsndfile reads ({error}): if it is m4a, aac, mp4 or webm, "
            f"{ffmpeg.INSTALL} and try again; without it, these are read: {known}"
        ) from error


class RateChange:
    """[channel, sample] at another rate, block by block, without delay; the blocks themselves where the rates agree."""

    def __init__(self, rate_in: int, rate_out: int, channels: int) -> None:
        self._channels = channels
        self._stream = None
        if rate_in != rate_out:
            self._stream = soxr.ResampleStream(rate_in, rate_out, channels, dtype="float32")

    def process(self, audio: Audio) -> Audio:
        return self._changed(audio, last=False)

    def finish(self) -> Audio:
        """What the filter still holds."""
        return self._changed(np.zeros((self._channels, 0), np.float32), last=True)

    def _changed(self, audio: Audio, last: bool) -> Audio:
        if self._stream is None:
            return audio
        changed = self._stream.resample_chunk(np.ascontiguousarray(audio.T), last=last)
        return np.ascontiguousarray(changed.reshape(-1, self._channels).T)


class Disk:
    """What libsndfile writes to: a file of ours, because libsndfile does not tell why a disk takes no more."""

    def __init__(self, path: Path) -> None:
        self.failure: OSError | None = None
        self._file = open(path, "x+b", buffering=0)  # noqa: SIM115

    def write(self, data: bytes) -> int:
        written = 0
        try:
            while written < len(data) and not self._file.closed:
                written += self._file.write(memoryview(data)[written:])
        except OSError as error:
            self.failure = self.failure or error
        return written

    def readinto(self, buffer: Any) -> int:
        return 0 if self._file.closed else self._file.readinto(buffer)

    def read(self, count: int) -> bytes:
        return self._file.read(count)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return 0 if self._file.closed else self._file.seek(offset, whence)

    def tell(self) -> int:
        return 0 if self._file.closed else self._file.tell()

    def close(self) -> None:
        """libsndfile may still come back to it, once nobody else does."""
        self._file.close()
