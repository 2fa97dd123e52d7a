"""Where sessions are asked for: who gets one of the seats, and what becomes of a call from its Open to its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from backline.engine.engine import Engine
from backline.engine.errors import Forbidden, Idle, Refused, Unauthenticated
from backline.engine.limits import check_name
from backline.engine.session import Session
from backline.service import convert
from backline.service.access import OWNER, Guest
from backline.service.call import LogLine, Outbox, SessionCall, check_first
from backline.service.carrier import Carrier, Gone
from backline.service.loads import Loads
from backline.service.session_log import LineSink, LogFolder, SessionLog, Sink
from backline_protos.v1 import backline_pb2 as pb

log = logging.getLogger(__name__)


class Desk:
    """Serves calls, whatever carries them. The event loop."""

    def __init__(
        self,
        engine: Engine,
        loads: Loads,
        max_sessions: int,
        idle_seconds: float,
        count: Callable[[], None],
        logs: LogFolder | None = None,
    ) -> None:
        """
        Args:
            max_sessions: open at the same time.
            idle_seconds: after which a client that neither sends nor takes its output is ended.
            count: called for every message of either direction.
            logs: where the event log of every session is kept.
        """
        self._logs = logs
        self._engine, self._loads, self._max_sessions = engine, loads, max_sessions
        self._idle_seconds, self._count = idle_seconds, count
        self._taken = 0
        self._guests: dict[Session, Guest] = {}  # whose each session is
        self._threads = ThreadPoolExecutor(max_sessions, thread_name_prefix="backline-open")

    async def serve(self, carrier: Carrier, guest: Guest = OWNER) -> None:
        """A session from its Open to its end, whichever it comes to. A client that goes in the midst of a message ends
        its call as one that goes between two: it is cancelled.
        """
        failure: Exception | None = None  # told outside of what handles it: what a carrier raises then has no context
        try:
            try:
                metered = guest.metered(carrier)
                opening = check_first(await self._first(metered))
                with self._seat(guest):
                    await self._play(metered, opening, guest)
            except Gone:
                raise
            except Exception as error:
                self._engine.figures.count_error("session", type(error).__name__)
                failure = error
            if failure is not None:
                await carrier.fail(failure)
        except Gone:
            raise asyncio.CancelledError from None

    def sessions(self, guest: Guest) -> list[Session]:
        """Those that are the guest's: nobody else's are seen, or closed. The user sees all."""
        sessions = self._engine.list_sessions()
        return sessions if guest.is_owner else [each for each in sessions if self._guests.get(each) is guest]

    def turn_out(self, guest: Guest) -> None:
        """Ends every session of a guest that its key, as it is now, does not allow."""
        for session, other in self._guests.items():
            if other is guest:
                try:
                    guest.check_valid()
                    guest.check_pack(session.stream_name)
                except (Forbidden, Unauthenticated) as error:
                    session.abort(error)

    def close(self) -> None:
        """Lets the threads go, as soon as those who wait for them have been told."""
        self._threads.shutdown(wait=False)

    async def _first(self, carrier: Carrier) -> Any:
        """The message that a call begins with."""
        try:
            return await asyncio.wait_for(carrier.read(), self._idle_seconds)
        except TimeoutError:
            raise Idle(f"no Open came within {self._idle_seconds:g} s: call again when there is a session") from None

    @contextmanager
    def _seat(self, guest: Guest) -> Iterator[None]:
        if self._taken >= self._max_sessions:
            self._engine.figures.count_refusal()
            raise Refused(f"all {self._max_sessions} sessions are taken: close one, or start the server with more")
        if guest.full:
            self._engine.figures.count_refusal()
            raise guest.no_place()
        guest.sessions += 1
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
            guest.sessions -= 1

    async def _play(self, carrier: Carrier, opening: pb.Open, guest: Guest) -> None:
        check_name(opening.client_name, "the client's name")
        guest.check_pack(opening.pack)
        offline = carrier.response is pb.RenderResponse or opening.mode == pb.MODE_OFFLINE
        outbox = Outbox(asyncio.get_running_loop())
        session = await self._open(opening, offline, outbox)
        self._guests[session] = guest
        facts = {"session": session.id, "pack": opening.pack, "client": opening.client_name, "key": guest.name}
        log.info("session %s opened on %r by %r", session.id, opening.pack, opening.client_name, extra=facts)
        written: SessionLog | None = None
        try:
            if opening.want_log or self._logs is not None:
                written = await asyncio.to_thread(self._log, session, outbox if opening.want_log else None)
            guest.check_valid()  # it may have been revoked while the session was opened
            want_frames = opening.want_frames or not session.config.want_audio
            await SessionCall(
                carrier, session, outbox, want_frames, self._idle_seconds, self._count,
                written.wait if written is not None and opening.want_log else None,
            ).serve()  # fmt: skip
        finally:
            session.abort()  # has no effect on one that has ended
            if written is not None:
                written.finish()
            del self._guests[session]
            self._loads.tidy()
            sums = {"chunks": session.totals.chunks, "late_chunks": session.totals.late_chunks}
            log.info("session %s ended after %d chunks", session.id, sums["chunks"], extra=facts | sums)

    def _log(self, session: Session, outbox: Outbox | None) -> SessionLog | None:
        """Writes its event log from now on, where that is wanted; `outbox`: of a client that wants it."""
        sinks: list[Sink] = [] if outbox is None else [LineSink(lambda line: outbox.put(LogLine(line)))]
        if self._logs is not None:
            try:
                sinks.append(self._logs.sink(session))
            except OSError as error:
                log.warning("session %s is not logged: %s", session.id, error)
        if not sinks:
            return None
        resident = self._engine.residents.get(session.stream_name)
        pack = None if resident is None or resident.entry is None else resident.entry.pack
        return SessionLog(session, "" if pack is None else pack.digest, sinks)

    async def _open(self, opening: pb.Open, offline: bool, outbox: Outbox) -> Session:
        """Opens the session on a thread: an engine's call in progress is waited for."""
        resident = await self._loads.load(opening.pack)
        task = self._threads.submit(
            self._engine.open_session,
            opening.pack,
            convert.session_config(opening, resident.stream.spec, offline),
            opening.client_name,
            outbox.put,
            block_size=opening.block_size,
            jitter_buffer_seconds=opening.jitter_buffer_seconds,
            new_takes=opening.on_jump == pb.ON_JUMP_NEW_TAKE,
        )
        waited = asyncio.wrap_future(task)
        try:
            return await asyncio.shield(waited)
        except asyncio.CancelledError:  # the client has gone; its session must not stay
            waited.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody else asks for it
            if not task.cancel():
                task.add_done_callback(_abandon)
            raise


def _abandon(task: Future[Session]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().abort()
