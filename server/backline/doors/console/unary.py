"""The contract's single calls over HTTP, by Connect's unary protocol: POST /backline.v1.Backline/GetPack {"name": ...}.

Bodies are the contract's messages, in JSON or in protobuf; https://connectrpc.com/docs/protocol describes the protocol.
"""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn

import grpc
from google.protobuf import json_format, message_factory
from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from backline.engine.errors import BadInput
from backline.engine.limits import OTHER_BYTES
from backline.service.access import OWNER, current
from backline.service.decoding import decoded
from backline.service.servicer import Servicer
from backline.service.status import status_of
from backline_protos.v1 import backline_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["Backline"]
METHODS = {method.name: method for method in SERVICE.methods if not method.client_streaming}
JSON, PROTO = "application/json", "application/proto"
HTTP_STATUS = {  # by Connect's table
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


class Aborted(Exception):
    """A call ends with this status."""

    def __init__(self, status: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


class Context:
    """What the servicer's single calls use of a gRPC call."""

    async def abort(self, status: grpc.StatusCode, text: str) -> NoReturn:
        """Ends the call."""
        raise Aborted(status, text)


async def call(servicer: Servicer, request: Request) -> Response:
    """Answers POST /backline.v1.Backline/{method}."""
    try:
        name = request.path_params["method"]
        if name not in METHODS:
            raise Aborted(grpc.StatusCode.UNIMPLEMENTED, f"no call of that name: use {', '.join(METHODS)}")
        current.set(OWNER)  # whoever reaches the page is the user, or trusted as one
        message = await read(request, message_factory.GetMessageClass(METHODS[name].input_type))
        answer = await getattr(servicer, name)(message, Context())
        if content_type(request) == PROTO:
            return Response(answer.SerializeToString(), media_type=PROTO)
        return Response(await asyncio.to_thread(as_json, answer), media_type=JSON)
    except Exception as error:
        return refusal(error)


async def read(request: Request, message: type[Message]) -> Any:
    """The message in a request's body.

    Raises:
        BadInput: it is none, or larger than it may be.
    """
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > OTHER_BYTES:
            raise BadInput(f"a request of more than {OTHER_BYTES} bytes: send less")
    kind = content_type(request)
    if kind == PROTO:
        return decoded(body, message.FromString)
    if kind != JSON:  # a form of another site's page is none of both
        raise BadInput(f"content of type {kind or 'none'}: send {JSON} or {PROTO}")
    try:
        return json_format.Parse(body, message(), max_recursion_depth=8)
    except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"no {message.DESCRIPTOR.name} in JSON: {error}") from error


def as_json(message: Message) -> str:
    """A message in protobuf's JSON, with the contract's names, and with the fields that are zero."""
    return json_format.MessageToJson(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, indent=None
    )


def content_type(request: Request) -> str:
    """Without what follows it."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def refusal(error: Exception) -> Response:
    """What a call is told that has failed."""
    status, text = (error.status, error.text) if isinstance(error, Aborted) else status_of(error)
    return JSONResponse({"code": status.name.lower(), "message": text}, HTTP_STATUS.get(status, 500))
