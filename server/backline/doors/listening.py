"""LISTEN and IGNORE of OSCQuery: whoever opens a WebSocket at the door's port is told what changes where it says.

{"COMMAND": "LISTEN", "DATA": "/session/1/chord"}    in a frame of text; OSC messages follow, each in a binary frame

Binary frames that come are OSC packets, as if they had come by UDP.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Hashable, Iterable
from typing import Any

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from backline.doors.board import Board
from backline.doors.packets import PACKET_BYTES
from backline.engine.errors import BadInput
from backline.engine.limits import quoted

UNSENT_BYTES = 262_144  # that may wait for a peer
SILENT_SECONDS = 30.0  # after which it is asked whether it is still there, and after twice as long it is not
READ_BYTES = 65_536

log = logging.getLogger(__name__)


class WebSocketPeer:
    """Whoever is at the other end of a WebSocket."""

    def __init__(self, protocol: ServerProtocol, writer: asyncio.StreamWriter) -> None:
        self._protocol, self._writer = protocol, writer

    @property
    def key(self) -> Hashable:
        return id(self._writer)

    def send(self, packet: bytes) -> bool:
        if self._protocol.state is not State.OPEN or self._writer.transport.get_write_buffer_size() > UNSENT_BYTES:
            return False
        self._protocol.send_binary(packet)
        self.flush()
        return True

    def flush(self) -> None:
        """Writes what the protocol has to say."""
        for data in self._protocol.data_to_send():
            if data:
                self._writer.write(data)
            elif self._writer.can_write_eof():
                self._writer.write_eof()


async def serve(board: Board, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serves a connection that has begun with `head`, a request for a WebSocket, until it ends."""
    protocol = ServerProtocol(max_size=PACKET_BYTES, logger=log)
    peer = WebSocketPeer(protocol, writer)
    message, binary, asked = b"", False, False
    protocol.receive_data(head)
    while True:
        for event in protocol.events_received():
            if isinstance(event, Request):
                protocol.send_response(protocol.accept(event))
            elif isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                if event.opcode is not Opcode.CONT:
                    message, binary = b"", event.opcode is Opcode.BINARY
                message += event.data
                if len(message) > PACKET_BYTES:  # in pieces, each of which is short enough
                    protocol.fail(1009, f"send at most {PACKET_BYTES} bytes")
                elif event.fin:
                    _take(board, peer, message, binary)
        peer.flush()
        await writer.drain()
        if protocol.state is not State.OPEN:
            return
        try:
            data = await asyncio.wait_for(reader.read(READ_BYTES), SILENT_SECONDS)
        except TimeoutError:
            if asked:
                return
            asked = True
            protocol.send_ping(b"")
            continue
        asked = False
        if data:
            protocol.receive_data(data)
        else:
            protocol.receive_eof()


def _take(board: Board, peer: WebSocketPeer, message: bytes, binary: bool) -> None:
    """Does what a whole message says."""
    if binary:
        board.receive(message, peer)
    elif board.hears(peer):
        address = ""
        try:
            command, address = _command(message)
            if command == "LISTEN":
                board.listen(peer, address)
            else:
                board.ignore(peer, address)
        except Exception as error:
            board.tell_error(peer, address, error)


def _command(text: bytes) -> tuple[str, str]:
    """What is to be done with which address.

    Raises:
        BadInput: it is no command, or none that is served.
    """
    try:
        told: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput('a frame of text that is no JSON: send {"COMMAND": "LISTEN", "DATA": "/address"}') from error
    command, address = (told.get("COMMAND"), told.get("DATA")) if isinstance(told, dict) else (None, None)
    if command not in ("LISTEN", "IGNORE"):
        raise BadInput(f"the command {quoted(str(command))}: send LISTEN or IGNORE")
    if not isinstance(address, str):
        raise BadInput(f'{command} without an address: send it as "DATA"')
    return command, address


def asks_for_websocket(headers: dict[str, str]) -> bool:
    """Whether a request with these headers does."""
    return headers.get("upgrade", "").lower() == "websocket"


def headers_of(lines: Iterable[str]) -> dict[str, str]:
    """By their names in small letters."""
    split = (line.partition(":") for line in lines)
    return {name.strip().lower(): value.strip() for name, _, value in split}
