"""The client for asyncio: the calls of `Client`, awaited.

It stands on the threaded client, because a grpc.aio call whose write fails loses the server's own status and message.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import Unpack

from numpy.typing import ArrayLike

from backline_client.client import Client, collected
from backline_client.endpoint import Endpoint
from backline_client.rendering import RenderCall
from backline_client.session import RECONNECT_SECONDS, SessionCall
from backline_client.wire import (
    DEFAULT_ADDRESS,
    RENDER_BLOCK,
    Block,
    Change,
    Control,
    Event,
    Frames,
    Rendering,
    SessionOptions,
    Transport,
    as_audio,
    open_message,
)
from backline_protos.v1 import backline_pb2 as pb
from backline_protos.v1.backline_pb2_grpc import BacklineStub


class AsyncClient:
    """A connection to the server at `address` ("host:port" or "unix:/path"). Any task may use it."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        key: str | None = None,
        ca: str | os.PathLike[str] | None = None,
        certificate: str | os.PathLike[str] | None = None,
        timeout: float = 60.0,
    ) -> None:
        """As `Client`."""
        self._client = Client(address, key=key, ca=ca, certificate=certificate, timeout=timeout)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def address(self) -> str:
        return self._client.address

    async def close(self) -> None:
        """Ends the connection and every session on it."""
        await asyncio.to_thread(self._client.close)

    async def open(
        self,
        pack: str,
        sample_rate: int,
        channels: int,
        *,
        block_size: int = RENDER_BLOCK,
        offline: bool = False,
        reconnect_seconds: float = RECONNECT_SECONDS,
        **options: Unpack[SessionOptions],
    ) -> AsyncSession:
        """Opens a session, as `Client.open`: `async with await client.open(...) as session`."""
        opening = open_message(pack, sample_rate, channels, block_size, offline, options)
        opening.lease_seconds = 0.0 if offline else reconnect_seconds
        loop, client = asyncio.get_running_loop(), self._client

        def opened() -> AsyncSession:
            return AsyncSession(lambda: client._stub, client._endpoint, opening, client.timeout, loop)

        session = await asyncio.to_thread(opened)
        client._sessions.add(session)
        return session

    async def render(
        self,
        pack: str,
        audio: ArrayLike,
        sample_rate: int,
        *,
        transport: Iterable[Transport] = (),
        controls: Iterable[Control] = (),
        changes: Iterable[Change] = (),
        progress: Callable[[float], None] | None = None,
        **options: Unpack[SessionOptions],
    ) -> Rendering:
        """The output of every port for `audio` [channel, sample], as `Client.render`; cancelling the task ends it."""
        loop = asyncio.get_running_loop()

        def report(share: float) -> None:
            if progress is not None:
                loop.call_soon_threadsafe(progress, share)

        samples, told = as_audio(audio), [*transport, *controls, *changes]
        call = self._client._begin_render(pack, [samples], sample_rate, len(samples), told, options)
        try:
            return await asyncio.to_thread(collected, call, samples.shape[1], report)
        except asyncio.CancelledError:
            call.cancel()
            raise

    async def render_blocks(
        self,
        pack: str,
        blocks: Iterable[ArrayLike | Frames],
        sample_rate: int,
        channels: int,
        *,
        transport: Iterable[Transport] = (),
        controls: Iterable[Control] = (),
        changes: Iterable[Change] = (),
        **options: Unpack[SessionOptions],
    ) -> AsyncRenderCall:
        """As `Client.render_blocks`: `async with await client.render_blocks(...) as rendering`, then `async for`."""
        told = [*transport, *controls, *changes]
        call = self._client._begin_render(pack, blocks, sample_rate, channels, told, options)
        try:
            await asyncio.to_thread(lambda: call.ready)
        except asyncio.CancelledError:
            call.cancel()
            raise
        return AsyncRenderCall(call)

    async def packs(self) -> list[pb.Pack]:
        """Every pack that the server knows, damaged ones included."""
        return await asyncio.to_thread(self._client.packs)

    async def pack(self, name: str) -> pb.Pack:
        """One pack, with its ports, parameters and latency."""
        return await asyncio.to_thread(self._client.pack, name)

    async def load_pack(self, name: str) -> pb.Pack:
        """Makes the pack resident, so that its sessions open at once."""
        return await asyncio.to_thread(self._client.load_pack, name)

    async def unload_pack(self, name: str, *, close_sessions: bool = False) -> None:
        """Frees the pack's memory; refused while it has sessions unless `close_sessions`."""
        await asyncio.to_thread(self._client.unload_pack, name, close_sessions=close_sessions)

    async def sessions(self) -> list[pb.Session]:
        """The sessions that are open on the server, of every client."""
        return await asyncio.to_thread(self._client.sessions)

    async def close_session(self, session: str) -> None:
        """Ends any session by its id."""
        await asyncio.to_thread(self._client.close_session, session)

    async def stats(self) -> pb.Stats:
        """Load, timing and memory of the server."""
        return await asyncio.to_thread(self._client.stats)


class AsyncRenderCall:
    """A rendering in progress, made by `AsyncClient.render_blocks`: as `RenderCall`, with the iteration awaited."""

    def __init__(self, call: RenderCall) -> None:
        self._call = call

    async def __aenter__(self) -> AsyncRenderCall:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._call.cancel()

    @property
    def ready(self) -> pb.Ready:
        """What the server granted."""
        return self._call.ready

    @property
    def warnings(self) -> dict[str, pb.Warning]:
        """The newest warning of each code."""
        return self._call.warnings

    @property
    def totals(self) -> pb.Closed:
        """The server's sums, once all output has come."""
        return self._call.totals

    async def __aiter__(self) -> AsyncIterator[Block]:
        """Blocks of output; cancelling the task ends the call."""
        blocks = iter(self._call)
        try:
            while (block := await asyncio.to_thread(next, blocks, None)) is not None:
                yield block
        except asyncio.CancelledError:
            self._call.cancel()
            raise


class AsyncSession(SessionCall):
    """One open stream, made by `AsyncClient.open`: as `Session`, with `receive` and `close` awaited.

    `send`, `transport`, `control` and `end_input` never wait and are plain functions.
    """

    def __init__(
        self,
        stub: Callable[[], BacklineStub],
        endpoint: Endpoint,
        opening: pb.Open,
        timeout: float,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()  # None: the call has ended

        def deliver(event: Event | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has closed: nobody waits
                loop.call_soon_threadsafe(self._events.put_nowait, event)

        super().__init__(stub, endpoint, opening, timeout, deliver)

    async def __aenter__(self) -> AsyncSession:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if kind is not None:
            self.cancel()
        elif not self._cancelled:
            await self.close()

    async def receive(self) -> Block | None:
        """The next block of output; None when the session has ended. Raises BacklineError when it has failed."""
        while True:
            event = await self.receive_event()
            if event is None or isinstance(event, Block):
                return event

    async def receive_event(self) -> Event | None:
        """As `receive`, but also frames, ledgers, warnings and the closing totals."""
        event = await self._events.get()
        if event is None:
            self._events.put_nowait(None)  # for the next call
            if self._error is not None:
                raise self._error
        return event

    async def __aiter__(self) -> AsyncIterator[Block]:
        """Blocks of output until the session ends."""
        while (block := await self.receive()) is not None:
            yield block

    async def close(self, timeout: float = 60.0) -> pb.Closed:
        """Ends the input and waits until the server has sent all that is due, which can still be received.

        Raises:
            TimeoutError: the server was not done within `timeout` seconds.
            BacklineError: the session has failed.
        """
        return await asyncio.to_thread(self._close, timeout)
