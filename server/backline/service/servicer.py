"""The RPCs of the contract, each in terms of the engine and the packs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc
import psutil

from backline import __version__
from backline.engine.engine import Engine, default_config
from backline.engine.errors import BadInput, Damaged, Idle, Refused, is_out_of_memory, out_of_memory
from backline.engine.limits import check_name, findable
from backline.engine.session import Session
from backline.models.stream import StreamSpec
from backline.nn import threads
from backline.packs.registry import PackEntry, PackRegistry
from backline.service import convert
from backline.service.call import Context, Outbox, SessionCall, check_first
from backline.service.handling import Handling
from backline_protos.v1 import backline_pb2 as pb
from backline_protos.v1.backline_pb2_grpc import BacklineServicer

T = TypeVar("T")

log = logging.getLogger(__name__)


class Servicer(BacklineServicer):
    """Serves one engine. Whatever waits for a disk or a model runs on a worker thread, never on the event loop.

    Who waits for a load is in nobody's way: what takes long, what waits for an engine's call, and what only reads have
    threads of their own.
    """

    def __init__(self, engine: Engine, registry: PackRegistry, max_sessions: int, idle_seconds: float) -> None:
        self._engine, self._registry, self._max_sessions = engine, registry, max_sessions
        self._idle_seconds = idle_seconds
        self._handling = Handling(engine.observe_handling)
        # One change to what is resident after the other: a warm-up wants the machine for itself.
        self._loads = ThreadPoolExecutor(1, thread_name_prefix="backline-load")
        self._opens = ThreadPoolExecutor(max_sessions, thread_name_prefix="backline-open")
        self._draining = False
        self._taken = self._refused = 0  # places for sessions
        self._process = psutil.Process()

    # ---- sessions ------------------------------------------------------------------------------------

    async def Stream(self, _: Any, context: Context) -> None:
        await _while_there(self._play(context, pb.ServerMessage))

    async def Render(self, _: Any, context: Context) -> None:
        await _while_there(self._play(context, pb.RenderResponse))

    async def _play(self, context: Context, response: type[pb.ServerMessage] | type[pb.RenderResponse]) -> None:
        """A session from its Open to its end, whichever it comes to."""
        try:
            opening = check_first(await self._first(context))
            with self._place():
                await self._serve(context, response, opening)
        except grpc.aio.InternalError:
            raise
        except Exception as error:
            status, message = _status(error)
            # Clients that cannot read trailers get it as a message, too, unless they have not even taken the last one.
            if response is pb.ServerMessage and not (isinstance(error, Idle) and error.untaken):
                await context.write(pb.ServerMessage(error=pb.Error(status=status.value[0], message=message)))
            await context.abort(status, message)

    async def _first(self, context: Context) -> Any:
        """The message that a call begins with."""
        try:
            return await asyncio.wait_for(context.read(), self._idle_seconds)
        except TimeoutError:
            raise Idle(f"no Open came within {self._idle_seconds:g} s: call again when there is a session") from None

    async def _serve(
        self, context: Context, response: type[pb.ServerMessage] | type[pb.RenderResponse], opening: pb.Open
    ) -> None:
        offline = response is pb.RenderResponse or opening.mode == pb.MODE_OFFLINE
        check_name(opening.client_name, "the client's name")
        outbox = Outbox(asyncio.get_running_loop())
        session = await self._open(opening, offline, outbox)
        log.info("session %s opened on %r by %r", session.id, opening.pack, opening.client_name)
        want_frames = opening.want_frames or not session.config.want_audio
        call = SessionCall(context, session, outbox, response, want_frames, self._idle_seconds, self._handling.count)
        await call.serve()

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
        spec = await self.load(opening.pack)

        def opened() -> Session:
            return self._engine.open_session(
                opening.pack,
                convert.session_config(opening, spec, offline),
                opening.client_name,
                outbox.put,
                block_size=opening.block_size,
                jitter_buffer_seconds=opening.jitter_buffer_seconds,
            )

        task = self._opens.submit(opened)
        waited = asyncio.wrap_future(task)
        try:
            return await asyncio.shield(waited)
        except asyncio.CancelledError:  # the client has gone; its session must not stay
            waited.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody else asks for it
            if not task.cancel():
                task.add_done_callback(_abandon)
            raise

    async def ListSessions(self, _: pb.ListSessionsRequest, context: Context) -> pb.ListSessionsResponse:
        return pb.ListSessionsResponse(sessions=self._sessions())

    async def CloseSession(self, request: pb.CloseSessionRequest, context: Context) -> pb.CloseSessionResponse:
        await _answer(context, asyncio.to_thread(self._engine.close_session, findable(request.id)))
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
            torch_threads=threads.count(),
        )

    def _sessions(self) -> list[pb.Session]:
        now = time.monotonic()
        return [convert.session(session, now) for session in self._engine.list_sessions()]

    # ---- packs ---------------------------------------------------------------------------------------

    async def ListPacks(self, _: pb.ListPacksRequest, context: Context) -> pb.ListPacksResponse:
        def listed() -> list[pb.Pack]:
            return [self._pack(entry) for entry in self._registry.entries()]

        return pb.ListPacksResponse(packs=await _answer(context, asyncio.to_thread(listed)))

    async def GetPack(self, request: pb.GetPackRequest, context: Context) -> pb.Pack:
        return await _answer(context, asyncio.to_thread(self._known, findable(request.name)))

    async def LoadPack(self, request: pb.LoadPackRequest, context: Context) -> pb.Pack:
        async def loaded() -> pb.Pack:
            await self.load(request.name)
            return await asyncio.to_thread(self._known, request.name)

        return await _answer(context, loaded())

    async def UnloadPack(self, request: pb.UnloadPackRequest, context: Context) -> pb.UnloadPackResponse:
        await _answer(context, self.unload(request.name, request.close_sessions))
        return pb.UnloadPackResponse()

    def look_through(self) -> None:
        """Reads every pack once, so that no client waits for that: families are imported, which takes seconds."""
        for entry in self._registry.entries():
            if entry.problem:
                log.warning("pack %r is damaged: %s", entry.name, entry.problem)

    async def load(self, name: str) -> StreamSpec:
        """Makes a pack resident where it is not, and returns what it serves.

        Raises:
            PackNotFound, PackError, Damaged: it cannot be loaded.
            Refused: there is no memory for it, or the server is about to stop.
        """
        if (stream := self._engine.streams().get(name)) is not None:
            return stream.spec
        self._check_serving()
        return await asyncio.wrap_future(self._loads.submit(self._load, findable(name)))  # a cancel takes it back

    async def unload(self, name: str, close_sessions: bool = False) -> None:
        """Lets go of a resident pack.

        Raises:
            PackNotFound, NotFound: there is no such pack, or it is not resident.
            Damaged: sessions are open on it, and `close_sessions` is false.
        """
        await asyncio.wrap_future(self._loads.submit(self._unload, findable(name), close_sessions))

    def drain(self) -> None:
        """From now on nothing is loaded any more; those who wait for a load are told so."""
        self._draining = True

    def close(self) -> None:
        """Lets the threads go, as soon as those who wait for them have been told."""
        for executor in (self._loads, self._opens):
            executor.shutdown(wait=False)

    def _load(self, name: str) -> StreamSpec:
        """`load`, on its thread."""
        if (stream := self._engine.streams().get(name)) is not None:
            return stream.spec
        self._check_serving()
        try:
            stream = self._registry.load(name)
        except Exception as error:
            if is_out_of_memory(error):
                raise out_of_memory(name, error) from error
            raise
        try:
            self._check_serving()
            self._engine.add_stream(name, stream)
        except Exception as error:
            self._registry.unload(name)
            if isinstance(error, Refused):
                raise
            if is_out_of_memory(error):
                raise out_of_memory(name, error) from error
            log.exception("%s failed in its warm-up", name)
            raise Damaged(f"pack {name!r} failed in its warm-up ({error}): install it again") from error
        log.info("pack %r is resident", name)
        return stream.spec

    def _check_serving(self) -> None:
        if self._draining:
            raise Refused("the server is shutting down: connect to another one or try again later")

    def _unload(self, name: str, close_sessions: bool) -> None:
        """Lets go of a pack, on the thread of the loads."""
        self._registry.entry(name)  # says which packs there are, if this is none
        try:
            self._engine.remove_stream(name, close_sessions)
        except BadInput as error:
            raise Damaged(str(error)) from error  # in use: a state of things, not a fault of the request
        self._registry.unload(name)
        log.info("pack %r has been unloaded", name)

    def _known(self, name: str) -> pb.Pack:
        return self._pack(self._registry.entry(name))

    def _pack(self, entry: PackEntry) -> pb.Pack:
        message = convert.pack(entry)
        stream = self._engine.streams().get(entry.name)
        if stream is not None:
            message.latency.extend(convert.ledger_items(stream.latency(default_config(stream.spec))))
            message.resident_bytes = stream.resident_bytes()
            message.sessions = self._engine.session_count(entry.name)
        return message


async def _while_there(call: Awaitable[None]) -> None:
    """A call, which a client that goes in the midst of a message ends as one that goes between two: it is cancelled."""
    try:
        await call
    except grpc.aio.InternalError:  # what gRPC says of a write to nobody
        raise asyncio.CancelledError from None


async def _answer(context: Context, answer: Awaitable[T]) -> T:
    """What is awaited; what it raises becomes the call's status."""
    try:
        return await answer
    except Exception as error:
        await context.abort(*_status(error))
        raise  # abort has raised already


def _status(error: Exception) -> tuple[grpc.StatusCode, str]:
    status, message = convert.status_of(error)
    if status is grpc.StatusCode.INTERNAL:
        log.error("a call failed", exc_info=error)
    return status, message


def _abandon(task: Future[Session]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().abort()
