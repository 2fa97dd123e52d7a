"""A clock that stands still until a test turns it."""

from __future__ import annotations

import time
from collections.abc import Callable

LOOK_SECONDS = 0.001  # of real time between two looks at a clock that somebody else turns


class TurnedClock:
    """A `Clock` (engine/clock.py)."""

    def __init__(self) -> None:
        self.seconds = 1_000.0
        self._released: float | None = None  # real time at which it began to go by itself

    def __call__(self) -> float:
        return self.seconds + (0.0 if self._released is None else time.perf_counter() - self._released)

    def wait(self, for_it: Callable[[float | None], bool], seconds: float | None) -> bool:
        if seconds is None:
            return for_it(None)
        until = self() + seconds
        while not for_it(LOOK_SECONDS):
            if self() >= until:
                return False
        return True

    def turn(self, seconds: float) -> None:
        self.seconds += seconds

    def release(self) -> None:
        """From here on it goes by itself, so that nothing waits for a test that is over."""
        self._released = time.perf_counter()
