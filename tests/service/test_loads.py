"""Nobody waits for a load but those who asked for it, and what is resident opens at once."""

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch

from backline.engine.engine import Engine
from backline.engine.session import Session
from backline.models.passthrough import PassthroughStream
from backline.models.stream import Stream
from backline.packs.registry import PackRegistry
from backline.service import desk
from backline.service.loads import Loads
from backline.service.server import RunningServer, start_server
from backline_protos.v1 import backline_pb2 as pb
from backline_protos.v1.backline_pb2_grpc import BacklineStub
from tests.service.conftest import make_pack
from tests.support.wire import OPTIONS, Answer, Bystander, block, client, eventually, held, noise, opening

SLOW = [f"slow{index}" for index in range(16)]
PATIENCE = 10.0  # seconds; a call that waits for a load takes for ever


class Gate:
    """Loads of slow packs wait at it; `entered` are those that have come there."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.entered: list[str] = []
        self.error: Exception | None = None


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()
    load = PackRegistry.load

    def slowly(registry: PackRegistry, name: str) -> Stream:
        if name.startswith("slow"):
            gate.entered.append(name)
            assert gate.opened.wait(60)
            if gate.error is not None:
                raise gate.error
        return load(registry, name)

    monkeypatch.setattr(PackRegistry, "load", slowly)
    yield gate
    gate.opened.set()


@pytest.fixture
def opens(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Packs that sessions were asked for, as soon as the server knows."""
    seen: list[str] = []
    check = desk.check_first

    def noted(request: Any) -> pb.Open:
        first = check(request)
        seen.append(first.pack)
        return first

    monkeypatch.setattr(desk, "check_first", noted)
    return seen


@pytest.fixture
def server(tmp_path: Path, gate: Gate) -> Iterator[RunningServer]:
    for name in SLOW:
        make_pack(tmp_path / name, {})
    with start_server(packs=[tmp_path], load=["passthrough"], device="cpu", drain_seconds=0.1) as server:
        yield server
        gate.opened.set()


@pytest.fixture
def stub(server: RunningServer) -> Iterator[BacklineStub]:
    with grpc.insecure_channel(server.address, options=OPTIONS) as channel:
        yield BacklineStub(channel)


def test_what_is_resident_opens_at_once_while_many_packs_load(
    server: RunningServer, stub: BacklineStub, gate: Gate, opens: list[str]
) -> None:
    with Bystander(server.address):
        waiting = [stub.Stream(held(opening(pack=name))) for name in SLOW]
        loading = [stub.LoadPack.future(pb.LoadPackRequest(name=name)) for name in SLOW]
        assert eventually(lambda: sorted(name for name in opens if name in SLOW) == sorted(SLOW))
        assert eventually(lambda: len(gate.entered) == 1)

        audio = noise(2, 1_000)
        begin = time.monotonic()
        answer = Answer(
            stub.Stream(client(opening(), block(audio[:, :500]), block(audio[:, 500:], 500)), timeout=PATIENCE)
        )
        assert answer.status is grpc.StatusCode.OK, answer.details
        assert np.array_equal(answer.port(), audio)
        found = stub.GetPack(pb.GetPackRequest(name="passthrough"), timeout=PATIENCE)
        assert found.state == pb.PACK_STATE_RESIDENT
        assert len(stub.ListPacks(pb.ListPacksRequest(), timeout=PATIENCE).packs) >= len(SLOW)
        assert time.monotonic() - begin < PATIENCE / 2
        assert len(gate.entered) == 1  # all that while

        gate.opened.set()
        for call in waiting:
            assert next(call).WhichOneof("message") == "ready"
            call.cancel()
        assert {answered.result(PATIENCE).state for answered in loading} == {pb.PACK_STATE_RESIDENT}


def test_a_pack_is_loaded_once_however_many_ask(
    stub: BacklineStub, server: RunningServer, gate: Gate, opens: list[str]
) -> None:
    loading = [stub.LoadPack.future(pb.LoadPackRequest(name=SLOW[0])) for _ in range(8)]
    waiting = [stub.Stream(held(opening(pack=SLOW[0]))) for _ in range(8)]
    assert eventually(lambda: opens.count(SLOW[0]) == 8)
    gate.opened.set()
    assert {answered.result(PATIENCE).state for answered in loading} == {pb.PACK_STATE_RESIDENT}
    assert {next(call).WhichOneof("message") for call in waiting} == {"ready"}
    assert gate.entered == [SLOW[0]]
    for call in waiting:
        call.cancel()


def test_clients_that_leave_while_they_wait_leave_nothing_behind(
    server: RunningServer, stub: BacklineStub, gate: Gate, opens: list[str]
) -> None:
    calls = [stub.Stream(held(opening(pack=name))) for name in SLOW]
    assert eventually(lambda: len(opens) == len(SLOW) and len(gate.entered) == 1)
    (first,) = gate.entered
    for name, call in zip(SLOW, calls, strict=True):
        if name != first:
            call.cancel()
    # Their places are free again: all of them can be taken.
    playing = [stub.Stream(held(opening())) for _ in range(63)]
    assert eventually(lambda: len(stub.ListSessions(pb.ListSessionsRequest()).sessions) == 63)
    gate.opened.set()
    assert next(calls[SLOW.index(first)]).WhichOneof("message") == "ready"
    assert gate.entered == [first]  # nothing is loaded that nobody waits for
    for call in (*playing, *calls):
        call.cancel()
    assert eventually(lambda: not stub.ListSessions(pb.ListSessionsRequest()).sessions)


def test_a_load_that_a_stop_overtakes_is_told_so(tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    draining, drain = threading.Event(), Loads.drain

    def noted(self: Loads) -> None:
        drain(self)
        draining.set()

    monkeypatch.setattr(Loads, "drain", noted)
    for name in SLOW[:2]:
        make_pack(tmp_path / name, {})
    with ExitStack() as stack:
        server = stack.enter_context(start_server(packs=[tmp_path], device="cpu", drain_seconds=0.1))
        channel = grpc.insecure_channel(server.address, options=OPTIONS)  # outlives the server
        stub = BacklineStub(channel)
        answers = [stub.LoadPack.future(pb.LoadPackRequest(name=name)) for name in SLOW[:2]]
        assert eventually(lambda: len(gate.entered) == 1)
        stopping = threading.Thread(target=stack.pop_all().close)
        stopping.start()
        assert draining.wait(PATIENCE)
        gate.opened.set()
        for answer in answers:
            with pytest.raises(grpc.RpcError) as raised:
                answer.result(PATIENCE)
            assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, raised.value.details()
            assert "the server is shutting down: connect to another one" in raised.value.details()
        stopping.join(PATIENCE)
        channel.close()


FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB\nlong story")


@pytest.mark.parametrize("where", ["load", "warm_up", "open"])
def test_a_device_without_memory_is_not_a_damaged_pack(
    stub: BacklineStub, server: RunningServer, gate: Gate, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def fail(*_: Any) -> Any:
        raise FULL

    gate.opened.set()
    with Bystander(server.address):
        if where == "load":
            gate.error = FULL
        else:
            stub.GetPack(pb.GetPackRequest(name=SLOW[0]))
            if where == "open":
                stub.LoadPack(pb.LoadPackRequest(name=SLOW[0]))
            monkeypatch.setattr(PassthroughStream, where, fail)
        answer = Answer(stub.Stream(client(opening(pack=SLOW[0]))))
        assert answer.status is grpc.StatusCode.RESOURCE_EXHAUSTED, answer.details
        assert "there is not enough memory for 'slow0' (CUDA out of memory. Tried to allocate 20.00 GiB): close" in (
            answer.details
        )
        assert stub.GetPack(pb.GetPackRequest(name=SLOW[0])).state != pb.PACK_STATE_DAMAGED
        monkeypatch.undo()
        gate.error = None
        assert Answer(stub.Stream(client(opening(pack=SLOW[0])))).status is grpc.StatusCode.OK


def test_what_stays_is_not_looked_through_for_garbage(server: RunningServer, stub: BacklineStub) -> None:
    """Hundreds of thousands of objects: a full look takes .2 s and more, in which nobody's chunk is computed."""
    gc.unfreeze()
    stub.LoadPack(pb.LoadPackRequest(name="stems"))
    assert gc.get_freeze_count() > 100_000
    with Bystander(server.address):
        gc.disable()
        looks = gc.get_stats()[2]["collections"]
        stub.UnloadPack(pb.UnloadPackRequest(name="stems"))
        gc.enable()
        assert gc.get_freeze_count() > 100_000
        assert gc.get_stats()[2]["collections"] == looks, "somebody played, and everything was looked through"


@pytest.mark.parametrize("last", [block(noise(1, 11)), pb.Control(parameter="none"), pb.Resume(), pb.Close(), None])
def test_no_session_waits_for_the_collector_of_garbage(
    stub: BacklineStub, last: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes rarely, and a session has rings of up to 64 MiB."""
    sessions: list[weakref.ref[Session]] = []
    open_session = Engine.open_session

    def seen(*arguments: Any, **more: Any) -> Session:
        session = open_session(*arguments, **more)
        sessions.append(weakref.ref(session))
        return session

    monkeypatch.setattr(Engine, "open_session", seen)
    gc.disable()
    try:
        if last is None:  # the client goes
            call = stub.Stream(held(opening(), block(noise(2, 100))))
            assert next(call).HasField("ready")
            call.cancel()
        else:
            Answer(stub.Stream(client(opening(), block(noise(2, 100)), last)))
        assert eventually(lambda: sessions[0]() is None)
    finally:
        gc.enable()


def test_what_a_change_leaves_behind_while_somebody_plays_goes_when_the_last_one_has_gone(
    server: RunningServer, stub: BacklineStub
) -> None:
    class Left:
        """What a model left in a circle."""

    with Bystander(server.address):
        gc.disable()
        left = Left()
        left.itself = left  # type: ignore[attr-defined]
        gone = weakref.ref(left)
        del left
        stub.LoadPack(pb.LoadPackRequest(name="stems"))
        assert gone() is not None, "a look through everything while somebody played"
        gc.enable()
    assert eventually(lambda: gone() is None)
    stub.UnloadPack(pb.UnloadPackRequest(name="stems"))
