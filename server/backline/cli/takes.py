"""Takes: where a model's outputs go, and how they replace older ones only when they are whole.

`PortFiles` says where the outputs of a model go; `RenderedTakes` writes what a rendering gives and `LiveTake` what is
heard live, whatever happens meanwhile. Each of their files is a `TakeFile`. `TokenTake` does so for tokens.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from backline.cli.console import UserError, console, error_console, explanation, labelled
from backline.cli.take_file import TakeFile, audio_format
from backline.models.names import names_problem
from backline.sound_files import Audio, RateChange
from backline.whole_file import Unfinished, check_folder, check_target
from backline_client import Frames, TokenFileError, TokenHeader, TokenWriter

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
            if problem := names_problem(ports):  # they come from a pack or a server, and are no paths
                raise UserError(f"the outputs cannot be written to files: {problem}")
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


class TokenTake:
    """Records the tokens of a session, and keeps them whatever happens, as `LiveTake` does. Any thread may add."""

    def __init__(self, path: Path, header: TokenHeader) -> None:
        """Raises OSError: it cannot be written."""
        check_target(path)
        self._path, self._unfinished = path, Unfinished(path)
        self._file = self._unfinished.part.open("w+b")
        self._writer = TokenWriter(self._file, header)
        self._lock = threading.Lock()
        self._failure: Exception | None = None
        self._complete = False

    def add(self, frames: Frames) -> None:
        """The session's next ones. Never raises: after a failure the rest is left out."""
        with self._lock:
            if self._failure is not None or self._file.closed:
                return
            try:
                self._writer.add(frames)
            except (OSError, TokenFileError) as error:
                self._failure = error

    def complete(self) -> None:
        """Says that the take has come to its end."""
        self._complete = True

    def __enter__(self) -> TokenTake:
        return self

    def __exit__(self, *_: object) -> None:
        with uninterrupted(), self._lock:
            try:
                self._keep()
            finally:
                self._file.close()
                self._unfinished.discard()
        if self._failure is not None:
            raise self._failure

    def _keep(self) -> None:
        header, frames = self._writer.header, self._writer.frames
        if not frames:
            error_console.print(labelled("note", f"no tokens came for {self._path}", "yellow"), soft_wrap=True)
            return
        whole = self._complete and self._failure is None
        path = self._path if whole or not self._path.exists() else beside(Path(os.path.realpath(self._path)))
        self._writer.finish(int(frames * header.sample_rate / header.rate))
        self._file.close()
        self._unfinished.put(path)
        text = "recorded" if whole else "the take broke off, and its tokens are kept as far as they came:"
        console.print(f"{text} {path}, {float(frames / header.rate):.1f} s", soft_wrap=True)


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
