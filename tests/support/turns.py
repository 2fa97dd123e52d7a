"""Who runs when, where several processes share the tests of one run (pytest-xdist).

Tests that compute run beside each other, a file at a time. Tests that keep real time (marked `paced`) mostly wait: they
run beside each other too, at the end, and never beside one that computes, which would make them late.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

PACED = "paced"


def is_paced(item: pytest.Item) -> bool:
    return item.get_closest_marker(PACED) is not None


def in_order(items: list[pytest.Item]) -> None:
    """Paced tests come last; of either kind the long ones come first, so that no process ends long after the others.

    Files with slow tests are long, and so are those that hold nothing but paced ones.
    """
    computing = [item for item in items if not is_paced(item)]
    files = {item.path for item in computing}
    slow = {item.path for item in computing if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (is_paced(item), item.path in files if is_paced(item) else item.path not in slow))


class FilesThenPaced(LoadScopeScheduling):
    """Gives a process a file's tests at a time, in the order of the collection: paced ones, at its end, apart."""

    def schedule(self) -> None:
        if self.collection is None:
            collected = next(iter(self.registered_collections.values()))
            runs = groupby(collected, key=lambda nodeid: nodeid.partition("::")[0])
            self.units = {nodeid: f"{number} {file}" for number, (file, run) in enumerate(runs) for nodeid in run}
        super().schedule()

    def _split_scope(self, nodeid: str) -> str:
        return self.units[nodeid]


class Turns:
    """In one of the processes: waits before each test until the others run nothing that must not run beside it.

    Every process has a file that it keeps locked while it computes, up to its last test that does; who plays a paced
    test keeps the files of all the others.
    """

    def __init__(self, folder: Path) -> None:
        """`folder` is one that the processes share."""
        self._mine = folder / f"{os.environ['PYTEST_XDIST_WORKER']}.computes"
        count = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        self._others = {folder / f"gw{number}.computes" for number in range(count)} - {self._mine}
        self._computing = ExitStack()
        self._computes = False

    @pytest.hookimpl(wrapper=True, tryfirst=True)  # outside of the time limit: a turn may be long in coming
    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        if is_paced(item):
            with ExitStack() as playing:
                for other in sorted(self._others):
                    playing.enter_context(locked(other, fcntl.LOCK_SH))
                return (yield)
        if not self._computes:
            self._computing.enter_context(locked(self._mine))
            self._computes = True
        try:
            return (yield)
        finally:
            if nextitem is None or is_paced(nextitem):
                self._computing.close()
                self._computes = False


@contextmanager
def locked(path: Path, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Holds a file's lock against other processes, and other openings in this one."""
    with path.open("w") as file:
        fcntl.flock(file, how)
        yield
