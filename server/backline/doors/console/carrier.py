"""A WebSocket as a carrier: each binary frame is one message of the contract, and its last one says what went wrong."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from backline.engine.errors import BadInput, Idle
from backline.service.carrier import Gone, Response
from backline.service.decoding import decoded
from backline.service.status import status_of
from backline_protos.v1 import backline_pb2 as pb

FAILED = 4_000  # plus the gRPC status: what the socket closes with; 4000 to 4999 are an application's own
REASON_BYTES = 123  # of a close frame
FAREWELL_SECONDS = 5.0  # that a client gets to take its last message


class WebSocketCarrier:
    """A `Carrier`. The client says that it is done by `Close`: a WebSocket has no half that could be closed."""

    response: Response = pb.ServerMessage

    def __init__(self, websocket: WebSocket) -> None:
        """`websocket` has been accepted."""
        self._websocket = websocket

    async def read(self) -> Any | None:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise Gone
        data = message.get("bytes")
        if data is None:
            raise BadInput("a frame of text: send each ClientMessage as one binary frame")
        return decoded(data, pb.ClientMessage.FromString)

    async def write(self, message: Any) -> None:
        try:
            await self._websocket.send_bytes(message.SerializeToString())
        except (WebSocketDisconnect, RuntimeError) as error:  # what Starlette says of a socket that has closed
            raise Gone from error

    async def fail(self, error: Exception) -> None:
        status, text = status_of(error)
        error.__traceback__ = error.__context__ = error.__cause__ = None  # see grpc_carrier.py
        if isinstance(error, Idle) and error.untaken:
            raise Gone  # it has not even taken the last message
        number = status.value[0]
        try:
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self.write(pb.ServerMessage(error=pb.Error(status=number, message=text)))
                await self._close(FAILED + number, text)
        except TimeoutError:
            raise Gone from None

    async def end(self) -> None:
        """Closes the socket after a call that has ended in order; one that has failed has closed it already."""
        if self._websocket.application_state is WebSocketState.CONNECTED:
            with suppress(Gone):
                await self._close(1_000, "")

    async def _close(self, code: int, reason: str) -> None:
        try:
            await self._websocket.close(code, reason.encode()[:REASON_BYTES].decode("utf-8", "ignore"))
        except (WebSocketDisconnect, RuntimeError) as error:
            raise Gone from error
