"""When a block of the input came: what the thread that plays notes, so that another can tell moments from samples."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

ARRIVALS = 256  # blocks that may wait: more than a second of them


class Arrival(NamedTuple):
    """A block of the input, by the machine's monotonic clock."""

    seconds: float  # at which its last sample was captured
    round_trip: float | None  # seconds until what is played along with it is heard; None: nobody hears it
    end: int  # sample of the session after it


def arrivals() -> deque[Arrival]:
    """Room for the newest; appending never waits."""
    return deque(maxlen=ARRIVALS)
