"""What an engine has done since its start: numbers that outlive the sessions and the models that they tell of.

A model's own are written by its engine thread, which only adds to them, and read by anybody: nobody waits. What happens
seldom, and on any thread, is counted under a lock.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

STAGES = ("queue", "model", "session")  # of a chunk's time: it waits, the model computes, the session does the rest
SHARES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.85, 1.0, 1.25, 1.5, 2.0, 4.0)  # of a chunk's budget, where buckets end


class Histogram:
    """How often a value fell into each bucket; one thread observes."""

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` are the upper ends of the buckets, each of which belongs to its own; beyond the last is one more."""
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class ChunkSeconds(NamedTuple):
    """Where the time of one chunk went, by the clock."""

    waited: float  # that it was ready before its beginning
    whole: float  # from its beginning to its answer
    model: float  # of that, in the model's calls, which all that share them take
    between: float = 0.0  # of that, between the steps of one that takes several

    @property
    def queue(self) -> float:
        return self.waited + self.between

    @property
    def session(self) -> float:
        """What brings its input to the model, and its output to the client."""
        return self.whole - self.model - self.between


class ModelFigures:
    """One model's, over all its sessions and for as often as it is loaded. Its engine thread writes, but for one."""

    def __init__(self, budget_seconds: float) -> None:
        """`budget_seconds` is a chunk's usual length: what computing it may take at most."""
        bounds = [share * budget_seconds for share in SHARES]
        self.chunks = 0
        self.late_chunks = 0
        self.compute_seconds = 0.0  # shares of engine calls, as in every session's totals
        self.audio_seconds = 0.0  # that the chunks were long
        self.chunk_seconds = Histogram(bounds)  # from a chunk's beginning to its answer
        self.stage_seconds = {stage: Histogram(bounds) for stage in STAGES}
        self.sessions = 0  # opened; the engine counts them under its lock

    def observe(self, late: bool, audio_seconds: float, taken: ChunkSeconds) -> None:
        """One chunk of one session has been answered. The engine thread."""
        self.chunks += 1
        self.late_chunks += late
        self.audio_seconds += audio_seconds
        self.chunk_seconds.observe(taken.whole)
        self.stage_seconds["queue"].observe(taken.queue)
        self.stage_seconds["model"].observe(taken.model)
        self.stage_seconds["session"].observe(taken.session)

    @property
    def in_time(self) -> float:
        """Share of the chunks that came in time; 1 before the first."""
        return 1.0 - self.late_chunks / max(1, self.chunks)

    @property
    def realtime_factor(self) -> float:
        """Compute seconds per second of audio; 0 before the first chunk."""
        return self.compute_seconds / self.audio_seconds if self.audio_seconds else 0.0


class Figures:
    """An engine's. Any thread."""

    def __init__(self) -> None:
        self.models: dict[str, ModelFigures] = {}  # by name; never fewer
        self.sessions_refused = 0
        self.sessions_resumed = 0  # times
        self.errors: Counter[tuple[str, str]] = Counter()  # by door and kind
        self._lock = threading.Lock()

    def model(self, name: str, budget_seconds: float) -> ModelFigures:
        """Those of a model; they go on where it was resident before."""
        with self._lock:
            return self.models.setdefault(name, ModelFigures(budget_seconds))

    def count_refusal(self) -> None:
        """A session was asked for, and refused."""
        with self._lock:
            self.sessions_refused += 1

    def count_resumption(self) -> None:
        """A session was taken up again."""
        with self._lock:
            self.sessions_resumed += 1

    def count_error(self, door: str, kind: str) -> None:
        """Something went wrong at a door of the server: `door` is its name, `kind` one of a few words, never a text."""
        with self._lock:
            self.errors[door, kind] += 1

    def total(self, what: str) -> int:
        """The sum of a number over all models: chunks, late_chunks or sessions."""
        return sum(getattr(figures, what) for figures in list(self.models.values()))
