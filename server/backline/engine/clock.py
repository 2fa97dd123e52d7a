"""Time as the engine sees it, so that whoever tests lateness can turn it by hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """What time it is, and how to wait for something that may never come."""

    def __call__(self) -> float:
        """Seconds since any moment; never goes back. Any thread."""
        ...

    def wait(self, for_it: Callable[[float | None], bool], seconds: float | None) -> bool:
        """`for_it(seconds)`, the `wait` of an event or of a condition that is held, by this clock. Any thread."""
        ...


class SystemClock:
    """A `Clock` that goes by itself."""

    def __call__(self) -> float:
        return time.perf_counter()

    def wait(self, for_it: Callable[[float | None], bool], seconds: float | None) -> bool:
        return for_it(seconds)


CLOCK: Clock = SystemClock()
