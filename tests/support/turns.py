"""Who runs when, where several processes share the tests of one run (pytest-xdist).

Tests that compute run beside each other, a file at a time. Tests that keep real time (marked `paced`) mostly wait: they
run beside each other too, at the end, and never beside one that computes, which would make them late.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from xdist.scheduler import LoadGroupScheduling

PACED = "paced"


class FilesThenPaced(LoadGroupScheduling):
    """Gives a process a file's tests at a time, in the order of the collection."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        return f"{file}@{PACED}" if test.endswith(f"@{PACED}") else file


def in_order(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no process ends long after the others; paced tests come last."""
    slow = {item.path for item in items if item.get_closest_marker("slow") and not item.get_closest_marker(PACED)}
    items.sort(key=lambda item: (bool(item.get_closest_marker(PACED)), item.path not in slow))


@contextmanager
def turn(folder: Path, paced: bool) -> Iterator[None]:
    """Waits until nothing runs in the run's other processes that must not run beside such a test, and keeps it so.

    Args:
        folder: of the run, which its processes share. Each has a file there that is locked while it computes.
        paced: whether the test keeps real time.
    """
    workers = [f"gw{number}" for number in range(int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))]
    me = os.environ.get("PYTEST_XDIST_WORKER", workers[0])
    with ExitStack() as held:
        for worker in workers:
            if paced != (worker == me):
                held.enter_context(locked(folder / f"{worker}.computes", fcntl.LOCK_SH if paced else fcntl.LOCK_EX))
        yield


@contextmanager
def locked(path: Path, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Holds a file's lock against other processes, and other openings in this one."""
    with path.open("w") as file:
        fcntl.flock(file, how)
        yield
