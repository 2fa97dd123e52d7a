"""Plays audio through an engine's session, as a client would, and collects what comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

from backline.engine.clock import CLOCK, Clock
from backline.engine.engine import Engine
from backline.engine.events import Event, Failed, Finished, Frames, OutputBlock, Warned
from backline.engine.session import Session
from backline.models.stream import Audio, SessionConfig, Stream
from tests.support.clock import TurnedClock

PATIENCE_SECONDS = 20.0  # after which a test fails instead of hanging


class Listener:
    """A client that takes every event at once."""

    def __init__(self, acknowledges: bool = True) -> None:
        self.events: list[Event] = []
        self.session: Session | None = None
        self._acknowledges = acknowledges
        self._changed = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()
        if isinstance(event, OutputBlock) and self._acknowledges and self.session is not None:
            self.session.acknowledge()

    def wait(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, PATIENCE_SECONDS), f"did not happen; events: {self.events[-5:]}"

    def ended(self) -> Finished | Failed:
        """Waits for the last event."""
        self.wait(lambda: bool(self.events) and isinstance(self.events[-1], Finished | Failed))
        last = self.events[-1]
        assert isinstance(last, Finished | Failed)
        return last

    def finished(self) -> Finished:
        last = self.ended()
        assert isinstance(last, Finished), last
        return last

    def failed(self) -> Failed:
        last = self.ended()
        assert isinstance(last, Failed), last
        return last

    def blocks(self, port: int = 0) -> list[OutputBlock]:
        return [event for event in self.events if isinstance(event, OutputBlock) and event.port == port]

    def warnings(self, code: str) -> list[Warned]:
        return [event for event in self.events if isinstance(event, Warned) and event.code == code]

    def frames(self) -> list[Frames]:
        return [event for event in self.events if isinstance(event, Frames)]

    def audio(self, port: int = 0) -> Audio:
        """All output of a port; it must follow on without gaps."""
        blocks = self.blocks(port)
        for before, after in pairwise(blocks):
            assert after.position == before.position + before.audio.shape[1]
        return np.concatenate([block.audio for block in blocks], axis=1)


@contextmanager
def running(cores: float | None = None, clock: Clock = CLOCK, **streams: Stream) -> Iterator[Engine]:
    """An engine with these streams, shut down at the end."""
    engine = Engine(cores=cores, clock=clock)
    try:
        for name, stream in streams.items():
            engine.add_stream(name, stream)
        yield engine
    finally:
        if isinstance(clock, TurnedClock):
            clock.release()
        engine.shutdown(drain_seconds=0.0)


def make_config(**changes: Any) -> SessionConfig:
    """An offline session at 48 kHz stereo with chunks of 80 ms."""
    values: dict[str, Any] = {
        "sample_rate": 48_000,
        "channels": 2,
        "chunk_seconds": Fraction(2, 25),
        "visibility_seconds": 0.08,
        "seed": 7,
        "offline": True,
    }
    return SessionConfig(**{**values, **changes})


def open_session(
    engine: Engine,
    name: str,
    block_size: int = 4096,
    acknowledges: bool = True,
    jitter_buffer_seconds: float = 0.0,
    **changes: Any,
) -> tuple[Session, Listener]:
    listener = Listener(acknowledges)
    session = engine.open_session(
        name,
        make_config(**changes),
        "test",
        listener,
        block_size=block_size,
        jitter_buffer_seconds=jitter_buffer_seconds,
    )
    listener.session = session
    return session, listener


def settle(engine: Engine) -> None:
    """Waits until no session has a chunk's worth left."""
    while any(session.ready() for session in engine.list_sessions()):
        time.sleep(0.0005)
    for resident in engine.residents.values():
        resident.call(lambda: None)  # its call in progress is over, too


def fill(engine: Engine, session: Session, block: int) -> None:
    """Silence into a session whose client reads nothing, until it takes no more and waits for that client."""
    silence = np.zeros((session.config.channels, block), np.float32)
    while session.try_write(session.takes.timeline.end, silence):
        while session.try_write(session.takes.timeline.end, silence):
            pass
        settle(engine)


def write_blocks(session: Session, audio: Audio, block: int, start: int = 0) -> None:
    for at in range(0, audio.shape[1], block):
        session.write(start + at, audio[:, at : at + block])


def play(engine: Engine, name: str, audio: Audio, block: int, start: int = 0, **changes: Any) -> Listener:
    """The whole of `audio` [channel, sample] through a session of its own."""
    session, listener = open_session(engine, name, block, channels=audio.shape[0], **changes)
    write_blocks(session, audio, block, start)
    session.close_input()
    listener.finished()
    return listener
