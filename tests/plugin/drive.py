"""An instance of the plugin's core in a process of its own, which a test plays block by block."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.plugin import native

PACK, DRY_WET, SEED, VISIBILITY, CHUNK, LATENCY_BUDGET, INPUT, BYPASS = 0, 2, 7, 8, 9, 10, 11, 12
PROMPT, ON_JUMP, TIMING = 22, 23, 24  # of core/parameters.h, as these are
DEFAULT, PASSTHROUGH = 0, 1
IDLE, CONNECTING, PLAYING, LATE, BUDGET_TOO_SMALL, REFUSED, FAILED = 0, 1, 3, 4, 5, 6, 7  # of Status in core/plugin.h
COLUMNS = 16  # of what `run` writes: input, main output, five stems, sidechain, stereo each
AS_SET, AUTO = 0, 1  # of Timing
STOPPED, ROLLING = 0, 1  # of the transport that calls tell


class Drive:
    """An instance of the core in a process of its own; see plugin_client/tests/drive.cpp."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process, self._folder = process, folder

    def say(self, *words: object) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(" ".join(str(word) for word in words) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the driver ended at {words}"
        return answer.rstrip("\n")

    def activate(self, rate: int, frames: int = 512, *, seconds: float, pack: int = PASSTHROUGH) -> int:
        """With this pack, all wet and this latency budget; returns the latency in samples."""
        for parameter, value in ((PACK, pack), (DRY_WET, 1.0), (LATENCY_BUDGET, seconds)):
            self.say("set", parameter, value)
        return int(self.say("activate", rate, frames))

    def run(self, samples: int, block: int, speed: float) -> NDArray[np.float32]:
        """Input and outputs [sample, column]."""
        path = self._folder / "audio"
        path.unlink(missing_ok=True)
        self.say("run", samples, block, speed, path)
        return np.fromfile(path, "<f4").reshape(-1, COLUMNS)

    def status(self) -> int:
        return int(self.say("status").split()[0])

    def sessions(self) -> int:
        """Opened since it was activated."""
        return int(self.say("status").split()[1])

    def missing(self) -> int:
        """Samples of output that were due and were not there, since it was activated."""
        return int(self.say("status").split()[2])

    def message(self) -> str:
        """The status in words."""
        return self.say("status").split(maxsplit=6)[6]


@contextmanager
def driver(folder: Path, tmp_path: Path, address: str, **environment: str) -> Iterator[Drive]:
    process = subprocess.Popen(
        [folder / "drive"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **native.SANITIZER_OPTIONS, "BACKLINE_ADDRESS": address, **environment},
    )
    with process:
        yield Drive(process, tmp_path)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 0


def played_exactly(audio: NDArray[np.float32], latency: int) -> NDArray[np.bool_]:
    """For each input sample whether the main output and the first stem carry it, this much later."""
    heard = audio[: len(audio) - latency, :2]
    return (audio[latency:, 2:4] == heard).all(axis=1) & (audio[latency:, 4:6] == heard).all(axis=1)
