"""Errors as gRPC statuses: which one each class is, and its message as far as a header holds it."""

from __future__ import annotations

import logging

import grpc

from backline.engine import errors
from backline.engine.limits import STATUS_BYTES
from backline.models.errors import PackError
from backline.packs.registry import PackNotFound

log = logging.getLogger(__name__)

STATUS: dict[type[Exception], grpc.StatusCode] = {
    errors.BadInput: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.Refused: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.TooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.Forbidden: grpc.StatusCode.PERMISSION_DENIED,
    errors.Damaged: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ChunkFailed: grpc.StatusCode.ABORTED,
    errors.TakenOver: grpc.StatusCode.ABORTED,
    errors.Unserved: grpc.StatusCode.UNIMPLEMENTED,
    errors.Idle: grpc.StatusCode.DEADLINE_EXCEEDED,
    PackNotFound: grpc.StatusCode.NOT_FOUND,
    PackError: grpc.StatusCode.FAILED_PRECONDITION,
}


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """The status and message that a call ends with because of `error`; what nobody foresaw is logged."""
    if type(error) in STATUS:
        return STATUS[type(error)], as_header(str(error))
    if errors.is_out_of_memory(error):
        return grpc.StatusCode.RESOURCE_EXHAUSTED, as_header(str(errors.out_of_memory("this", error)))
    log.error("a call failed", exc_info=error)
    text = f"{type(error).__name__}: {error}"
    return grpc.StatusCode.INTERNAL, as_header(f"the server failed ({text}): see its log, and open a new session")


def as_header(message: str) -> str:
    """`message` as far as a gRPC status holds it: an HTTP/2 header, in which all but printable ASCII is escaped."""
    message = message.encode("utf-8", "replace").decode()  # names of files may hold what is no text
    size = 0
    for index, character in enumerate(message):
        size += 1 if " " <= character <= "~" and character != "%" else 3 * len(character.encode())
        if size > STATUS_BYTES:
            return message[:index] + "…"
    return message
