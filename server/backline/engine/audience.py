"""Who is told what becomes of a session: its client, and whoever else listens, such as a controller's display."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeAlias

from backline.engine.events import ChunkBegan, Event, InputBlock
from backline.models.stream import Heard

News: TypeAlias = Event | InputBlock | ChunkBegan | Heard
Listener: TypeAlias = Callable[[News], None]


class Audience:
    """Called with every event of one session, on the engine thread; nobody in it may block."""

    def __init__(self, client: Callable[[Event], None]) -> None:
        self._client = client
        self._lock = threading.Lock()  # of who comes and goes
        self.listeners: tuple[Listener, ...] = ()

    def __call__(self, event: Event) -> None:
        self._client(event)
        self.show(event)

    def show(self, news: News) -> None:
        """Tells those who listen, and not the client."""
        for listener in self.listeners:
            listener(news)

    def listen(self, listener: Listener) -> None:
        """From now on `listener` is told all that the client is, and of the input, on the client's thread."""
        with self._lock:
            self.listeners = (*self.listeners, listener)

    def unlisten(self, listener: Listener) -> None:
        """`listener` is told nothing any more; it may be told what is on its way."""
        with self._lock:
            self.listeners = tuple(each for each in self.listeners if each != listener)
