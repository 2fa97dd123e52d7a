"""What can go wrong with a request, one class per gRPC status; messages name the value and the remedy."""


class EngineError(Exception):
    """A request that the engine does not serve; ends that request and nothing else."""


class BadInput(EngineError):
    """The request cannot be served as it stands (INVALID_ARGUMENT)."""


class NotFound(EngineError):
    """Unknown pack, session or parameter (NOT_FOUND)."""


class Refused(EngineError):
    """Serving it would break the others' deadlines, or take memory that is not there (RESOURCE_EXHAUSTED)."""


class TooLarge(Refused):
    """It takes more memory than any session may hold, whoever else is there (RESOURCE_EXHAUSTED)."""


class Unauthenticated(EngineError):
    """The client has no access key, or none that opens this server (UNAUTHENTICATED)."""


class Forbidden(EngineError):
    """The client's access key is not for this (PERMISSION_DENIED)."""


class Damaged(EngineError):
    """The pack or the model behind it is broken (FAILED_PRECONDITION)."""


class ChunkFailed(EngineError):
    """The model could not play a session's chunk; that session is over, and no other (ABORTED)."""


class TakenOver(EngineError):
    """Another call has taken the session up (ABORTED)."""


class Unserved(EngineError):
    """Part of the contract that this server does not serve yet (UNIMPLEMENTED)."""


class Idle(EngineError):
    """The client neither sends nor takes what is due to it (DEADLINE_EXCEEDED). `untaken`: its newest message."""

    def __init__(self, message: str, *, untaken: bool = False) -> None:
        super().__init__(message)
        self.untaken = untaken


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory, of the machine or of its GPU, is used up. Imports no torch to know."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("out of memory" in text or "STATUS_ALLOC_FAILED" in text)


def out_of_memory(name: str, error: BaseException) -> Refused:
    """What a client of model `name` is told where `is_out_of_memory(error)`."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return Refused(
        f"there is not enough memory for {name!r} ({lines[0][:200]}): close sessions or unload packs, choose a smaller "
        "pack, or serve it on a device with more"
    )
