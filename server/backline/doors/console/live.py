"""What the sessions are doing, for pages that look every now and then, and how a page steers them."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

from google.protobuf import json_format

from backline.doors.watched import Watched
from backline.engine.errors import NotFound
from backline.engine.limits import findable
from backline.service import convert
from backline.service.server import House
from backline_protos.v1 import backline_pb2 as pb

HISTORY_SECONDS = 60.0  # of chunks that a page draws
GONE_SECONDS = 10.0  # without a look, after which no page is there
FRESH_SECONDS = 0.2  # for which all pages are told the same


class Live:
    """Of one server. Nothing is kept of sessions while no page looks."""

    def __init__(self, house: House) -> None:
        self._engine, self._loop, self._on_card = house.engine, house.loop, house.on_card
        self._left: asyncio.TimerHandle | None = None  # when the last page counts as gone
        self._watched: dict[str, Watched] = {}  # by id
        self._told = (float("-inf"), "")  # when by the clock, and what
        self._lock = threading.Lock()  # of looking: one thread at a time does

    def figures(self) -> str:
        """The server's and every session's, in JSON. Any thread but the event loop, which it would keep waiting."""
        with self._lock:
            now = self._engine.clock()
            if now - self._told[0] >= FRESH_SECONDS:
                self._told = (now, self._figures(now))
                self._loop.call_soon_threadsafe(self._stay)
            return self._told[1]

    def _stay(self) -> None:
        """Somebody has looked."""
        if self._left is not None:
            self._left.cancel()
        self._left = self._loop.call_later(GONE_SECONDS, self._leave)

    def _leave(self) -> None:
        """Nobody has looked for a while: sessions cost nothing more than without a page, and ended ones go."""
        watched, self._watched = self._watched, {}
        for each in watched.values():
            each.leave()

    def control(self, session: str, message: pb.Control) -> None:
        """Sets a parameter. The server's event loop.

        Raises:
            NotFound, BadInput, Refused: see `Session.control`.
        """
        position = message.position if message.HasField("position") else None
        self._find(session).set_parameter(message.parameter, message.value, position)

    def text(self, session: str, message: pb.Text) -> None:
        """Sets a text, likewise."""
        position = message.position if message.HasField("position") else None
        self._find(session).set_text(message.name, message.text, position)

    async def steer(self, name: str, line: str) -> str:
        """Has what plays on the sound card under a name do what a line says; what comes of it. The event loop.

        Raises:
            NotFound: nothing plays there.
            Refused: it does not come; the message says why.
        """
        for each in tuple(self._on_card):
            if any(figures["name"] == name for figures in each.figures()):
                return await asyncio.wrap_future(each.ask(name, line))
        raise NotFound(f"nothing plays on the sound card as {findable(name)!r}: look at /live.json for what does")

    def _figures(self, now: float) -> str:
        stats = self._engine.stats()
        sessions = [self._figures_of(watched, now) for watched in self._look()]
        return json.dumps(
            {
                "uptime_seconds": stats.uptime_seconds,
                "device": stats.device,
                "load": stats.load,
                "chunks": stats.chunks,
                "late_chunks": stats.late_chunks,
                "refused": stats.sessions_refused,
                "call_seconds": [stats.call_seconds_p50, stats.call_seconds_p99],
                "sessions": sessions,
                "on_card": [figures for each in tuple(self._on_card) for figures in each.figures()],
            }
        )

    def _look(self) -> list[Watched]:
        sessions = {session.id: session for session in self._engine.list_sessions()}
        known = self._watched  # which the event loop may empty meanwhile
        watched = {key: known.get(key) or Watched(each, key, self._engine.clock) for key, each in sessions.items()}
        for each in watched.values():
            each.look()
        self._watched = watched
        return list(watched.values())

    def _find(self, session: str) -> Watched:
        found = self._watched.get(session)
        if found is None or not found.open:
            raise NotFound(f"no session {findable(session)!r} is seen: look at /live.json for those that are open")
        return found

    def _figures_of(self, watched: Watched, now: float) -> dict[str, Any]:
        session, changes = watched.session, watched.session.take.changes
        told = json_format.MessageToDict(
            convert.session(session, now), preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        return {
            **told,
            "parameters": dict(changes.parameters),
            "texts": {name: text.text for name, text in changes.texts.items()},
            "steerable": not session.config.offline,
            "chunk_seconds": float(session.config.chunk_seconds),
            "levels": {
                "input": watched.input_level.now[0],
                **{name: each.now[0] for name, each in watched.levels.items()},
            },
            "chord": watched.chord,
            "beat": None if (beat := watched.beat()) is None else beat.beat,
            "warning": None if watched.warning is None else watched.warning.message,
            "chunk_latencies": [
                [round(now - at, 3), round(seconds, 4)]
                for at, seconds in watched.chunk_latencies
                if now - at <= HISTORY_SECONDS
            ],
        }
