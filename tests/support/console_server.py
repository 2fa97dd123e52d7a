"""`backline serve --http` in a process of its own, as a user starts it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tests.support.processes import stop


@dataclass(frozen=True)
class ConsoleServer:
    """Where it is."""

    address: str  # for clients
    url: str  # for browsers, without a slash at its end
    process: subprocess.Popen[str]


@contextmanager
def console_server(*options: str, load: Sequence[str] = ("passthrough",)) -> Iterator[ConsoleServer]:
    """A server with a console on free ports, for as long as the block."""
    command = [
        sys.executable,
        "-m",
        "backline.cli.main",
        "serve",
        "--address=127.0.0.1:0",
        "--socket=none",
        "--device=cpu",
    ]
    command += ["--http=127.0.0.1:0", *(f"--load={pack}" for pack in load), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said: dict[str, str] = {}
            for line in process.stdout:
                what, _, where = line.strip().rpartition(" ")
                said[what] = where
                if what == "console at":
                    break
            assert "console at" in said, f"the server said {said} and ended with {process.wait()}"
            yield ConsoleServer(said["listening on"], said["console at"], process)
        finally:
            stop(process)
