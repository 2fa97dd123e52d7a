"""Which sample of a session a moment is, as measured by when its blocks arrive.

Blocks come late by ever different amounts, and a sound card's rate is its own. So the clock is the line that fits the
newest arrivals best, and how far they lie off it is the jitter.
"""

from __future__ import annotations

from collections import deque

import numpy as np

SPACING_SECONDS = 0.02  # between arrivals that are kept
ARRIVALS = 512  # that are kept: ten seconds
OWN_RATE_SECONDS = 2.0  # of arrivals after which the rate is measured as well
LARGEST_STEP_SECONDS = 0.25  # off the line beyond which the client has paused, and the line begins anew


class SampleClock:
    """Of one session. Seconds are the engine's clock (engine/clock.py), positions the client's. One thread."""

    def __init__(self, sample_rate: int) -> None:
        self._rate = float(sample_rate)
        self._arrivals: deque[tuple[float, int]] = deque(maxlen=ARRIVALS)
        self._line: tuple[float, float, float, float] | None = None  # seconds, position, rate, jitter: fitted on demand

    @property
    def runs(self) -> bool:
        """Whether there has been any input."""
        return bool(self._arrivals)

    @property
    def jitter_seconds(self) -> float:
        """How far the arrivals lie off the line: their standard deviation."""
        return self._fitted()[3]

    def observe(self, seconds: float, end: int) -> None:
        """Input up to position `end` was there at `seconds`."""
        if self._arrivals:
            if seconds - self._arrivals[-1][0] < SPACING_SECONDS:
                return
            if abs(end - self._position(seconds)) > LARGEST_STEP_SECONDS * self._rate:
                self._arrivals.clear()
        self._arrivals.append((seconds, end))
        self._line = None

    def position_at(self, seconds: float) -> int:
        """The sample that is captured at `seconds`; only once the clock runs."""
        return round(self._position(seconds))

    def seconds_at(self, position: int) -> float:
        """When sample `position` is captured; only once the clock runs."""
        at, base, rate, _ = self._fitted()
        return at + (position - base) / rate

    def _position(self, seconds: float) -> float:
        at, base, rate, _ = self._fitted()
        return base + (seconds - at) * rate

    def _fitted(self) -> tuple[float, float, float, float]:
        if self._line is None:
            seconds, ends = np.array(self._arrivals, np.float64).T
            at, base = seconds.mean(), ends.mean()
            x, y = seconds - at, ends - base
            rate = self._rate if x[-1] - x[0] < OWN_RATE_SECONDS else float(x @ y / (x @ x))
            self._line = float(at), float(base), rate, float(np.std(y - rate * x)) / self._rate
        return self._line
