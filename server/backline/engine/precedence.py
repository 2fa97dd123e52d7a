"""Among all models: a chunk that somebody is about to hear goes before work that has time.

Models compute on threads of their own, but what they do in Python is done by one thread at a time, and there may be
fewer cores than models. One thread that steps flat out - a render, or a client that sends a minute at once - then makes
a live chunk of another model take several times as long. So that work begins only while no urgent chunk is computed;
but not for ever, since it shall end, too.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

GIVE_WAY_SECONDS = 0.1  # that work which has time waits at most before each of its chunks
TURN_SECONDS = 0.0005  # of Python on one thread while another waits; a chunk takes a hundred turns or so


class Precedence:
    """What the models of a machine know of each other. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._urgent = 0  # calls in progress that have urgent chunks
        self._waiting: dict[object, Callable[[], None]] = {}

    @contextmanager
    def urgent(self) -> Iterator[None]:
        """While the block lasts, an urgent chunk is being computed."""
        with self._lock:
            self._urgent += 1
        try:
            yield
        finally:
            with self._lock:
                self._urgent -= 1
                waiting = {} if self._urgent else self._waiting
                if waiting:
                    self._waiting = {}
            for wake in waiting.values():
                wake()

    def free(self, who: object, wake: Callable[[], None]) -> bool:
        """Whether work that has time may begin now; if not, `wake` is called once, when it may."""
        with self._lock:
            if not self._urgent:
                return True
            self._waiting[who] = wake
            return False


def take_short_turns() -> None:
    """Has a thread that computes in Python yield to one that waits ten times as soon as usual. For a whole process."""
    sys.setswitchinterval(TURN_SECONDS)
