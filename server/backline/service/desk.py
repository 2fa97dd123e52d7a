"""Where sessions are asked for: who gets one of the seats, and what becomes of it when its call breaks off."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from backline.engine.engine import Engine
from backline.engine.errors import BadInput, Forbidden, Idle, NotFound, Refused, TakenOver, TooLarge, Unauthenticated
from backline.engine.limits import check_name
from backline.engine.session import Session
from backline.service import convert
from backline.service.access import OWNER, Guest
from backline.service.call import SessionCall, check_first
from backline.service.carrier import Carrier, Gone
from backline.service.loads import Loads
from backline.service.seat import LogLine, Outbox, Seat
from backline.service.session_log import LineSink, LogFolder, SessionLog, Sink
from backline_protos.v1 import backline_pb2 as pb

log = logging.getLogger(__name__)

LINGERING = 8  # seats of sessions that have ended, and whose client may not know yet
REMEMBERED = 256  # sessions that have ended, and why: whoever wants one back is told


class Desk:
    """Serves calls, whatever carries them. The event loop.

    A seat is taken from its Open until its session ends: with its call, or where it has a lease, once that has run out
    after the call has broken off. Until then `Resume` takes it up again, on whichever call.
    """

    def __init__(
        self,
        engine: Engine,
        loads: Loads,
        max_sessions: int,
        idle_seconds: float,
        lease_seconds: float,
        count: Callable[[], None],
        logs: LogFolder | None = None,
    ) -> None:
        """
        Args:
            max_sessions: open at the same time, detached ones included.
            idle_seconds: after which a client that neither sends nor takes its output is ended.
            lease_seconds: that a client is granted at most.
            count: called for every message of either direction.
            logs: where the event log of every session is kept.
        """
        self._logs = logs
        self._engine, self._loads, self._max_sessions = engine, loads, max_sessions
        self._idle_seconds, self._lease_seconds, self._count = idle_seconds, lease_seconds, count
        self._taken = 0
        self._seats: dict[str, Seat] = {}  # by token
        self._lingering: deque[Seat] = deque()
        self._endings: dict[str, str] = {}  # why the newest sessions with a lease have ended, by token
        self._threads = ThreadPoolExecutor(max_sessions, thread_name_prefix="backline-open")

    async def serve(self, carrier: Carrier, guest: Guest = OWNER) -> None:
        """A call from its Open or Resume to its end, whichever it comes to. A client that goes in the midst of a
        message ends its call as one that goes between two: it is cancelled.
        """
        failure: Exception | None = None  # told outside of what handles it: what a carrier raises then has no context
        try:
            try:
                metered = guest.metered(carrier)
                first = check_first(await self._first(metered))
                if isinstance(first, pb.Resume):
                    await self._resume(metered, first, guest)
                else:
                    await self._attend(metered, await self._take_seat(metered, first, guest))
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
        if guest.is_owner:
            return sessions
        theirs = {seat.session for seat in self._seats.values() if seat.guest is guest}
        return [each for each in sessions if each in theirs]

    def turn_out(self, guest: Guest) -> None:
        """Ends every session of a guest that its key, as it is now, does not allow."""
        for seat in self._seats.values():
            if seat.guest is guest:
                try:
                    guest.check_valid()
                    guest.check_pack(seat.session.stream_name)
                except (Forbidden, Unauthenticated) as error:
                    seat.session.abort(error)

    def drain(self) -> None:
        """The server stops: nobody takes a detached session up any more."""
        self._lease_seconds = 0.0
        for seat in [seat for seat in self._seats.values() if seat.detached]:
            self._give_up(seat, "the server has stopped")

    def close(self) -> None:
        """Lets the threads go, as soon as those who wait for them have been told."""
        self._threads.shutdown(wait=False)

    async def _first(self, carrier: Carrier) -> Any:
        """The message that a call begins with."""
        try:
            return await asyncio.wait_for(carrier.read(), self._idle_seconds)
        except TimeoutError:
            raise Idle(f"no Open came within {self._idle_seconds:g} s: call again when there is a session") from None

    # ---- calls -----------------------------------------------------------------------------------------

    async def _resume(self, carrier: Carrier, resume: pb.Resume, guest: Guest) -> None:
        """A call that goes on with a session.

        Raises:
            NotFound: the guest has no such session; whether another one has, is not told.
        """
        seat = self._seats.get(resume.token)
        if seat is None or seat.guest is not guest or not seat.lease_seconds:
            why = self._endings.get(resume.token, "")
            raise NotFound(f"no session to take up{why and f' ({why})'}: open a new one")
        # Where it has a call, that is a cut which the server has not noticed. Of several at once the last one has it.
        while seat.call is not None:
            seat.call.break_off(TakenOver("the session has been taken up on another call"))
            await seat.call.over.wait()
        if seat.given_up:
            raise NotFound("the session has ended meanwhile: open a new one")
        seat.resume(resume)
        self._engine.figures.count_resumption()
        log.info("session %s taken up again", seat.session.id)
        await self._attend(carrier, seat, resumed=True)

    async def _attend(self, carrier: Carrier, seat: Seat, resumed: bool = False) -> None:
        """Has a call have a seat until either is over."""
        seat.call = call = SessionCall(carrier, seat, self._idle_seconds, self._count)
        self._stop_lease(seat)
        try:
            seat.guest.check_valid()  # it may have been revoked while the session was opened
            await call.serve(resumed)
        except (Gone, Idle, TakenOver, asyncio.CancelledError) as error:
            seat.call = None
            if not (seat.lease_seconds and self._lease_seconds):
                self._give_up(seat, "its call has broken off")
                raise
            self._detach(seat)
            if isinstance(error, Idle):
                text = f"{error}. The session is kept for {seat.lease_seconds:g} s: until then it can be resumed"
                raise Idle(text, untaken=error.untaken) from None
            raise
        except BaseException as error:
            seat.call = None
            self._give_up(seat, str(error))
            raise
        else:
            seat.call = None
            self._linger(seat)

    # ---- seats -----------------------------------------------------------------------------------------

    async def _take_seat(self, carrier: Carrier, opening: pb.Open, guest: Guest) -> Seat:
        """A seat for a new session. Where there is none left, sessions of the guest's own that are detached make room:
        whoever is there comes before whoever may come back.

        Raises:
            Refused: there is no room.
        """
        check_name(opening.client_name, "the client's name")
        guest.check_pack(opening.pack)
        lease = opening.lease_seconds
        if not lease >= 0.0:
            raise BadInput(f"a lease of {lease:g} s: use 0 or more")
        rendered = carrier.response is pb.RenderResponse
        lease = 0.0 if rendered else min(lease, self._lease_seconds)
        offline = rendered or opening.mode == pb.MODE_OFFLINE
        while True:
            try:
                self._check_room(guest)
                self._taken, guest.sessions = self._taken + 1, guest.sessions + 1
                try:
                    outbox = Outbox(asyncio.get_running_loop())
                    session = await self._open(opening, offline, outbox)
                except BaseException:
                    self._taken, guest.sessions = self._taken - 1, guest.sessions - 1
                    raise
                break
            except TooLarge:
                raise  # nobody's going makes room for it
            except Refused:
                if not (going := await self._in_the_way(opening, offline, guest)):
                    raise
                for each in going:
                    self._give_up(each, "its place was wanted for another session of its client")
                ends = [self._threads.submit(each.session.closed.wait, self._idle_seconds) for each in going]
                await asyncio.gather(*map(asyncio.wrap_future, ends))
        want_frames = opening.want_frames or not session.config.want_audio
        seat = self._seats[session.token] = Seat(session, guest, outbox, want_frames, lease)
        facts = {"session": session.id, "pack": opening.pack, "client": opening.client_name, "key": guest.name}
        log.info("session %s opened on %r by %r", session.id, opening.pack, opening.client_name, extra=facts)
        if opening.want_log or self._logs is not None:
            making = asyncio.ensure_future(asyncio.to_thread(self._log, session, outbox if opening.want_log else None))
            try:
                seat.log = await asyncio.shield(making)
            except BaseException:
                making.add_done_callback(_end_log)  # its thread must not stay
                self._give_up(seat, "its client has gone")
                raise
            seat.want_log = opening.want_log
        return seat

    async def _in_the_way(self, opening: pb.Open, offline: bool, guest: Guest) -> list[Seat]:
        """The guest's detached sessions that have to end so that there is room for another one: as few as do, those
        whose lease runs out first. None where it would be refused even so.

        Raises:
            Exception: what it would be refused for whoever had ended.
        """
        if not self._detached(guest):
            return []
        config = convert.session_config(opening, (await self._loads.load(opening.pack)).stream.spec, offline)
        what_it_takes = partial(
            self._engine.check_session,
            opening.pack,
            config,
            block_size=opening.block_size,
            jitter_buffer_seconds=opening.jitter_buffer_seconds,
            new_takes=opening.on_jump == pb.ON_JUMP_NEW_TAKE,
        )
        await asyncio.wrap_future(self._threads.submit(what_it_takes))

        def enough(seats: list[Seat]) -> bool:
            room = self._taken - len(seats) < self._max_sessions and guest.places + len(seats) > 0
            sessions = [seat.session for seat in seats]
            return room and self._engine.would_admit(opening.pack, config, opening.block_size, sessions)

        going = self._detached(guest)
        if not enough(going):
            return []
        for spared in reversed(going):
            without = [seat for seat in going if seat is not spared]
            going = without if enough(without) else going
        return going

    def _detached(self, guest: Guest) -> list[Seat]:
        """The guest's that hold a place and have no call, in the order in which their leases run out."""
        found = [seat for seat in self._seats.values() if seat.detached and seat.has_place and seat.guest is guest]
        return sorted(found, key=lambda seat: seat.session.detached_until or 0.0)

    def _check_room(self, guest: Guest) -> None:
        """Raises Refused where no session may be opened."""
        if self._taken >= self._max_sessions:
            self._engine.figures.count_refusal()
            raise Refused(f"all {self._max_sessions} sessions are taken: close one, or start the server with more")
        if guest.places <= 0:
            self._engine.figures.count_refusal()
            raise guest.no_place()

    def _free_place(self, seat: Seat) -> None:
        """From here on another session may have its place."""
        if seat.has_place:
            seat.has_place = False
            self._taken, seat.guest.sessions = self._taken - 1, seat.guest.sessions - 1

    def _detach(self, seat: Seat) -> None:
        """Keeps a seat whose call has broken off for its lease."""
        seat.session.detached_until = self._engine.clock() + seat.lease_seconds
        why = f"its lease of {seat.lease_seconds:g} s has run out"
        seat.expiry = asyncio.get_running_loop().call_later(seat.lease_seconds, self._give_up, seat, why)
        log.info("session %s detached for at most %g s", seat.session.id, seat.lease_seconds)

    def _linger(self, seat: Seat) -> None:
        """A session has ended in order. Whether its client knows is not sure: one with a lease may come back for the
        rest of what it was told, which takes no place, and not much memory.
        """
        if not (seat.lease_seconds and self._lease_seconds):
            self._give_up(seat, "it was closed")
            return
        self._free_place(seat)
        self._detach(seat)
        self._lingering = deque(each for each in self._lingering if not each.given_up)
        self._lingering.append(seat)
        if len(self._lingering) > LINGERING:
            self._give_up(self._lingering.popleft(), "it was closed")

    def _stop_lease(self, seat: Seat) -> None:
        if seat.expiry is not None:
            seat.expiry.cancel()
            seat.expiry = seat.session.detached_until = None

    def _give_up(self, seat: Seat, why: str) -> None:
        """Nobody takes the seat's session up any more; where it still plays it ends. Twice does no harm."""
        if seat.given_up:
            return
        seat.given_up = True
        self._stop_lease(seat)
        session = seat.session
        session.abort()  # has no effect on one that has ended
        del self._seats[session.token]
        self._free_place(seat)
        if seat.log is not None:
            seat.log.finish()
        if seat.lease_seconds:
            self._endings[session.token] = why
            while len(self._endings) > REMEMBERED:
                del self._endings[next(iter(self._endings))]
        self._loads.tidy()
        chunks, late = session.totals.chunks, session.totals.late_chunks
        facts: dict[str, object] = {"session": session.id, "pack": session.stream_name, "client": session.client_name}
        facts |= {"key": seat.guest.name, "chunks": chunks, "late_chunks": late}
        log.info("session %s ended after %d chunks: %s", session.id, chunks, why, extra=facts)

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
        config = convert.session_config(opening, (await self._loads.load(opening.pack)).stream.spec, offline)
        task = self._threads.submit(
            self._engine.open_session,
            opening.pack,
            config,
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


def _end_log(making: asyncio.Future[SessionLog | None]) -> None:
    if not making.cancelled() and making.exception() is None and (made := making.result()) is not None:
        made.finish()
