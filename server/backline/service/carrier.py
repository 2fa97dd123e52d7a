"""What carries a session's messages to and fro: a gRPC call (grpc_carrier.py), or whatever else has two ends."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

from backline_protos.v1 import backline_pb2 as pb

Response: TypeAlias = "type[pb.ServerMessage] | type[pb.RenderResponse]"


class Gone(Exception):
    """The client is not there any more."""


class Carrier(Protocol):
    """One client's call. All of it runs on the event loop; one task reads, one writes."""

    response: Response  # what goes out; a render's has no field for some of what a stream tells

    async def read(self) -> Any | None:
        """The next `ClientMessage` or `RenderRequest`; None where the client will send no more.

        Raises:
            Gone: nobody sends.
            BadInput: what came is no message.
        """
        ...

    async def write(self, message: Any) -> None:
        """Sends a message of `response`, as soon as the client has room for it.

        Raises:
            Gone: nobody takes it.
        """
        ...

    async def fail(self, error: Exception) -> None:
        """Ends the call because of `error`, of which the client is told; the last that is asked of a carrier.

        Raises:
            Gone: nobody is told.
        """
        ...
