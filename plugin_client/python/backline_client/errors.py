"""What can go wrong between a client and a server: one exception per gRPC status that a caller can act on."""

from __future__ import annotations

import grpc

from backline_client.endpoint import Endpoint


class BacklineError(Exception):
    """A call failed. `status` is the gRPC status, `message` what the server said, with what to do."""

    def __init__(self, message: str, status: grpc.StatusCode = grpc.StatusCode.UNKNOWN) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class ConnectionFailed(BacklineError):
    """No server answers at the address, or it went away (UNAVAILABLE)."""


class InvalidRequest(BacklineError):
    """The request cannot be served as it stands (INVALID_ARGUMENT)."""


class NotFound(BacklineError):
    """Unknown pack, session or parameter (NOT_FOUND)."""


class ServerBusy(BacklineError):
    """It would break others' deadlines, or take more than there is or than the key may (RESOURCE_EXHAUSTED)."""


class PackDamaged(BacklineError):
    """The pack is damaged, its weights are missing, or it is in use (FAILED_PRECONDITION)."""


class NotServed(BacklineError):
    """Part of the contract that this server does not serve yet (UNIMPLEMENTED)."""


class AccessDenied(BacklineError):
    """The server wants an access key, does not take this one, or does not let it do that (UNAUTHENTICATED,
    PERMISSION_DENIED).
    """


class TimedOut(BacklineError):
    """The session neither sent nor read for too long, or the server took too long for a call (DEADLINE_EXCEEDED)."""


class SessionEnded(BacklineError):
    """The session is closed: it takes no more input (CANCELLED)."""


_BY_STATUS: dict[grpc.StatusCode, type[BacklineError]] = {
    grpc.StatusCode.UNAVAILABLE: ConnectionFailed,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ServerBusy,
    grpc.StatusCode.FAILED_PRECONDITION: PackDamaged,
    grpc.StatusCode.UNIMPLEMENTED: NotServed,
    grpc.StatusCode.UNAUTHENTICATED: AccessDenied,
    grpc.StatusCode.PERMISSION_DENIED: AccessDenied,
    grpc.StatusCode.DEADLINE_EXCEEDED: TimedOut,
    grpc.StatusCode.CANCELLED: SessionEnded,
}


def from_rpc(error: grpc.RpcError, endpoint: Endpoint, established: bool = False) -> BacklineError:
    """`error` of a call to `endpoint` as the exception that a caller handles; `established`: the call had answered."""
    status, details = error.code(), error.details() or ""
    if status is grpc.StatusCode.UNAVAILABLE:
        if established:
            text = (
                f"the server at {endpoint} went away: start `backline serve` again and reopen the session ({details})"
            )
        else:
            text = endpoint.why_unreachable(details)
        return ConnectionFailed(text, status)
    return _BY_STATUS.get(status, BacklineError)(details or status.name, status)
