"""Where a command finds its server: at an address, in this process, or in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from backline.cli.console import UserError
from backline.cli.options import Credentials, pick_device
from backline_client import Client

LOAD_LIMIT = 4.0  # cores


@contextmanager
def connected(
    address: str | None,
    packs: Sequence[Path],
    device: str,
    apart: bool = False,
    credentials: Credentials | None = None,
) -> Iterator[Client]:
    """A client of the server at `address`, or of one that lives as long as the block.

    That one is in this process, unless `apart`: an audio callback must not share Python's lock with a model.
    """
    if address is not None:
        with Client(address, **(credentials or {})) as client:
            yield client
        return
    if apart:
        pick_device(device)  # whose words would be lost with the other process
        with server_process(packs, device=device, load_limit=None) as process, Client(process.address) as client:
            yield client
        return
    from backline.service.server import start_server

    with start_server(packs=packs, device=pick_device(device)) as server, Client(server.address) as client:
        yield client


@dataclass(frozen=True)
class ServerProcess:
    """A server in a process of its own."""

    address: str
    process: psutil.Process


@contextmanager
def server_process(
    packs: Sequence[Path],
    cores: int | None = None,
    log: Path | None = None,
    device: str = "auto",
    load_limit: float | None = LOAD_LIMIT,
    options: Sequence[str] = (),
) -> Iterator[ServerProcess]:
    """`backline serve` on a free port, with further `options`, on `cores` cores where the system can say so; ends with
    the block.

    It admits sessions that are too slow for live playing: whoever measures wants to see how late they come. None as
    `load_limit` is the server's own, which does not.
    """
    arguments = [sys.executable, "-m", "backline.cli.main", "serve", "--address", "127.0.0.1:0", "--socket", "none"]
    arguments += ["--config", "none"]  # the user's own server is another one
    arguments += ["--device", device]
    if load_limit is not None:
        arguments += ["--load-limit", str(load_limit)]
    for folder in packs:
        arguments += ["--packs", str(folder)]
    arguments += options
    with (
        open(log or os.devnull, "wb") as errors,
        subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=errors, text=True) as child,
    ):
        try:
            process = psutil.Process(child.pid)
            if cores is not None and hasattr(process, "cpu_affinity"):
                # Set before the server has threads, so that all of them inherit it.
                process.cpu_affinity(process.cpu_affinity()[-cores:])
            assert child.stdout is not None
            told = (line.split()[-1] for line in child.stdout)
            address = next((where for where in told if not where.startswith("http")), None)  # metrics come before
            if address is None:
                child.wait()
                raise UserError(f"the server did not start (exit code {child.returncode}): try `backline serve`")
            yield ServerProcess(address, process)
        finally:
            child.terminate()
            try:
                child.wait(15.0)
            except subprocess.TimeoutExpired:
                child.kill()
