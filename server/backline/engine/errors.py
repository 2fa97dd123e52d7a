"""What can go wrong with a request, one class per gRPC status; messages name the value and the remedy."""


class EngineError(Exception):
    """A request that the engine does not serve; ends that request and nothing else."""


class BadInput(EngineError):
    """The request cannot be served as it stands (INVALID_ARGUMENT)."""


class NotFound(EngineError):
    """Unknown pack, session or parameter (NOT_FOUND)."""


class Refused(EngineError):
    """Serving it would break the others' deadlines (RESOURCE_EXHAUSTED)."""


class Damaged(EngineError):
    """The pack or the model behind it is broken (FAILED_PRECONDITION)."""


class ChunkFailed(EngineError):
    """The model could not play a session's chunk; that session is over, and no other (ABORTED)."""


class Unserved(EngineError):
    """Part of the contract that this server does not serve yet (UNIMPLEMENTED)."""
