"""The console's door: HTTP and WebSockets on the server's own event loop, which is where sessions are fed."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from backline.doors.console.app import application
from backline.engine.limits import MESSAGE_BYTES
from backline.service.server import House
from backline_client.wire import is_local

CONNECTIONS = 256
CLOSING_SECONDS = 2.0  # that pages get when the server stops
FAREWELL_SECONDS = 5.0  # that a client gets to take what is left for it, once its session has ended

log = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """A server within another, to which the signals belong."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Sockets(WebSocketsSansIOProtocol):
    """A connection that goes when its session has, also where the client takes nothing any more."""

    async def send(self, message: Any) -> None:
        if self.transport.is_closing():  # of many messages in a row, none after the first that has failed
            raise ClientDisconnected
        await super().send(message)

    def handle_ping(self) -> None:
        if not self.writable.is_set():  # it asks for answers, and takes none
            self.transport.abort()
            return
        super().handle_ping()

    def handle_parser_exception(self) -> None:
        """Says what is wrong with a frame, and hears the client out: whoever still sends would be told by a reset."""
        if self.close_sent:
            return
        assert self.conn.close_sent is not None
        code, reason = self.conn.close_sent.code, self.conn.close_sent.reason
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.close_timer = self.loop.call_later(FAREWELL_SECONDS, self.transport.abort)
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()

    async def run_asgi(self) -> None:
        try:
            await super().run_asgi()
        finally:
            self.loop.call_later(FAREWELL_SECONDS, self.transport.abort)


@dataclass
class ConsoleDoor:
    """A `Door` (service/server.py).

    Args:
        address: HOST:PORT; port 0 is any free one. Only this machine's own, unless there are `names`.
        names: that browsers on other machines reach it by, without a port.
        on_open: is told the page's address.
    """

    address: str
    names: Sequence[str] = ()
    on_open: Callable[[str], None] | None = None
    port: int = 0  # at which it listens, once it is open

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{self.address.rpartition(':')[0]}:{self.port}"

    @contextmanager
    def __call__(self, house: House) -> Iterator[None]:
        """Open as long as the block. Raises OSError: it cannot listen there."""
        listening = self._listening()
        self.port = listening.getsockname()[1]
        config = uvicorn.Config(
            application(house, self.names),
            http="h11",
            ws=Sockets,
            ws_max_size=MESSAGE_BYTES,
            ws_ping_interval=None,  # one that waits for room answers none; see the keep-alive below
            ws_per_message_deflate=False,  # samples do not shrink
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=CLOSING_SECONDS,  # type: ignore[arg-type]  # it may be a fraction
        )
        server = Server(config)
        serving = asyncio.run_coroutine_threadsafe(server.serve([listening]), house.loop)
        log.info("the console is at %s", self.url)
        if not is_local(self.address):
            log.warning("anyone who reaches %s may play here: there is no password", self.url)
        if self.on_open is not None:
            self.on_open(self.url)
        try:
            yield
        finally:
            server.should_exit = True
            serving.result()

    def _listening(self) -> socket.socket:
        host, _, port = self.address.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
            raise OSError(f"cannot serve a page at {self.address!r}: use HOST:PORT, for example 127.0.0.1:8090")
        if not is_local(self.address) and not self.names:
            raise OSError(
                f"{self.address} is reached from other machines: say by which name with --http-name, or use 127.0.0.1"
            )
        try:
            family, *_, where = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
            listening = socket.create_server(where[:2], family=family)
        except OSError as error:
            raise OSError(
                f"cannot serve a page at {self.address} ({error}): does another program listen there? Use another port"
            ) from error
        # Inherited by connections: who has vanished without a word is found in half a minute.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
            if hasattr(socket, option):
                listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        return listening
