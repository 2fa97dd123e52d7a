"""A server in a process of its own: hosts that hold Python's lock while they wait cannot stop it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

STOP_SECONDS = 20
# As `backline serve`, but sessions that hosts have left open keep nobody waiting at its end.
SERVE = """
import asyncio, sys
from backline.service.server import serve
asyncio.run(serve(sys.argv[1], load=sys.argv[2:], device="cpu", drain_seconds=0.2,
                  on_ready=lambda address: print("listening on", address, flush=True)))
"""


@contextmanager
def server_process(address: str, load: Sequence[str] = ("passthrough",)) -> Iterator[subprocess.Popen[str]]:
    """A server at this address with these packs resident, for as long as the block; it listens when that begins."""
    with subprocess.Popen([sys.executable, "-c", SERVE, address, *load], stdout=subprocess.PIPE, text=True) as process:
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
