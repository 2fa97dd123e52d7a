"""Sound out of whatever ffmpeg decodes (m4a, aac, mp4, webm, wma ...), as a stream of float32.

The file is named to ffmpeg as a file and nothing else, so that no name is an option or an address to it, and no
playlist leads it to the network.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

Audio = NDArray[np.float32]  # [channel, sample]

INSTALL = "install ffmpeg (Debian: apt install ffmpeg)"
ONLY_FILES = ("-protocol_whitelist", "file,pipe")
PATIENCE_SECONDS = 60.0  # for what ffprobe has to say


class NoSound(ValueError):
    """A file that no sound can be read from; the message names it, and says why and what to do."""


def is_installed() -> bool:
    return all(shutil.which(program) for program in ("ffmpeg", "ffprobe"))


class FfmpegSound:
    """One audio stream of a file, read in order."""

    exact = False  # `frames` follows from a duration that some formats only estimate

    def __init__(self, path: Path, number: int = 0) -> None:
        """`number`: of the stream, from 0. Raises NoSound: ffmpeg finds no such stream in it."""
        source = f"file:{os.path.abspath(path)}"
        stream = _probed(path, source, number)
        self.rate, self.channels = int(stream["sample_rate"]), int(stream["channels"])
        seconds = float(stream["duration"]) if "duration" in stream else None
        self.frames = None if seconds is None else round(seconds * self.rate)
        self.damage = ""  # what was wrong with the file, once it has been read
        self._read = 0
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        command = ["ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "error", *ONLY_FILES, "-i", source]
        command += ["-map", f"0:a:{number}", "-c:a", "pcm_f32le", "-ar", str(self.rate), "-ac", str(self.channels)]
        self._process = subprocess.Popen(
            [*command, "-f", "f32le", "pipe:1"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._said
        )

    def read(self, count: int) -> Audio:
        """The next `count` samples [channel, sample]; fewer at the end."""
        assert self._process.stdout is not None
        pcm = self._process.stdout.read(4 * self.channels * count)
        whole = len(pcm) // (4 * self.channels)
        self._read += whole
        if whole < count and self._process.wait() != 0:
            self.damage = f"ffmpeg could read no more than {self._read} samples ({last_line(self._said)})"
        return np.frombuffer(pcm, "<f4", whole * self.channels).reshape(-1, self.channels).T.astype(np.float32)

    def stop(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._said.close()


def _probed(path: Path, source: str, number: int) -> dict[str, Any]:
    """sample_rate, channels and, where it is known, duration of an audio stream."""
    command = ["ffprobe", "-v", "error", *ONLY_FILES, "-select_streams", f"a:{number}", "-of", "json"]
    command += ["-show_entries", "stream=sample_rate,channels,duration:format=duration", source]
    try:
        said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise NoSound(f"{path} keeps ffprobe busy for more than {PATIENCE_SECONDS:.0f} s: is it whole?") from error
    if said.returncode != 0:
        reason = said.stderr.decode(errors="replace").strip().rpartition("\n")[2].removeprefix(f"{source}: ")
        raise NoSound(f"{path} is no audio file that libsndfile or ffmpeg reads ({reason})")
    found = json.loads(said.stdout)
    streams = found.get("streams", [])
    if not streams or not int(streams[0].get("sample_rate", 0)) or not streams[0].get("channels"):
        which = f"no audio stream {number}" if number else "no audio stream"
        raise NoSound(f"{path} holds no sound: ffmpeg finds {which} in it")
    durations = [known["duration"] for known in (streams[0], found.get("format", {})) if "duration" in known]
    return {**streams[0], **({"duration": durations[0]} if durations else {})}


def last_line(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace").strip().rpartition("\n")[2] or "it does not say why"
