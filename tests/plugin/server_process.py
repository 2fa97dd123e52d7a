"""A server in a process of its own: hosts that hold Python's lock while they wait cannot stop it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

STOP_SECONDS = 20


@contextmanager
def server_process(address: str, packs: Sequence[Path] = (), load: Sequence[str] = ()) -> Iterator[subprocess.Popen]:
    """`backline serve` at this address, for as long as the block; it listens when the block begins."""
    command = [sys.executable, "-m", "backline.cli.main", "serve", "--address", address, "--device", "cpu"]
    command += [part for folder in packs for part in ("--packs", str(folder))]
    command += [part for name in load for part in ("--load", name)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening on"), f"the server said {line!r} and ended with {process.poll()}"
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
