"""The RPCs of the contract, each in terms of the engine and the packs."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc
import psutil

from backline import __version__
from backline.engine.engine import Engine, default_config
from backline.engine.errors import BadInput, Damaged, Refused
from backline.engine.session import Session
from backline.models.stream import StreamSpec
from backline.packs.registry import PackEntry, PackRegistry
from backline.service import convert
from backline.service.call import Context, Outbox, SessionCall, check_first
from backline_protos.v1 import backline_pb2 as pb
from backline_protos.v1.backline_pb2_grpc import BacklineServicer

T = TypeVar("T")

log = logging.getLogger(__name__)


class Servicer(BacklineServicer):
    """Serves one engine. Whatever waits for a disk or a model runs on a worker thread, never on the event loop."""

    def __init__(self, engine: Engine, registry: PackRegistry, max_sessions: int) -> None:
        self._engine, self._registry, self._max_sessions = engine, registry, max_sessions
        self._loading = threading.Lock()  # of changes to what is resident; a warm-up wants the machine for itself
        self._taken = self._refused = 0  # places for sessions
        self._process = psutil.Process()

    # ---- sessions ------------------------------------------------------------------------------------

    async def Stream(self, _: Any, context: Context) -> None:
        await self._play(context, pb.ServerMessage)

    async def Render(self, _: Any, context: Context) -> None:
        await self._play(context, pb.RenderResponse)

    async def _play(self, context: Context, response: type[pb.ServerMessage] | type[pb.RenderResponse]) -> None:
        """A session from its Open to its end, whichever it comes to."""
        try:
            opening = check_first(await context.read())
            with self._place():
                await self._serve(context, response, opening)
        except Exception as error:
            status, message = _status(error)
            if response is pb.ServerMessage:
                await context.write(pb.ServerMessage(error=pb.Error(status=status.value[0], message=message)))
            await context.abort(status, message)

    async def _serve(
        self, context: Context, response: type[pb.ServerMessage] | type[pb.RenderResponse], opening: pb.Open
    ) -> None:
        offline = response is pb.RenderResponse or opening.mode == pb.MODE_OFFLINE
        outbox = Outbox(asyncio.get_running_loop())
        session = await self._open(opening, offline, outbox)
        log.info("session %s opened on %r by %r", session.id, opening.pack, opening.client_name)
        await SessionCall(context, session, outbox, response, opening.want_frames).serve()

    @contextmanager
    def _place(self) -> Iterator[None]:
        """One of the places for sessions. The event loop."""
        if self._taken >= self._max_sessions:
            self._refused += 1
            raise Refused(f"all {self._max_sessions} sessions are taken: close one, or start the server with more")
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    async def _open(self, opening: pb.Open, offline: bool, outbox: Outbox) -> Session:
        def opened() -> Session:
            config = convert.session_config(opening, self.load(opening.pack), offline)
            return self._engine.open_session(
                opening.pack,
                config,
                opening.client_name,
                outbox.put,
                block_size=opening.block_size,
                jitter_buffer_seconds=opening.jitter_buffer_seconds,
            )

        task = asyncio.ensure_future(asyncio.to_thread(opened))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:  # the client has gone; its session must not stay
            task.add_done_callback(_abandon)
            raise

    async def ListSessions(self, _: pb.ListSessionsRequest, context: Context) -> pb.ListSessionsResponse:
        return pb.ListSessionsResponse(sessions=self._sessions())

    async def CloseSession(self, request: pb.CloseSessionRequest, context: Context) -> pb.CloseSessionResponse:
        await _answer(context, self._engine.close_session, request.id)
        return pb.CloseSessionResponse()

    async def GetStats(self, _: pb.GetStatsRequest, context: Context) -> pb.Stats:
        stats = self._engine.stats()
        return pb.Stats(
            version=__version__,
            uptime_seconds=stats.uptime_seconds,
            device=stats.device,
            sessions=stats.sessions,
            sessions_total=stats.sessions_total,
            sessions_refused=stats.sessions_refused + self._refused,
            chunks=stats.chunks,
            late_chunks=stats.late_chunks,
            load=stats.load,
            chunk_seconds_p50=stats.call_seconds_p50,
            chunk_seconds_p99=stats.call_seconds_p99,
            resident_bytes=self._process.memory_info().rss,
            by_session=self._sessions(),
        )

    def _sessions(self) -> list[pb.Session]:
        now = time.monotonic()
        return [convert.session(session, now) for session in self._engine.list_sessions()]

    # ---- packs ---------------------------------------------------------------------------------------

    async def ListPacks(self, _: pb.ListPacksRequest, context: Context) -> pb.ListPacksResponse:
        def listed() -> list[pb.Pack]:
            return [self._pack(entry) for entry in self._registry.entries()]

        return pb.ListPacksResponse(packs=await _answer(context, listed))

    async def GetPack(self, request: pb.GetPackRequest, context: Context) -> pb.Pack:
        return await _answer(context, lambda: self._pack(self._registry.entry(request.name)))

    async def LoadPack(self, request: pb.LoadPackRequest, context: Context) -> pb.Pack:
        def loaded() -> pb.Pack:
            self.load(request.name)
            return self._pack(self._registry.entry(request.name))

        return await _answer(context, loaded)

    async def UnloadPack(self, request: pb.UnloadPackRequest, context: Context) -> pb.UnloadPackResponse:
        await _answer(context, self._unload, request.name, request.close_sessions)
        return pb.UnloadPackResponse()

    def look_through(self) -> None:
        """Reads every pack once, so that no client waits for that: families are imported, which takes seconds."""
        for entry in self._registry.entries():
            if entry.problem:
                log.warning("pack %r is damaged: %s", entry.name, entry.problem)

    def load(self, name: str) -> StreamSpec:
        """Makes a pack resident where it is not, and returns what it serves. Slow: for a worker thread."""
        if (stream := self._engine.streams().get(name)) is not None:
            return stream.spec
        with self._loading:
            if (stream := self._engine.streams().get(name)) is not None:
                return stream.spec
            stream = self._registry.load(name)
            try:
                self._engine.add_stream(name, stream)
            except Exception as error:
                self._registry.unload(name)
                log.exception("%s failed in its warm-up", name)
                raise Damaged(f"pack {name!r} failed in its warm-up ({error}): install it again") from error
            log.info("pack %r is resident", name)
            return stream.spec

    def _unload(self, name: str, close_sessions: bool) -> None:
        with self._loading:
            self._registry.entry(name)  # says which packs there are, if this is none
            try:
                self._engine.remove_stream(name, close_sessions)
            except BadInput as error:
                raise Damaged(str(error)) from error  # in use: a state of things, not a fault of the request
            self._registry.unload(name)
            log.info("pack %r has been unloaded", name)

    def _pack(self, entry: PackEntry) -> pb.Pack:
        message = convert.pack(entry)
        stream = self._engine.streams().get(entry.name)
        if stream is not None:
            message.latency.extend(convert.ledger_items(stream.latency(default_config(stream.spec))))
            message.resident_bytes = stream.resident_bytes()
            message.sessions = self._engine.session_count(entry.name)
        return message


async def _answer(context: Context, function: Callable[..., T], *arguments: Any) -> T:
    """`function(*arguments)` on a worker thread; what it raises becomes the call's status."""
    try:
        return await asyncio.to_thread(function, *arguments)
    except Exception as error:
        await context.abort(*_status(error))
        raise  # abort has raised already


def _status(error: Exception) -> tuple[grpc.StatusCode, str]:
    status, message = convert.status_of(error)
    if status is grpc.StatusCode.INTERNAL:
        log.error("a call failed", exc_info=error)
    return status, message


def _abandon(task: asyncio.Future[Session]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().abort()
