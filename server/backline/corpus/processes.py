"""Many songs worked on, several at a time, each in a process of its own: one that crashes is named, the rest goes on.

with contextlib.closing(outcomes_of(songs, work, jobs)) as outcomes:
    for song, outcome in outcomes:       # in the order of the songs
        ...
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

from backline.corpus.manifest import CorpusError
from backline.ffmpeg import NoSound

MOST_AHEAD = 64  # songs for each job that may be done before one that is still in work

Item = TypeVar("Item")
Result = TypeVar("Result")


class Stopped(Exception):
    """The run has been interrupted."""


def outcomes_of(
    items: Sequence[Item], work: Callable[[Item], Result], jobs: int
) -> Generator[tuple[Item, Result | NoSound], None, None]:
    """Every item with what has become of it, as they are done; a NoSound that `work` raises is one of the outcomes.

    Args:
        work: what is done to each, in another process: it and the items can be pickled. It calls `check_stopped` now
            and then, which ends it where the caller has closed the generator.
    """
    left = deque(items)
    stop = multiprocessing.get_context("spawn").Event()
    try:
        while left:
            lost: list[Item] = []  # a process has died, of one of these
            yield from _by_pool(left, work, stop, jobs, lost)
            for item in lost:  # alone, so that it is known which of them it is
                died: list[Item] = []
                yield from _by_pool(deque([item]), work, stop, 1, died)
                if died:
                    yield item, NoSound("whatever reads it crashes: it is damaged")
    finally:
        stop.set()


def _by_pool(
    left: deque[Item], work: Callable[[Item], Result], stop: Any, jobs: int, lost: list[Item]
) -> Iterator[tuple[Item, Result | NoSound]]:
    """Takes items from the `left` ones until none is left or a process dies; then those in work are `lost`.

    They come in the order that they lie in, so that of two that are the same it is always the first that is kept.
    """
    begun: deque[tuple[Item, Future[Result]]] = deque()
    with ProcessPoolExecutor(min(jobs, len(left)), multiprocessing.get_context("spawn"), _begin, (stop,)) as pool:
        try:
            while left or begun:
                while left and len(begun) < MOST_AHEAD * jobs and sum(not job.done() for _, job in begun) < 2 * jobs:
                    begun.append((left[0], pool.submit(work, left[0])))
                    left.popleft()
                if not begun[0][1].done():
                    wait([job for _, job in begun if not job.done()], return_when=FIRST_COMPLETED)
                while begun and begun[0][1].done():
                    item, outcome = begun[0][0], _outcome(begun[0][1])
                    begun.popleft()
                    yield item, outcome
        except BrokenProcessPool:
            for item, job in begun:
                try:
                    outcome = _outcome(job)
                except BrokenProcessPool:
                    lost.append(item)
                else:
                    yield item, outcome
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _outcome(future: Future[Result]) -> Result | NoSound:
    try:
        return future.result()
    except NoSound as error:
        return error


_stop: Any = None


def _begin(stop: Any) -> None:
    """In a new process."""
    global _stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the process that gives the work
    _stop = stop


def check_stopped() -> None:
    """For work between its steps. Raises Stopped: nobody waits for it any more."""
    if _stop is not None and _stop.is_set():
        raise Stopped


@contextlib.contextmanager
def alone(corpus: Path) -> Iterator[None]:
    """While this is open, no other process changes the same corpus. Raises CorpusError: one does."""
    try:
        import fcntl
    except ImportError:  # where there is none, it is up to the user
        yield
        return
    with open(corpus / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CorpusError(f"{corpus} is being changed by another process: wait for it") from error
        yield
