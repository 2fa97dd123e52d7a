"""The OSC door: one port, at which UDP and TCP are OSC, and a GET is OSCQuery.

It has a thread and an event loop of its own, so that whatever comes in, the server's loop does not wait for it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Hashable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import cast

from backline.doors import listening, oscquery
from backline.doors.announce import announced
from backline.doors.board import LOOK_SECONDS, Board
from backline.doors.listening import UNSENT_BYTES
from backline.doors.live import LiveSessions
from backline.doors.packets import BadPacket, Framing, framing_of
from backline.engine.errors import BadInput
from backline.service import hosts
from backline.service.server import House
from backline_client.wire import is_local

CONNECTIONS = 64
REQUEST_SECONDS = 5.0  # that whoever asks by HTTP may take
SILENT_SECONDS = 60.0  # that a connection may have said nothing at all
READ_BYTES = 65_536
TRIES = 8  # at finding a port that is free for UDP and TCP

log = logging.getLogger(__name__)


class Datagrams(asyncio.DatagramProtocol):
    """The door's UDP socket."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # that of 3.11 is one, and does not say so

    def datagram_received(self, packet: bytes, address: tuple[str, int]) -> None:
        self._board.receive(packet, UdpPeer(self, address))

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False

    def send(self, packet: bytes, address: tuple[str, int]) -> bool:
        """Sends it, or drops it where the system takes no more."""
        if self._full or self._transport.is_closing():
            return False
        self._transport.sendto(packet, address)
        return True


@dataclass(frozen=True)
class UdpPeer:
    """Whoever sends from this address and port."""

    datagrams: Datagrams
    address: tuple[str, int]

    @property
    def key(self) -> Hashable:
        return self.address

    def send(self, packet: bytes) -> bool:
        return self.datagrams.send(packet, self.address)


@dataclass(frozen=True)
class TcpPeer:
    """Whoever is at the other end of this connection."""

    writer: asyncio.StreamWriter
    framing: Framing

    @property
    def key(self) -> Hashable:
        return id(self.writer)

    def send(self, packet: bytes) -> bool:
        if self.writer.is_closing() or self.writer.transport.get_write_buffer_size() > UNSENT_BYTES:
            return False
        self.writer.write(self.framing.frame(packet))
        return True


@dataclass
class OscDoor:
    """A `Door` (service/server.py).

    Args:
        address: HOST:PORT; port 0 is any free one.
        live_command: what starts `backline live`, for sessions on this machine's sound card.
        announce: tell controllers on the network.
    """

    address: str
    live_command: Sequence[str]
    announce: bool = True
    host: str = ""
    port: int = 0  # at which it listens, once it is open
    opened: threading.Event = field(default_factory=threading.Event)
    _connections: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    @contextmanager
    def __call__(self, house: House) -> Iterator[None]:
        """Open as long as the block. Raises OSError: it cannot listen there."""
        self.host, port = parsed(self.address)
        failed: list[BaseException] = []
        loop = asyncio.new_event_loop()
        stop = asyncio.Event()

        def work() -> None:
            asyncio.set_event_loop(loop)
            try:
                loop.run_until_complete(self._serve(house, port, stop))
            except BaseException as error:
                failed.append(error)
            finally:
                self.opened.set()

        thread = threading.Thread(target=work, name="backline-osc", daemon=True)
        thread.start()
        self.opened.wait()
        try:
            if failed:
                raise failed[0]
            log.info("OSC and OSCQuery at %s:%d", self.host, self.port)
            if not is_local(self.address):
                log.warning("anyone who reaches %s may play here by OSC: there is no password", self.address)
            yield
        finally:
            with suppress(RuntimeError):  # it has ended by itself
                loop.call_soon_threadsafe(stop.set)
            thread.join()
            loop.close()

    async def _serve(self, house: House, port: int, stop: asyncio.Event) -> None:
        def lost(name: str, error: Exception) -> None:
            board.complain_to_all(f"/session/{name}", error)

        live = LiveSessions(self.live_command, house.address, lost)
        board = Board(house, live)
        async with self._listening(board, port), AsyncExitStack() as stack:
            stack.push_async_callback(live.close_all)
            house.on_card.append(live)
            stack.callback(house.on_card.remove, live)
            stack.push_async_callback(board.stop)
            await board.look_at_packs()
            self.opened.set()
            if self.announce:
                announcing = asyncio.create_task(self._announce(stop))
                stack.push_async_callback(lambda: announcing)
            while not stop.is_set():
                try:
                    board.look()
                except Exception:  # of one look: the next one may see more
                    log.exception("the OSC door could not look at the sessions")
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), LOOK_SECONDS)

    async def _announce(self, stop: asyncio.Event) -> None:
        try:
            async with announced(self.host, self.port):
                await stop.wait()
        except Exception as error:  # of a network; who knows the address needs no announcement
            log.warning("OSC is not announced (%s): controllers need its address", error)

    @asynccontextmanager
    async def _listening(self, board: Board, port: int) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        for attempt in range(TRIES if port == 0 else 1):
            try:
                transport, _ = await loop.create_datagram_endpoint(lambda: Datagrams(board), (self.host, port))
                self.port = transport.get_extra_info("sockname")[1]
                try:
                    server = await asyncio.start_server(
                        lambda reader, writer: self._connected(board, reader, writer), self.host, self.port
                    )
                    break
                except OSError:
                    transport.close()
                    raise
            except OSError as error:
                if port or attempt == TRIES - 1:
                    raise OSError(
                        f"cannot listen for OSC at {self.address} ({error}): does another program listen there? "
                        "Use another port"
                    ) from error
        try:
            yield
        finally:
            transport.close()
            server.close()
            for connection in self._connections:
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    # ---- TCP -----------------------------------------------------------------------------------------

    async def _connected(self, board: Board, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves a connection: its first byte says which language it speaks."""
        connection = asyncio.current_task()
        assert connection is not None
        try:
            if len(self._connections) >= CONNECTIONS:
                return
            self._connections.add(connection)
            first = await asyncio.wait_for(reader.read(READ_BYTES), SILENT_SECONDS)
            if first[:1].isalpha():
                head = await asyncio.wait_for(self._answer_request(board, first, reader, writer), REQUEST_SECONDS)
                if head:
                    await listening.serve(board, head, reader, writer)
            elif first:
                await self._speak_osc(board, first, reader, writer)
        except (OSError, TimeoutError, asyncio.LimitOverrunError):
            pass  # it has gone, or says nothing
        finally:
            self._connections.discard(connection)
            board.lost(id(writer))
            writer.close()

    async def _speak_osc(
        self, board: Board, data: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        peer = TcpPeer(writer, framing_of(data[0]))
        while data:
            try:
                for packet in peer.framing.feed(data):
                    board.receive(packet, peer)
            except BadPacket as error:  # where the next one begins is not known any more
                board.tell_error(peer, "", BadInput(str(error)))
                await asyncio.wait_for(writer.drain(), REQUEST_SECONDS)
                return
            data = await reader.read(READ_BYTES)

    async def _answer_request(
        self, board: Board, data: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes:
        """Answers a request, unless it asks for a WebSocket: then this is it, and what has come after it."""
        while b"\r\n\r\n" not in data and len(data) < oscquery.REQUEST_BYTES:
            more = await reader.read(READ_BYTES)
            if not more:
                return b""
            data += more
        request, *lines = data.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        method, _, rest = request.partition(" ")
        headers = listening.headers_of(lines)
        foreign = hosts.foreign(headers.get("host"), headers.get("origin"), "ask by its address")
        if method not in ("GET", "HEAD") or b"\r\n\r\n" not in data:
            status, body = "400 Bad Request", b""
        elif foreign:
            board.engine.figures.count_error("osc", "Foreign")
            status, body = "403 Forbidden", json.dumps({"error": foreign}).encode()
        elif listening.asks_for_websocket(headers):
            return data
        else:
            await board.look_at_packs()
            host = writer.get_extra_info("sockname")[0]
            status, body = oscquery.answer(rest.rpartition(" ")[0], board.leaves(), host, self.port)
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{head}Connection: close\r\n\r\n".encode() + (b"" if method == "HEAD" else body))
        await writer.drain()
        return b""


def parsed(address: str) -> tuple[str, int]:
    """Host and port of HOST:PORT.

    Raises:
        OSError: it is no such address.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise OSError(f"cannot listen for OSC at {address!r}: use HOST:PORT, for example 127.0.0.1:9050")
    return host.strip("[]"), int(port)
