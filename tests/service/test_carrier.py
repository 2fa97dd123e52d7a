"""A session needs no gRPC: whatever reads, writes and fails carries it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import numpy as np
import pytest

from backline.engine.engine import Engine
from backline.engine.errors import BadInput, NotFound
from backline.models.passthrough import PassthroughConfig, PassthroughStream
from backline.packs.registry import PackNotFound, PackRegistry
from backline.service.carrier import Gone, Response
from backline.service.desk import Desk
from backline.service.loads import Loads
from backline_protos.v1 import backline_pb2 as pb
from tests.support.wire import block, blocks, client, noise, opening
from tests.test_floors import PACKAGE, imported_parts

SEATS = 2
LEASE = 30.0


class Pipe:
    """A `Carrier` in memory: what a client will say, and all that it is told."""

    response: Response = pb.ServerMessage

    def __init__(self, requests: Iterable[Any], takes: int = sys.maxsize) -> None:
        """`takes` messages are taken; then the client is gone."""
        self._requests, self._takes = iter(requests), takes
        self.told: list[Any] = []
        self.error: Exception | None = None

    async def read(self) -> Any | None:
        await asyncio.sleep(0)
        return next(self._requests, None)

    async def write(self, message: Any) -> None:
        if len(self.told) >= self._takes:
            raise Gone
        self.told.append(message)

    async def fail(self, error: Exception) -> None:
        self.error = error

    def of(self, kind: str) -> list[Any]:
        return [getattr(message, kind) for message in self.told if message.WhichOneof("message") == kind]


def at_a_desk(story: Callable[[Desk, Engine], Awaitable[None]]) -> None:
    """Runs a story at a desk whose engine has one model, and sees that it leaves nothing behind."""
    engine = Engine()
    engine.add_stream("passthrough", PassthroughStream(PassthroughConfig()))
    loads = Loads(engine, PackRegistry())
    counted: list[None] = []
    try:

        async def told() -> None:
            desk = Desk(engine, loads, SEATS, 30.0, LEASE, lambda: counted.append(None))
            await story(desk, engine)
            desk.close()

        asyncio.run(told())
        for session in engine.list_sessions():
            assert session.closed.wait(10)
        assert counted
    finally:
        loads.close()
        engine.shutdown(0.0)


def test_a_session_is_served_whatever_carries_it() -> None:
    audio = noise(2, 5_000)

    async def story(desk: Desk, engine: Engine) -> None:
        pipe = Pipe(client(opening(), *blocks(audio, [500]), pb.Close()))
        await desk.serve(pipe)
        assert pipe.error is None
        assert [message.WhichOneof("message") for message in (pipe.told[0], pipe.told[-1])] == ["ready", "closed"]
        pcm = b"".join(entry.pcm for entry in pipe.of("audio"))
        assert np.array_equal(np.frombuffer(pcm, "<f4").reshape(-1, 2).T, audio)

    at_a_desk(story)


@pytest.mark.parametrize(
    ("requests", "error"),
    [
        ([], BadInput),
        ([block(noise(2, 10))], BadInput),
        ([opening(pack="none such")], PackNotFound),
        ([opening(parameters={"none": 1.0})], NotFound),
        ([opening(), block(noise(1, 11))], BadInput),
    ],
)
def test_what_goes_wrong_is_the_carriers_to_tell(requests: list[Any], error: type[Exception]) -> None:
    async def story(desk: Desk, engine: Engine) -> None:
        pipe = Pipe(client(*requests))
        await desk.serve(pipe)
        assert type(pipe.error) is error
        for _ in range(SEATS + 1):  # and every seat is free again
            other = Pipe(client(opening(), pb.Close()))
            await desk.serve(other)
            assert other.error is None

    at_a_desk(story)


@pytest.mark.parametrize("takes", [0, 1, 3])
def test_a_client_that_is_gone_leaves_its_seat(takes: int) -> None:
    async def story(desk: Desk, engine: Engine) -> None:
        for _ in range(SEATS + 1):
            pipe = Pipe(client(opening(), *blocks(noise(2, 20_000), [500])), takes)
            with pytest.raises(asyncio.CancelledError):
                await desk.serve(pipe)
            assert pipe.error is None  # there is nobody to tell
            assert len(pipe.told) == takes

    at_a_desk(story)


@pytest.mark.parametrize("module", ["call", "carrier", "convert", "desk", "handling", "idle", "loads", "seat"])
def test_nothing_between_the_carrier_and_the_engine_knows_grpc(module: str) -> None:
    assert "grpc" not in imported_parts(PACKAGE / "service" / f"{module}.py")
