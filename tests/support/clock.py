"""A clock that stands still until a test turns it."""

from __future__ import annotations


class TurnedClock:
    """A `Clock` (engine/clock.py)."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds

    def turn(self, seconds: float) -> None:
        self.seconds += seconds
