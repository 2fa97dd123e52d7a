"""Which clients are idle: those that neither send nor take what is due to them, and hold a place that others could use.

A client that has said that its transport stands still may be silent for as long as it likes, and so may one that waits
for this server. By the event loop's clock; everything here runs on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from backline.engine.errors import Idle

IDLE_SECONDS = 30.0
LEASE_SECONDS = 30.0  # for which a session is kept once its call has broken off, an idle one's too
OFFLINE_FACTOR = 10  # a bounce may wait for another plugin, a disk or its user, and holds up nobody's deadline


class IdleWatch:
    """Watches one client."""

    def __init__(self, seconds: float, waits_for_client: Callable[[], bool]) -> None:
        self.seconds = seconds
        self.stopped = False  # the client has said so
        self._waits_for_client = waits_for_client
        self._loop = asyncio.get_running_loop()
        self._taking_since: float | None = None  # a message is on its way to the client
        self._since = self._loop.time()  # the newest moment in which it was not the client that something waited for

    def stir(self) -> None:
        """The client has done something."""
        self._since = self._loop.time()

    @contextmanager
    def taking(self) -> Iterator[None]:
        """The client takes a message, as soon as it has room for it."""
        self._taking_since = self._loop.time()
        try:
            yield
        finally:
            self._taking_since = None
            self.stir()

    async def run_out(self) -> Idle:
        """What the client is told, once it has been idle for too long."""
        while True:
            if (left := self._left()) > 0:
                await asyncio.sleep(left)
            elif self._taking_since is not None:
                return Idle(
                    f"the client has taken no output for {self.seconds:g} s: open a new session, and read on",
                    untaken=True,
                )
            elif not self.stopped and self._waits_for_client():
                return Idle(
                    f"the client has sent nothing for {self.seconds:g} s: open a new session when there is audio, or "
                    "send a Transport that says that it is not playing"
                )
            else:
                self.stir()

    def _left(self) -> float:
        since = self._since if self._taking_since is None else self._taking_since
        return since + self.seconds - self._loop.time()
