"""One open stream: what the client sends goes into its session, what the session says goes out to the client.

    client -> _read -> Session.try_write          (engine) -> Outbox -> serve -> client

Everything here runs on the event loop and computes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, TypeAlias

from backline.engine.errors import BadInput
from backline.engine.events import (
    Event,
    Failed,
    Finished,
    Frames,
    LedgerChanged,
    Marked,
    OutputBlock,
    Skipped,
    TakeBegan,
    TextInForce,
    Warned,
)
from backline.service import convert
from backline.service.carrier import Carrier, Gone
from backline.service.idle import OFFLINE_FACTOR, IdleWatch
from backline.service.seat import LogLine, Seat
from backline_protos.v1 import backline_pb2 as pb

log = logging.getLogger(__name__)

Request: TypeAlias = "pb.ClientMessage | pb.RenderRequest"


def check_first(request: Request | Any | None) -> pb.Open | pb.Resume:
    """What a stream must begin with; `request` is None where nothing came.

    Raises:
        BadInput: it begins with something else.
    """
    kind = None if request is None else request.WhichOneof("message")
    if request is None or kind not in ("open", "resume"):
        raise BadInput(f"the first message is {kind or 'missing'}: begin with Open, or with Resume")
    if kind == "open" and request.open.on_jump not in pb.OnJump.values():
        raise BadInput(f"on_jump {request.open.on_jump} is none of {', '.join(pb.OnJump.keys())}")
    first: pb.Open | pb.Resume = getattr(request, kind)
    return first


class SessionCall:
    """Serves one session over one carrier until either side ends it, or another call takes it over."""

    def __init__(self, carrier: Carrier, seat: Seat, idle_seconds: float, count: Callable[[], None]) -> None:
        """`count` is called for every message of either direction."""
        self._carrier, self._seat, self._count = carrier, seat, count
        self._session, self._outbox = seat.session, seat.outbox
        session = self._session  # the watch must not hold the call: a cycle waits for the collector, rings and all
        patience = idle_seconds * (OFFLINE_FACTOR if session.config.offline else 1)
        self._idle = IdleWatch(patience, lambda: session.waits_for_client)
        self._idle.stopped = seat.stopped
        self._broken: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self.over = asyncio.Event()  # it touches the session no more

    def break_off(self, error: Exception) -> None:
        """Ends the call, not the session: `serve` raises this."""
        if not self._broken.done():
            self._broken.set_result(error)

    async def serve(self, resumed: bool = False) -> None:
        """Returns when the session has ended in order; whoever has opened it sees to its end otherwise.

        Args:
            resumed: it was another call's before; what its client has not got is sent again.

        Raises:
            Gone, Idle, TakenOver: the call is over, and the session need not be.
            Exception: what ended the session otherwise; it is for the client.
        """
        ready = self._ready(resumed)  # before this call's messages are counted
        reader = asyncio.create_task(self._read())
        writer = asyncio.create_task(self._write_all(ready))
        watch = asyncio.create_task(self._idle.run_out())
        ends: set[asyncio.Future[Any]] = {writer, watch, self._broken}
        try:
            # A client that takes nothing keeps the writer waiting, so somebody else must see the end.
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if writer.done():
                writer.result()
            else:
                raise self._broken.result() if self._broken.done() else watch.result()
        finally:
            for task in (reader, writer, watch):
                task.cancel()
            try:
                await asyncio.gather(reader, writer, watch, return_exceptions=True)
            finally:  # only now may another call go on where this one has stopped
                self.over.set()
            # They hold what they failed of, which holds this frame, which holds them.
            del task, reader, writer, watch, ends

    # ---- client to engine ----------------------------------------------------------------------------

    async def _read(self) -> None:
        """Passes messages on until the client closes, and what it acknowledges until the end; what is wrong with one
        ends the session.
        """
        leased, closed = self._seat.lease_seconds > 0, self._session.input_closed
        try:
            while (request := await self._carrier.read()) is not None:
                self._idle.stir()
                await self._outbox.room()  # for what answers it
                self._count()
                kind = request.WhichOneof("message")
                if kind == "ack":
                    if leased:
                        self._seat.kept.acknowledge(request.ack.received)
                    continue
                if kind == "close":
                    self._close(request.close)
                elif not closed:
                    await self._take(kind, request)
                self._seat.received += 1  # at once with what it counts: a cut falls before both or after both
                closed |= kind == "close"
                if closed and not leased:
                    return
            if not leased:
                self._session.close_input()  # a client that only half-closes its call means the same
            elif not closed:
                self.break_off(Gone())
        except Gone as gone:
            self.break_off(gone)
        except Exception as error:
            # CloseSession, or the server's shutdown, may end the input under a client that still sends.
            if not (isinstance(error, BadInput) and self._session.input_closed):
                self._outbox.put(Failed(error))

    def _close(self, close: pb.Close) -> None:
        if close.discard:
            self._session.discard()
        else:
            self._session.close_input()

    async def _take(self, kind: str | None, request: Request | Any) -> None:
        match kind:
            case "audio":
                await self._write(request.audio)
            case "control":
                control = request.control
                position = control.position if control.HasField("position") else None
                self._session.control(control.parameter, control.value, position)
            case "transport":
                transport = request.transport
                self._session.set_transport(
                    transport.position,
                    playing=transport.playing,
                    tempo=transport.tempo,
                    numerator=transport.numerator or 4,
                    denominator=transport.denominator or 4,
                    song_position=transport.song_position,
                    bar_start=transport.bar_start,
                    loop=(transport.loop_start, transport.loop_end) if transport.looping else None,
                    after=transport.after if transport.HasField("after") else None,
                )
                self._seat.stopped = self._idle.stopped = not transport.playing
            case "midi":
                midi = request.midi
                self._session.midi(midi.position, midi.data, midi.after if midi.HasField("after") else None)
            case "take":
                take = request.take
                heard_from = take.heard_from if take.HasField("heard_from") else None
                self._session.begin_take(take.position, heard_from, skipped=take.skipped)
            case "text":
                text = request.text
                self._session.set_text(text.name, text.text, text.position if text.HasField("position") else None)
            case "frames":
                codes = convert.read_codes(request.frames)
                await self._wait(lambda there_is: self._session.when_frames_fit(len(codes), there_is))
                self._session.write_frames(request.frames.first_frame, codes)
            case "marker":
                self._session.mark(request.marker.id, request.marker.position)
            case "credit":
                self._session.grant(request.credit.samples)
            case "open" | "resume":
                raise BadInput(f"a second {kind.capitalize()}: this call has its session; make another call for one")
            case None:
                raise BadInput("an empty message: is the client newer than this server?")
            case _:
                raise BadInput(f"{kind} is no message of a session: send what the contract has for one")

    async def _write(self, block: pb.AudioBlock) -> None:
        """Writes a block; while there is no room, no further message is read, and the client comes to a halt."""
        audio = convert.read_pcm(block.pcm, self._session.config.channels)
        while not self._session.try_write(block.position, audio):
            await self._wait(lambda there_is: self._session.when_room(max(1, audio.shape[1]), there_is))

    async def _wait(self, when: Callable[[Callable[[], None]], None]) -> None:
        """Until `when` calls what it is given, on whichever thread."""
        loop, room = asyncio.get_running_loop(), asyncio.Event()

        def offer() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(room.set)

        when(offer)
        await room.wait()

    # ---- engine to client ----------------------------------------------------------------------------

    async def _write_all(self, ready: pb.Ready) -> None:
        await self._send(ready=ready)
        for message in self._seat.kept.messages():
            await self._write_out(message)
            if message.WhichOneof("message") == "closed":
                return
        while not await self._pass_on(await self._outbox.get()):
            pass

    def _ready(self, resumed: bool) -> pb.Ready:
        ready, seat = convert.ready(self._session), self._seat
        ready.lease_seconds, ready.received, ready.sent = seat.lease_seconds, seat.received, seat.kept.first
        if resumed:
            ready.input_position = self._session.takes.timeline.end
        return ready

    async def _pass_on(self, event: Event | LogLine) -> bool:
        """Sends an event; true after the last one."""
        match event:
            case OutputBlock():
                try:
                    await self._send(audio=convert.audio_block(event))
                finally:
                    self._session.acknowledge()  # it has left the outbox, wherever it got to
            case Frames():
                try:
                    if self._seat.want_frames:
                        await self._send(frames=convert.codec_frames(event))
                finally:
                    if not self._session.config.want_audio:
                        self._session.acknowledge()
            case Skipped():
                if self._seat.lease_seconds:
                    await self._send(dry=convert.dry(event))
            case Marked():
                await self._send(marker=convert.marker(event))
            case TakeBegan():
                await self._send(take=convert.take(event))
            case TextInForce():
                await self._send(text=convert.text_in_force(event))
            case LedgerChanged():
                await self._send(ledger=convert.ledger(event.ledger))
            case Warned():
                await self._send(warning=convert.warning(event))
            case LogLine():
                await self._send(log=pb.LogEntry(line=event.line))
            case Finished():
                await self._send_log(event)
                await self._send(closed=convert.closed(event.totals))
                return True
            case Failed():
                await self._send_log(event)
                raise event.error
        return False

    async def _send_log(self, last: Event) -> None:
        """The rest of the log, which goes on to the session's end. Where the call breaks off meanwhile, the next one
        has the session's `last` event, and what follows on it.
        """
        if self._seat.log is not None and self._seat.want_log:
            try:
                await asyncio.to_thread(self._seat.log.wait)
                while line := self._outbox.next_line():
                    await self._pass_on(line)
            except (Gone, asyncio.CancelledError):
                self._outbox.put_back(last)
                raise

    async def _send(self, **message: Any) -> None:
        """Sends what this kind of call has a field for: a render has no ledger that changes."""
        response = self._carrier.response
        if all(name in response.DESCRIPTOR.fields_by_name for name in message):
            sent = response(**message)
            if self._seat.lease_seconds and "ready" not in message:
                self._seat.kept.add(sent)
            await self._write_out(sent)

    async def _write_out(self, message: Any) -> None:
        self._count()
        with self._idle.taking():
            await self._carrier.write(message)
