"""Takes: audio files in the making, which replace older ones only when they are whole.

`TakeFile` is one of them; `PortFiles` says where the outputs of a model go; `RenderedTakes` writes what a rendering
gives and `LiveTake` what is heard live, whatever happens meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import signal
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import soundfile

from backline.cli.audio_files import Audio, RateChange
from backline.cli.console import UserError, console, error_console, explanation, labelled
from backline.whole_file import Unfinished, check_folder, check_target

FORMATS = {name: name for name in soundfile.available_formats() if name != "RAW"} | {"AIF": "AIFF", "AIFC": "AIFF"}
FLOAT_FORMATS = {"WAV", "WAVEX", "W64", "RF64", "AIFF"}  # written as 32-bit float, which cannot clip
UNLIMITED = {"RF64", "W64", "CAF", "FLAC", "OGG", "MP3"}  # formats whose files may exceed 4 GiB; WAV becomes RF64 then
LIMIT_BYTES = 2**32 - 2**16  # of samples in a file that counts its bytes with 32 bits, its other chunks left aside
UNWRITTEN = 1 << 16  # samples of silence that are written at a time


# ---- one file ------------------------------------------------------------------------------------------


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


class _Disk:
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


# ---- where they go -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PortFiles:
    """Where a model's outputs are written: into a folder, one file for each, or at a path."""

    output: Path
    is_folder: bool

    @classmethod
    def at(cls, output: str) -> PortFiles:
        """What `output` names, known before the work to be writable: a folder if it is one or ends like one."""
        path = Path(output)
        is_folder = path.is_dir() or output.endswith(("/", os.sep))
        if not is_folder:
            audio_format(path)
            check_target(path)
        elif path.is_dir():
            check_folder(path)
        elif path.exists():
            raise UserError(f"{path} is a file, no folder: give the folder another name")
        elif not path.parent.is_dir():
            raise UserError(f"there is no folder {path.parent}: make it first")
        else:
            check_folder(path.parent)
        return cls(path, is_folder)

    def paths(self, ports: Sequence[str], source: Path | None) -> dict[str, Path]:
        """The file of each port; makes the folder.

        Raises:
            UserError: one of them would be `source`, the take that is played from, or is none to write to.
        """
        if not self.is_folder and len(ports) == 1:
            paths = {ports[0]: self.output}
        else:
            for port in ports:
                check_file_name(port)
            stem = "" if self.is_folder else f"{self.output.stem}-"
            ending = ".wav" if self.is_folder else self.output.suffix
            folder = self.output if self.is_folder else self.output.parent
            paths = {port: folder / f"{stem}{port}{ending}" for port in ports}
        for path in paths.values():
            check_not_source(path, source)
        if self.is_folder:
            try:
                self.output.mkdir(exist_ok=True)
            except OSError as error:
                raise UserError(f"the folder {self.output} cannot be made: {error.strerror}") from error
        return paths


def check_file_name(port: str) -> None:
    """Refuses an output whose name would lead elsewhere: it comes from a pack or a server, and is no path."""
    if not port.isprintable() or any(sign in port for sign in '/\\:*?"<>|') or port.startswith(".") or not port:
        raise UserError(f"the pack names an output {port!a}, which can be no file's name: nothing is written")


def check_not_source(path: Path, source: Path | None) -> None:
    """Refuses to replace the take that is played from, by whichever name."""
    if source is not None and path.exists() and os.path.samefile(path, source):
        raise UserError(f"{path} is the input itself and would be lost: give the output another name or folder")


# ---- what is written -----------------------------------------------------------------------------------


class RenderedTakes:
    """The takes of a rendering, one for each port; all of them replace older ones at the end, or none does."""

    def __init__(
        self, paths: Mapping[str, Path], channels: Mapping[str, int], rates: tuple[int, int], most_frames: int | None
    ) -> None:
        """`rates`: of what comes, and of the files. Raises as `TakeFile`."""
        self.files: dict[str, TakeFile] = {}
        self._rates: dict[str, RateChange] = {}
        self._position = dict.fromkeys(paths, 0)
        try:
            for port, path in paths.items():
                self.files[port] = TakeFile(path, rates[1], channels[port], most_frames)
                self._rates[port] = RateChange(*rates, channels[port])
        except BaseException:
            self.discard()
            raise

    def __enter__(self) -> RenderedTakes:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def write(self, port: str, position: int, audio: Audio) -> None:
        """A port's next block [channel, sample], which follows from the one before."""
        if position != self._position[port]:
            raise UserError(f"the server left out {port!r} from {self._position[port]} to {position}: try again")
        self._position[port] += audio.shape[1]
        self.files[port].write(self._rates[port].process(audio))

    def keep(self, frames: int) -> None:
        """Makes every file `frames` long, and all of them the takes at their paths."""
        for port, file in self.files.items():
            if file.frames > frames:
                raise UserError(f"the server sent {file.frames} samples of {port!r} for {frames} of the input")
            file.write(self._rates[port].finish()[:, : frames - file.frames])
            file.write_silence(frames - file.frames)
            file.finish()
        for file in self.files.values():
            file.put()

    def discard(self) -> None:
        """Removes what has not been kept."""
        for file in self.files.values():
            file.discard()


class LiveTake:
    """Records what is heard, under the input that it belongs to, and keeps it whatever happens.

    `hear` may be called from an audio thread: a thread of this object's own writes to the disk. At the end of the block
    the recording is kept, and said to be; if `complete` was not called, it has broken off: then it never replaces an
    older take, but is kept beside it.
    """

    def __init__(
        self,
        paths: Mapping[str, Path],
        channels: Mapping[str, int],
        rate: int,
        latency_samples: int,
        most_frames: int | None,
        sounds: Callable[[dict[str, Audio]], dict[str, Audio]],
    ) -> None:
        """`sounds`: each path's recording, made of what is heard per port [channel, sample]. Raises as `TakeFile`."""
        self._sounds, self._skip, self._rate = sounds, latency_samples, rate
        self._heard: queue.SimpleQueue[dict[str, Audio] | None] = queue.SimpleQueue()
        self._failure: Exception | None = None
        self._complete = False
        self._files: dict[str, TakeFile] = {}
        try:
            for name, path in paths.items():
                self._files[name] = TakeFile(path, rate, channels[name], most_frames)
        except BaseException:
            for file in self._files.values():
                file.discard()
            raise
        self._writer = threading.Thread(target=self._write, name="recorder", daemon=True)
        self._writer.start()

    def hear(self, ports: dict[str, Audio]) -> None:
        """What is heard in a turn of the host. Never waits."""
        if self._files:
            self._heard.put(ports)

    def complete(self) -> None:
        """Says that the take has come to its end."""
        self._complete = True

    def __enter__(self) -> LiveTake:
        return self

    def __exit__(self, *_: object) -> None:
        with uninterrupted():
            self._heard.put(None)
            self._writer.join()
            for file in self._files.values():
                self._keep(file)
        if self._failure is not None and self._complete:
            raise self._failure

    def _keep(self, file: TakeFile) -> None:
        if not file.frames:
            file.discard()
            error_console.print(labelled("note", f"nothing was recorded for {file.path}", "yellow"), soft_wrap=True)
            return
        whole = self._complete and self._failure is None
        path = file.path if whole or not file.path.exists() else beside(Path(os.path.realpath(file.path)))
        try:
            if self._failure is not None:
                file.salvage()
            else:
                file.finish()
            file.put(path)
        except OSError as error:
            text = f"{path}: {error.strerror}; what there is of the recording lies in {file.salvage()}"
            error_console.print(labelled("error", text, "bold red"), soft_wrap=True)
            return
        text = "recorded" if whole else "the take broke off, and is kept as far as it came:"
        console.print(f"{text} {path}, {file.frames / self._rate:.1f} s", soft_wrap=True)

    def _write(self) -> None:
        while (heard := self._heard.get()) is not None:
            if self._failure is not None:
                continue
            skipped = min(self._skip, next(iter(heard.values())).shape[1])
            self._skip -= skipped
            try:
                for name, sound in self._sounds(heard).items():
                    self._files[name].write(sound[:, skipped:])
            except Exception as error:  # the rest is lost; what is on the disk is not
                self._failure = error
                text = f"{explanation(error) or repr(error)}; from here on nothing is recorded"
                error_console.print(labelled("warning", text, "yellow"), soft_wrap=True)


def beside(path: Path) -> Path:
    """A name like it that no file has."""
    names = (path.with_stem(f"{path.stem}-unfinished{number}") for number in ("", *(f"-{n}" for n in range(2, 10_000))))
    return next(name for name in names if not name.exists())


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Lets no Ctrl+C end the block half-way; it is heard after it. On other threads than the first, a plain block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupted: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: interrupted.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if interrupted:
        raise KeyboardInterrupt


@contextmanager
def ended_in_order() -> Iterator[None]:
    """Makes what would kill the command outright (kill, a closed terminal) end the block as Ctrl+C does."""
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        names = []

    def stop(number: int, _: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {name: signal.signal(getattr(signal, name), stop) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)
