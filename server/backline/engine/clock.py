"""Time as the engine sees it, so that whoever tests lateness can turn it by hand."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]  # seconds since any moment; never goes back

CLOCK: Clock = time.perf_counter
