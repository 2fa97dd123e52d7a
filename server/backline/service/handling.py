"""What a message costs the event loop, measured while messages go by: it decides how many small ones can be served."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from statistics import median

MESSAGES = 512  # between two looks at the clock
LOOKS = 16  # of which the median counts


class Handling:
    """Counts the messages of all sessions. The event loop's thread only."""

    def __init__(self, tell: Callable[[float], None], clock: Callable[[], float] = time.thread_time) -> None:
        """
        Args:
            tell: called with the seconds that a message takes.
            clock: processor seconds of the calling thread.
        """
        self._tell, self._clock = tell, clock
        self._messages = 0
        self._since: float | None = None
        self._seen: deque[float] = deque(maxlen=LOOKS)

    def count(self) -> None:
        """One message has been taken or sent."""
        if self._since is None:
            self._since = self._clock()
        self._messages += 1
        if self._messages == MESSAGES:
            now = self._clock()
            self._seen.append((now - self._since) / MESSAGES)
            self._messages, self._since = 0, now
            self._tell(median(self._seen))
