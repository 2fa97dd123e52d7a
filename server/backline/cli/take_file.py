"""One audio file in the making: written beside its place as it comes, and put into it when it is whole."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

from backline.cli.console import UserError
from backline.sound_files import Audio, Disk
from backline.whole_file import Unfinished, check_target

FORMATS = {name: name for name in soundfile.available_formats() if name != "RAW"} | {"AIF": "AIFF", "AIFC": "AIFF"}
FLOAT_FORMATS = {"WAV", "WAVEX", "W64", "RF64", "AIFF"}  # written as 32-bit float, which cannot clip
UNLIMITED = {"RF64", "W64", "CAF", "FLAC", "OGG", "MP3"}  # formats whose files may exceed 4 GiB; WAV becomes RF64 then
LIMIT_BYTES = 2**32 - 2**16  # of samples in a file that counts its bytes with 32 bits, its other chunks left aside
UNWRITTEN = 1 << 16  # samples of silence that are written at a time


def audio_format(path: Path) -> str:
    """The format that the path names by its ending."""
    name = FORMATS.get(path.suffix[1:].upper())
    if name is None:
        raise UserError(f"{path} names no audio format by its ending: use .wav or .flac, for example")
    return name


class TakeFile:
    """An audio file in the making, beside its place: `finish`, then `put`; or `discard`. One thread at a time."""

    def __init__(self, path: Path, rate: int, channels: int, most_frames: int | None) -> None:
        """`most_frames`: that it may come to hold, where that is known; decides how far its header must count.

        Raises:
            UserError: its format cannot hold that.
            OSError: it cannot be written; `filename` is the path.
        """
        self.path, self.rate, self.channels = path, rate, channels
        self.frames = 0  # so far
        self._format = audio_format(path)
        subtype = "FLOAT" if self._format in FLOAT_FORMATS else None
        self._frame_bytes = channels * (4 if subtype else 2)
        most_bytes = None if most_frames is None else most_frames * self._frame_bytes
        if self._format == "WAV" and (most_bytes is None or most_bytes > LIMIT_BYTES):
            self._format = "RF64"
        self._limited = self._format not in UNLIMITED
        if self._limited and most_bytes is not None and most_bytes > LIMIT_BYTES:
            raise UserError(
                f"{path} would need {most_bytes / 2**30:.1f} GiB, and its format ends at 4: use .wav or .flac"
            )
        check_target(path)
        self._unfinished = Unfinished(path)
        try:
            self._disk = _Disk(self._unfinished.part)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
        try:
            self._sound = soundfile.SoundFile(self._disk, "w", rate, channels, subtype, format=self._format)
        except (soundfile.LibsndfileError, ValueError, TypeError) as error:
            self._disk.close()
            self._unfinished.discard()
            raise UserError(f"{path} cannot hold {channels} channels at {rate} Hz ({error}): use .wav") from error
        if self._disk.failure is not None:
            self.discard()
            raise OSError(self._disk.failure.errno, self._disk.failure.strerror, str(path))

    def write(self, audio: Audio) -> None:
        """Appends [channel, sample]. Raises OSError where the disk takes no more."""
        if self._limited and (self.frames + audio.shape[1]) * self._frame_bytes > LIMIT_BYTES:
            raise OSError(errno.EFBIG, "its format ends at 4 GiB: use .wav or .flac", str(self.path))
        with self._named():
            self._sound.write(audio.T)
        self.frames += audio.shape[1]

    def write_silence(self, count: int) -> None:
        """Appends `count` zeros."""
        for start in range(0, count, UNWRITTEN):
            self.write(np.zeros((self.channels, min(UNWRITTEN, count - start)), np.float32))

    def finish(self) -> None:
        """Completes the file, still beside its place. Raises OSError where the disk takes no more."""
        with self._named():
            self._sound.close()
            if self._format == "RF64" and audio_format(self.path) == "WAV":
                self._disk.count_as_wav()
            self._disk.close()

    def put(self, path: Path | None = None) -> None:
        """Moves the finished file into its place, or to `path` with the same ending."""
        with self._named():
            self._unfinished.put(path or self.path)

    def discard(self) -> None:
        """Removes what there is of it; no effect after `put`."""
        with contextlib.suppress(OSError, soundfile.LibsndfileError):  # what may fail here has failed before
            self._sound.close()
        self._disk.close()
        self._unfinished.discard()

    def salvage(self) -> Path:
        """After a failure of the disk: what there is of it, as complete as can be, under the name that this gives."""
        self._disk.failure = None
        with contextlib.suppress(OSError):
            self.finish()
        self._disk.close()
        return self._unfinished.part

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Says of a failure of the disk which take it is about; what libsndfile makes of it says less."""
        cause: Exception | None = None
        try:
            yield
        except (AssertionError, soundfile.LibsndfileError) as error:
            cause = error
        except OSError as error:
            cause = self._disk.failure = error
        failure = self._disk.failure
        if failure is None and cause is not None:
            failure = OSError(errno.EIO, str(cause))
        if failure is not None:
            raise OSError(failure.errno, failure.strerror, str(self.path)) from cause


class _Disk(Disk):
    """That can say less of itself than it was begun with."""

    def count_as_wav(self) -> None:
        """Makes a finished RF64 file the WAV that it could have been from the start, where 32 bits count its bytes.

        As EBU Tech 3306 has it, the other way round: the chunk of 64-bit counts becomes one of no meaning.
        """
        size = self.seek(0, os.SEEK_END)
        if size > LIMIT_BYTES:
            return
        at = 12
        while at + 8 <= size:
            self.seek(at)
            name, length = struct.unpack("<4sI", self.read(8))
            if name == b"ds64":
                data_bytes = struct.unpack("<8xQ", self.read(16))[0]
                self.seek(at)
                self.write(b"JUNK")
            elif name == b"data":
                self.seek(at + 4)
                self.write(struct.pack("<I", data_bytes))
                break
            at += 8 + length + length % 2
        self.seek(0)
        self.write(struct.pack("<4sI", b"RIFF", size - 8))


def write_audio(path: Path, audio: Audio, rate: int) -> None:
    """Writes [channel, sample] as a whole; WAV as 32-bit float, other formats in their usual width.

    Raises:
        UserError: its format cannot hold it.
        OSError: it cannot be written; what was there before is untouched.
    """
    take = TakeFile(path, rate, audio.shape[0], audio.shape[1])
    try:
        take.write(audio)
        take.finish()
        take.put()
    finally:
        take.discard()
