"""The RPCs of the contract, each in terms of the engine and the packs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

import psutil

from backline import __version__
from backline.engine.engine import Engine, default_config
from backline.engine.errors import Forbidden
from backline.engine.limits import findable
from backline.nn import threads
from backline.packs.registry import PackEntry
from backline.service import convert
from backline.service.access import current
from backline.service.desk import Desk
from backline.service.grpc_carrier import Context, GrpcCarrier
from backline.service.loads import Loads
from backline.service.status import status_of
from backline_protos.v1 import backline_pb2 as pb
from backline_protos.v1.backline_pb2_grpc import BacklineServicer

T = TypeVar("T")


class Servicer(BacklineServicer):
    """Serves one engine. Whatever waits for a disk or a model runs on a worker thread, never on the event loop.

    Who waits for a load is in nobody's way: what takes long (loads.py), what waits for an engine's call (desk.py), and
    what only reads have threads of their own.
    """

    def __init__(self, engine: Engine, loads: Loads, desk: Desk) -> None:
        self._engine, self._loads, self._desk = engine, loads, desk
        self._process = psutil.Process()

    # ---- sessions ------------------------------------------------------------------------------------

    async def Stream(self, _: Any, context: Context) -> None:
        await self._desk.serve(GrpcCarrier(context, pb.ServerMessage), current.get())

    async def Render(self, _: Any, context: Context) -> None:
        await self._desk.serve(GrpcCarrier(context, pb.RenderResponse), current.get())

    async def ListSessions(self, _: pb.ListSessionsRequest, context: Context) -> pb.ListSessionsResponse:
        return pb.ListSessionsResponse(sessions=self._sessions())

    async def CloseSession(self, request: pb.CloseSessionRequest, context: Context) -> pb.CloseSessionResponse:
        theirs = self._desk.sessions(current.get())
        await _answer(context, asyncio.to_thread(self._engine.close_session, findable(request.id), theirs))
        return pb.CloseSessionResponse()

    async def GetStats(self, _: pb.GetStatsRequest, context: Context) -> pb.Stats:
        stats = self._engine.stats()
        return pb.Stats(
            version=__version__,
            uptime_seconds=stats.uptime_seconds,
            device=stats.device,
            sessions=stats.sessions,
            sessions_total=stats.sessions_total,
            sessions_refused=stats.sessions_refused,
            chunks=stats.chunks,
            late_chunks=stats.late_chunks,
            load=stats.load,
            chunk_seconds_p50=stats.call_seconds_p50,
            chunk_seconds_p99=stats.call_seconds_p99,
            resident_bytes=self._process.memory_info().rss,
            by_session=self._sessions(),
            torch_threads=threads.count(),
            sessions_detached=stats.sessions_detached,
            sessions_resumed=stats.sessions_resumed,
        )

    def _sessions(self) -> list[pb.Session]:
        now = self._engine.clock()
        return [convert.session(session, now) for session in self._desk.sessions(current.get())]

    async def Advise(self, request: pb.AdviseRequest, context: Context) -> pb.Advice:
        async def advised() -> pb.Advice:
            opening = request.open
            current.get().check_pack(opening.pack)
            for field in ("chunk_seconds", "visibility_seconds"):
                opening.ClearField(field)
            resident = await self._loads.load(opening.pack)
            given = await asyncio.to_thread(
                self._engine.advise,
                opening.pack,
                convert.session_config(opening, resident.stream.spec, offline=False),
                block_size=opening.block_size,
                round_trip_seconds=request.round_trip_seconds,
                latency_seconds=request.latency_seconds,
                tempo=request.tempo,
                jitter_buffer_seconds=opening.jitter_buffer_seconds,
            )
            return convert.advice(given)

        return await _answer(context, advised())

    # ---- packs ---------------------------------------------------------------------------------------

    async def ListPacks(self, _: pb.ListPacksRequest, context: Context) -> pb.ListPacksResponse:
        def listed() -> list[pb.Pack]:
            return [self._pack(entry) for entry in self._loads.entries() if guest.may_play(entry.name)]

        guest = current.get()
        return pb.ListPacksResponse(packs=await _answer(context, asyncio.to_thread(listed)))

    async def GetPack(self, request: pb.GetPackRequest, context: Context) -> pb.Pack:
        async def known() -> pb.Pack:
            current.get().check_pack(request.name)
            return await asyncio.to_thread(self._known, findable(request.name))

        return await _answer(context, known())

    async def LoadPack(self, request: pb.LoadPackRequest, context: Context) -> pb.Pack:
        async def loaded() -> pb.Pack:
            current.get().check_pack(request.name)
            await self._loads.load(request.name)
            return await asyncio.to_thread(self._known, request.name)

        return await _answer(context, loaded())

    async def UnloadPack(self, request: pb.UnloadPackRequest, context: Context) -> pb.UnloadPackResponse:
        async def unloaded() -> None:
            if not current.get().is_owner:
                raise Forbidden("only the server's own user unloads packs: others may be playing them")
            await self._loads.unload(findable(request.name), request.close_sessions)

        await _answer(context, unloaded())
        return pb.UnloadPackResponse()

    def _known(self, name: str) -> pb.Pack:
        return self._pack(self._loads.entry(name))

    def _pack(self, entry: PackEntry) -> pb.Pack:
        message = convert.pack(entry)
        resident = self._engine.residents.get(entry.name)
        if resident is not None:
            stream = resident.stream
            message.latency.extend(convert.ledger_items(stream.latency(default_config(stream.spec))))
            message.resident_bytes = stream.resident_bytes()
            message.sessions = len(resident.open_sessions())
        return message


async def _answer(context: Context, answer: Awaitable[T]) -> T:
    """What is awaited; what it raises becomes the call's status."""
    try:
        return await answer
    except Exception as error:
        await context.abort(*status_of(error))
        raise  # abort has raised already
