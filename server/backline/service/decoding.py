"""Bytes that came over the wire become messages here, or BadInput: too many of them, or none that the contract knows.

gRPC hands the bytes of a message to its deserializer; what that raises would end the call as a fault of the server.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from backline.engine.errors import BadInput
from backline.engine.limits import OTHER_BYTES
from backline.service.status import status_of
from backline_protos.v1 import backline_pb2 as pb

Parse = Callable[[bytes], Any]
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]]

# The first byte of a message that begins with audio, which alone may be large: its field's number and wire type 2.
AUDIO_TAGS = {
    request: request.DESCRIPTOR.fields_by_name["audio"].number << 3 | 2
    for request in (pb.ClientMessage, pb.RenderRequest)
}


class Decoding(grpc.aio.ServerInterceptor):
    """Has every call read its messages so, those of the services beside ours as well: health and reflection."""

    async def intercept_service(
        self, continuation: Continuation, details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(details)
        if handler is None:
            return handler
        parse = handler.request_deserializer
        if handler.request_streaming:
            handler = handler._replace(request_deserializer=lambda data: decoded(data, parse))
            if details.method.startswith(f"/{pb.DESCRIPTOR.package}."):  # they see to it by themselves
                return handler
            return handler._replace(stream_stream=_refusing_midway(handler.stream_stream))
        kind = "unary_stream" if handler.response_streaming else "unary_unary"
        return handler._replace(
            request_deserializer=lambda data: _or_problem(data, parse), **{kind: _refusing(getattr(handler, kind))}
        )


def decoded(data: bytes, parse: Parse) -> Any:
    """The message of `data`, by the deserializer that the stubs give it.

    Raises:
        BadInput: it is none, or larger than its kind may be.
    """
    request = getattr(parse, "__self__", None)  # the class whose FromString it is
    if len(data) > OTHER_BYTES and data[0] != AUDIO_TAGS.get(request):
        raise BadInput(f"a message of {len(data)} bytes: only one that carries audio may exceed {OTHER_BYTES}")
    try:
        return parse(data)
    except DecodeError as error:
        raise BadInput(
            f"{len(data)} bytes that are no message of the contract: send messages of this service by its proto"
        ) from error


def _or_problem(data: bytes, parse: Parse) -> Any:
    try:
        return decoded(data, parse)
    except BadInput as error:
        return error


def _refusing(answer: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """`answer`, once the request is one."""

    async def checked(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        if isinstance(request, BadInput):
            await context.abort(*status_of(request))
        return await answer(request, context)

    return checked


def _refusing_midway(answer: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
    """`answer` to a stream of requests, until one of them is none."""

    async def checked(requests: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        try:
            async for response in answer(requests, context):
                yield response
        except BadInput as error:
            await context.abort(*status_of(error))

    return checked
