"""Python client of a Backline server; needs grpcio and numpy, no torch.

    with Client() as client, client.open("default", sample_rate=48000, channels=2) as session:
        session.send(block)              # float32 [channel, sample]
        accompaniment = session.receive()

`Client` for threads, `AsyncClient` for asyncio, `AlignedOutput` to play what comes back in time.
"""

from backline_client.aio import AsyncClient, AsyncRenderCall, AsyncSession
from backline_client.client import Client, Session
from backline_client.errors import (
    AccessDenied,
    BacklineError,
    ConnectionFailed,
    InvalidRequest,
    NotFound,
    NotServed,
    PackDamaged,
    ServerBusy,
    SessionEnded,
    TimedOut,
)
from backline_client.playback import AlignedOutput
from backline_client.rendering import RenderCall
from backline_client.token_file import TokenBook, TokenFileError, TokenHeader, TokenReader, TokenWriter
from backline_client.wire import (
    DEFAULT_ADDRESS,
    Audio,
    Block,
    Change,
    Control,
    Dry,
    Event,
    Frames,
    Link,
    LogLine,
    Marked,
    Notes,
    Rendering,
    SessionOptions,
    Take,
    Text,
    Transport,
)

__all__ = [
    "DEFAULT_ADDRESS",
    "AccessDenied",
    "AlignedOutput",
    "AsyncClient",
    "AsyncRenderCall",
    "AsyncSession",
    "Audio",
    "BacklineError",
    "Block",
    "Change",
    "Client",
    "ConnectionFailed",
    "Control",
    "Dry",
    "Event",
    "Frames",
    "InvalidRequest",
    "Link",
    "LogLine",
    "Marked",
    "NotFound",
    "NotServed",
    "Notes",
    "PackDamaged",
    "RenderCall",
    "Rendering",
    "ServerBusy",
    "Session",
    "SessionEnded",
    "SessionOptions",
    "Take",
    "Text",
    "TimedOut",
    "TokenBook",
    "TokenFileError",
    "TokenHeader",
    "TokenReader",
    "TokenWriter",
    "Transport",
]
