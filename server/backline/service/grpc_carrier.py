"""A gRPC call as a carrier: its context reads and writes, and its status says what went wrong."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc

from backline.engine.errors import Idle
from backline.service.carrier import Gone, Response
from backline.service.status import status_of
from backline_protos.v1 import backline_pb2 as pb

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class GrpcCarrier:
    """A `Carrier`."""

    def __init__(self, context: Context, response: Response) -> None:
        self.response = response
        self._context = context

    async def read(self) -> Any | None:
        try:
            request = await self._context.read()
        except grpc.aio.InternalError as error:
            raise Gone from error
        return None if request is grpc.aio.EOF else request

    async def write(self, message: Any) -> None:
        try:
            await self._context.write(message)
        except grpc.aio.InternalError as error:  # what gRPC says of a write to nobody
            raise Gone from error

    async def fail(self, error: Exception) -> None:
        status, message = status_of(error)
        # What gRPC raises to end a call keeps this frame in a circle, which only the collector of garbage takes apart;
        # all frames that the error has come through, and a session's rings with them, would stay as long.
        error.__traceback__ = error.__context__ = error.__cause__ = None
        # Clients that cannot read trailers get it as a message, too, unless they have not even taken the last one.
        if self.response is pb.ServerMessage and not (isinstance(error, Idle) and error.untaken):
            await self.write(pb.ServerMessage(error=pb.Error(status=status.value[0], message=message)))
        await self._context.abort(status, message)
