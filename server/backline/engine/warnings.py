"""What a session warns of: counted as it happens, told the first time and whenever the count has doubled."""

from __future__ import annotations

import threading
from collections.abc import Callable

from backline.engine.events import Event, Warned


class Warnings:
    """One session's warnings. Any thread may warn; the client is told on the engine thread."""

    def __init__(self, on_event: Callable[[Event], None], post: Callable[[Callable[[], None]], None]) -> None:
        """`post` has a task run on the engine thread."""
        self.counts: dict[str, int] = {}  # by code, since the session began
        self._on_event, self._post = on_event, post
        self._lock = threading.Lock()
        self._untold: list[Warned] = []

    def warn(self, code: str, message: str, count: int, position: int) -> None:
        """`count` more of what `code` names have happened, the first of them at `position`."""
        with self._lock:
            before = self.counts.get(code, 0)
            self.counts[code] = now = before + count
            if now.bit_length() == before.bit_length():
                return
            self._untold.append(Warned(code, message, now, position))
        self._post(self.tell)

    def tell(self) -> None:
        """Tells what is still to be told. The engine thread."""
        with self._lock:
            untold, self._untold = self._untold, []
        for warning in untold:
            self._on_event(warning)
