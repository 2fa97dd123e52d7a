"""A server in a process of its own: hosts that hold Python's lock while they wait cannot stop it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.processes import stop

BUSY = 0.2  # of the time, summed over the server's threads, that a quiet machine does not let it wait
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
            stop(process)


@contextmanager
def in_time(server: subprocess.Popen[str]) -> Iterator[None]:
    """What fails in the block is skipped where the server had no core to run on: that says nothing of it."""
    waited, begin = _waited_for_a_core(server), time.monotonic()
    try:
        yield
    except AssertionError:
        share = (_waited_for_a_core(server) - waited) / (time.monotonic() - begin)
        if share > BUSY:
            pytest.skip(
                f"the server's threads waited for a core for {share:.0%} of the time: this wants a quiet machine"
            )
        raise


def _waited_for_a_core(process: subprocess.Popen[str]) -> float:
    """Seconds for which the threads of a process that is still there could have run, had a core been free."""
    threads = Path(f"/proc/{process.pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[1]) for thread in threads) / 1e9
