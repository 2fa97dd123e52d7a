"""A network of our own between a client and a server: as far away, as restless and as broken as a test wants it.

with Network(server.address, Weather(round_trip=0.1, jitter=0.02)) as network:
    Client(network.address)
    network.cut()           # every connection breaks off, and none comes through ...
    network.mend()          # ... until here
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

PIECE = 16_384  # bytes that travel together
PARETO = 2.5  # shape of the jitter: most pieces are quick, a few take long
LONGEST_JITTER = 20.0  # times the mean


@dataclass(frozen=True)
class Weather:
    """How a network is; all times in seconds."""

    round_trip: float = 0.0
    jitter: float = 0.0  # mean of what is added one way, Pareto distributed
    down_share: float = 0.0  # of the time
    longest_cut: float = 5.0
    seed: int = 0

    def delays(self, way: int) -> Iterator[float]:
        """What one piece after the other takes on one way."""
        drawn = random.Random(f"{self.seed}/{way}")
        while True:
            late = self.jitter * (PARETO - 1.0) * (drawn.paretovariate(PARETO) - 1.0)
            yield self.round_trip / 2 + min(late, LONGEST_JITTER * self.jitter)

    def cuts(self) -> Iterator[tuple[float, float]]:
        """(time until it breaks off, time until it is mended), one after the other."""
        drawn = random.Random(f"{self.seed}/cuts")
        while self.down_share > 0.0:
            down = drawn.uniform(0.1, 1.0) * self.longest_cut
            yield drawn.uniform(0.5, 1.5) * down * (1.0 / self.down_share - 1.0), down


class Network:
    """A proxy at `address`, a free port of this machine, in a thread of its own. Any thread."""

    def __init__(self, target: str, weather: Weather = Weather()) -> None:
        """`target` is host:port."""
        self.target, self._weather = target, weather
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="network", daemon=True)
        self._listening = threading.Event()
        self._down = False
        self._connections: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ways = 0
        self.address = ""
        self.broken_off = 0  # times
        self.swallow: Callable[[], bool] | None = None  # whether a piece gets lost, and its connection with it

    def __enter__(self) -> Network:
        self._thread.start()
        assert self._listening.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def cut(self) -> None:
        """Breaks off every connection, what is on its way included, and lets none come through."""
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result(10)

    def mend(self) -> None:
        """Connections come through again."""
        self._down = False

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        if self._weather.down_share:
            self._spawn(self._break_off_now_and_then())
        self._listening.set()
        await self._over.wait()
        server.close()
        self._break_connections()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _break_off_now_and_then(self) -> None:
        for up, down in self._weather.cuts():
            await asyncio.sleep(up)
            await self._cut()
            await asyncio.sleep(down)
            self.mend()

    async def _cut(self) -> None:
        self._down = True
        self.broken_off += 1
        self._break_connections()

    def _break_connections(self) -> None:
        for writer in self._connections:
            writer.transport.abort()
        self._connections.clear()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._down:
            writer.transport.abort()
            return
        try:
            host, _, port = self.target.rpartition(":")
            there, back = await asyncio.open_connection(host, int(port))
        except OSError:  # the server is not there
            writer.transport.abort()
            return
        self._connections |= {writer, back}
        self._spawn(self._carry(reader, back))
        self._spawn(self._carry(there, writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One way of a connection: each piece after its delay, none before the one before it."""
        self._ways += 1
        delays, underway = self._weather.delays(self._ways), asyncio.Queue[tuple[float, bytes]](1_024)

        async def deliver() -> None:
            while True:
                due, piece = await underway.get()
                await asyncio.sleep(max(0.0, due - self._loop.time()))
                if not piece:
                    writer.transport.abort()
                    return
                writer.write(piece)
                await writer.drain()

        delivering = self._loop.create_task(deliver())
        with suppress(OSError):
            while piece := await reader.read(PIECE):
                if self.swallow is not None and self.swallow():
                    self._break_connections()
                    break
                await underway.put((self._loop.time() + next(delays), piece))
        await underway.put((self._loop.time() + next(delays), b""))
        with suppress(OSError):
            await delivering
