"""One open stream: what the client sends goes into its session, what the session says goes out to the client.

    client -> _read -> Session.try_write          (engine) -> Outbox -> serve -> client

Everything here runs on the event loop and computes nothing; only `Outbox.put` is called by the engine's threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

from backline.engine.errors import BadInput, Unserved
from backline.engine.events import Event, Failed, Finished, Frames, LedgerChanged, OutputBlock, TextInForce, Warned
from backline.engine.session import Session
from backline.service import convert
from backline.service.carrier import Carrier
from backline.service.idle import OFFLINE_FACTOR, IdleWatch
from backline_protos.v1 import backline_pb2 as pb

log = logging.getLogger(__name__)

Request: TypeAlias = "pb.ClientMessage | pb.RenderRequest"

UNSERVED = {
    "resume": "taking up a detached session is not served yet: open a new one",
    "marker": "markers are not served yet: read the latency from the ledger",
    "credit": "credits are not served yet: leave Credit out and read the output as it comes",
}


class Outbox:
    """Events on their way from an engine thread to the event loop; many of them cost one wake-up."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._events: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self._signalled = False

    def put(self, event: Event) -> None:
        """Any thread. The engine bounds what waits here: it pauses a session whose blocks are not acknowledged."""
        self._events.append(event)
        if not self._signalled:
            self._signalled = True
            with contextlib.suppress(RuntimeError):  # the loop has ended, and with it everyone who would read this
                self._loop.call_soon_threadsafe(self._arrived.set)

    async def get(self) -> Event:
        """The next event. The event loop."""
        while not self._events:
            self._arrived.clear()
            self._signalled = False  # from here on, a put wakes us; what came before is seen below
            if not self._events:
                await self._arrived.wait()
        return self._events.popleft()


def check_first(request: Request | None) -> pb.Open:
    """The Open that a stream must begin with; `request` is None where nothing came."""
    kind = None if request is None else request.WhichOneof("message")
    if kind == "resume":
        raise Unserved(UNSERVED["resume"])
    if request is None or kind != "open":
        raise BadInput(f"the first message is {kind or 'missing'}: begin with Open")
    opening: pb.Open = request.open
    if opening.on_jump == pb.ON_JUMP_NEW_TAKE:
        raise Unserved("a new take on a jump is not served yet: use ON_JUMP_CONTINUE")
    return opening


class SessionCall:
    """Serves one session over one carrier until either side ends it."""

    def __init__(
        self,
        carrier: Carrier,
        session: Session,
        outbox: Outbox,
        want_frames: bool,
        idle_seconds: float,
        count: Callable[[], None],
    ) -> None:
        """`count` is called for every message of either direction."""
        self._carrier, self._session, self._outbox = carrier, session, outbox
        self._want_frames, self._count = want_frames, count
        patience = idle_seconds * (OFFLINE_FACTOR if session.config.offline else 1)
        self._idle = IdleWatch(patience, lambda: session.waits_for_client)

    async def serve(self) -> None:
        """Returns when the session has ended in order; whoever has opened it sees to its end otherwise.

        Raises:
            Exception: what ended the session otherwise; it is for the client.
        """
        reader = asyncio.create_task(self._read())
        writer = asyncio.create_task(self._write_all())
        watch = asyncio.create_task(self._idle.run_out())
        try:
            # A client that takes nothing keeps the writer waiting, so somebody else must see the end.
            await asyncio.wait({writer, watch}, return_when=asyncio.FIRST_COMPLETED)
            if not writer.done():
                raise watch.result()
            writer.result()
        finally:
            for task in (reader, writer, watch):
                task.cancel()
            del task, reader, writer, watch  # they hold what they failed of, which holds this frame, which holds them

    # ---- client to engine ----------------------------------------------------------------------------

    async def _read(self) -> None:
        """Passes messages on until the client closes; what is wrong with one ends the session."""
        try:
            while (request := await self._carrier.read()) is not None:
                self._idle.stir()
                self._count()
                kind = request.WhichOneof("message")
                if kind == "close":
                    break
                await self._take(kind, request)
            self._session.close_input()  # a client that only half-closes its call means the same
        except Exception as error:
            # CloseSession, or the server's shutdown, may end the input under a client that still sends.
            if not (isinstance(error, BadInput) and self._session.input_closed):
                self._outbox.put(Failed(error))

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
                )
                self._idle.stopped = not transport.playing
            case "midi":
                self._session.midi(request.midi.position, request.midi.data)
            case "text":
                text = request.text
                self._session.set_text(text.name, text.text, text.position if text.HasField("position") else None)
            case "frames":
                codes = convert.read_codes(request.frames)
                await self._wait(lambda there_is: self._session.when_frames_fit(len(codes), there_is))
                self._session.write_frames(request.frames.first_frame, codes)
            case "open":
                raise BadInput("a second Open: this call has its session; make another call for another one")
            case None:
                raise BadInput("an empty message: is the client newer than this server?")
            case _:
                raise Unserved(UNSERVED[kind])

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

    async def _write_all(self) -> None:
        await self._send(ready=convert.ready(self._session))
        while not await self._pass_on(await self._outbox.get()):
            pass

    async def _pass_on(self, event: Event) -> bool:
        """Sends an event; true after the last one."""
        match event:
            case OutputBlock():
                await self._send(audio=convert.audio_block(event))
                self._session.acknowledge()
            case Frames():
                if self._want_frames:
                    await self._send(frames=convert.codec_frames(event))
                if not self._session.config.want_audio:
                    self._session.acknowledge()
            case TextInForce():
                await self._send(text=convert.text_in_force(event))
            case LedgerChanged():
                await self._send(ledger=convert.ledger(event.ledger))
            case Warned():
                await self._send(warning=convert.warning(event))
            case Finished():
                await self._send(closed=convert.closed(event.totals))
                return True
            case Failed():
                raise event.error
        return False

    async def _send(self, **message: Any) -> None:
        """Sends what this kind of call has a field for: a render has no ledger that changes."""
        response = self._carrier.response
        if all(name in response.DESCRIPTOR.fields_by_name for name in message):
            self._count()
            with self._idle.taking():
                await self._carrier.write(response(**message))
