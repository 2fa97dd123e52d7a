"""Audio files in and out, at any rate that the wire may not take."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from backline.cli.console import UserError
from backline.models.names import names_problem

Audio = NDArray[np.float32]  # [channel, sample]
SERVED_RATES = (8_000, 192_000)  # Hz, as the wire contract has it


def read_audio(path: Path) -> tuple[Audio, int]:
    """The file's samples [channel, sample] and its rate in Hz."""
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        known = ", ".join(sorted(soundfile.available_formats()))
        raise UserError(f"{path} is no audio file that libsndfile reads ({error}); it reads {known}") from error
    return np.ascontiguousarray(samples.T), rate


def check_writable(path: Path) -> None:
    """Finds out before the work whether `path` can take audio."""
    if path.suffix[1:].upper() not in {*soundfile.available_formats(), "AIF", "AIFC"}:
        raise UserError(f"{path} names no audio format by its ending: use .wav or .flac, for example")
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent}: make it first")


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
            check_writable(path)
        elif path.exists() and not path.is_dir():
            raise UserError(f"{path} is a file, no folder: give the folder another name")
        elif not path.parent.is_dir():
            raise UserError(f"there is no folder {path.parent}: make it first")
        return cls(path, is_folder)

    def paths(self, ports: Sequence[str]) -> dict[str, Path]:
        """The file of each port; makes the folder. Raises UserError where a server's names cannot be those of files."""
        if self.is_folder or len(ports) != 1:
            ports = safe_file_names(ports)
        if self.is_folder:
            try:
                self.output.mkdir(exist_ok=True)
            except OSError as error:
                raise UserError(f"the folder {self.output} cannot be made: {error.strerror}") from error
            return {port: self.output / f"{port}.wav" for port in ports}
        if len(ports) == 1:
            return {ports[0]: self.output}
        return {port: self.output.with_stem(f"{self.output.stem}-{port}") for port in ports}


def safe_file_names(names: Sequence[str]) -> Sequence[str]:
    """`names`, of outputs, as a server gave them: they are not paths, and no two are one file. Raises UserError."""
    if problem := names_problem(names):
        raise UserError(f"the server's outputs cannot be written to files: {problem}")
    return names


def write_audio(path: Path, audio: Audio, rate: int) -> None:
    """Writes [channel, sample]; WAV as 32-bit float, which cannot clip, other formats in their usual width."""
    subtype = "FLOAT" if path.suffix.lower() in {".wav", ".w64", ".rf64", ".aiff", ".aif"} else None
    try:
        soundfile.write(path, audio.T, rate, subtype=subtype)
    except (soundfile.LibsndfileError, ValueError, TypeError) as error:
        text = f"{path} cannot hold {audio.shape[0]} channels at {rate} Hz ({error}): use .wav"
        raise UserError(text) from error


def served_rate(rate: int) -> int:
    """The rate at which to send audio of `rate`."""
    return min(max(rate, SERVED_RATES[0]), SERVED_RATES[1])


def change_rate(audio: Audio, rate_in: int, rate_out: int, length: int | None = None) -> Audio:
    """[channel, sample] at another rate; `length` samples long where it is given."""
    if rate_in == rate_out:
        return audio
    changed = np.ascontiguousarray(soxr.resample(audio.T, rate_in, rate_out).T, np.float32)
    if length is None:
        return changed
    return np.pad(changed[:, :length], ((0, 0), (0, max(0, length - changed.shape[1]))))


def mix(ports: dict[str, Audio], channels: int) -> Audio:
    """The sum of all ports [channel, sample], each brought to `channels`."""
    return np.sum([with_channels(audio, channels) for audio in ports.values()], axis=0, dtype=np.float32)


def with_channels(audio: Audio, channels: int) -> Audio:
    """As many channels as wanted: copies of mono, the mean for mono, otherwise the first ones and silence."""
    have = audio.shape[0]
    if have == channels:
        return audio
    if have == 1:
        return np.repeat(audio, channels, axis=0)
    if channels == 1:
        return audio.mean(axis=0, keepdims=True, dtype=np.float32)
    return np.pad(audio[:channels], ((0, max(0, channels - have)), (0, 0)))
