"""Packs, sessions, figures, health and reflection, as a client asks for them."""

import threading
import time
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from backline.service.server import RunningServer
from backline_protos.v1 import backline_pb2 as pb
from backline_protos.v1.backline_pb2_grpc import BacklineStub
from tests.support.wire import OPTIONS, Answer, Bystander, block, client, eventually, held, noise, opening


def pack(stub: BacklineStub, name: str) -> pb.Pack:
    return stub.GetPack(pb.GetPackRequest(name=name))  # type: ignore[no-any-return]


def test_packs_are_listed_with_what_they_offer_and_what_is_wrong(stub: BacklineStub) -> None:
    found = {entry.name: entry for entry in stub.ListPacks(pb.ListPacksRequest()).packs}
    assert {"passthrough", "stems", "late", "torn", "bent", "bare"} <= found.keys()
    assert found["torn"].state == found["bare"].state == pb.PACK_STATE_DAMAGED
    assert "codec.safetensors is missing" in found["bare"].problem
    stems = found["stems"]
    assert [port.name for port in stems.ports] == ["vocals", "drums", "bass", "other"]
    assert (stems.family, stems.version, stems.license) == ("passthrough", "1", "none")
    assert (stems.chunk_quantum_seconds, stems.default_chunk_seconds, stems.maximum_chunk_seconds) == (0.001, 0.01, 4.0)
    (gain,) = stems.parameters
    assert (gain.name, gain.default_value, gain.minimum, gain.maximum, gain.automatable) == ("gain", 1, 0, 1, True)


def test_a_pack_is_loaded_and_unloaded(stub: BacklineStub) -> None:
    assert pack(stub, "late").state == pb.PACK_STATE_AVAILABLE
    loaded = stub.LoadPack(pb.LoadPackRequest(name="late"))
    assert loaded == stub.LoadPack(pb.LoadPackRequest(name="late"))
    assert loaded.state == pb.PACK_STATE_RESIDENT
    assert {item.name: item.seconds for item in loaded.latency}["front_end"] == 1.0
    stub.UnloadPack(pb.UnloadPackRequest(name="late"))
    assert pack(stub, "late").state == pb.PACK_STATE_AVAILABLE


def test_a_pack_in_use_is_only_unloaded_with_its_sessions(stub: BacklineStub, server: RunningServer) -> None:
    with Bystander(server.address):
        call = stub.Stream(held(opening(pack="stems")))
        assert next(call).WhichOneof("message") == "ready"
        assert pack(stub, "stems").sessions == 1
        with pytest.raises(grpc.RpcError) as refused:
            stub.UnloadPack(pb.UnloadPackRequest(name="stems"))
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "1 sessions are open on 'stems'" in refused.value.details()
        stub.UnloadPack(pb.UnloadPackRequest(name="stems", close_sessions=True))
        ended = Answer(call)
        assert ended.status is grpc.StatusCode.NOT_FOUND
        assert "'stems' has been unloaded" in ended.details


@pytest.mark.parametrize("method", ["GetPack", "LoadPack", "UnloadPack"])
def test_an_unknown_pack_is_answered_with_the_known_ones(stub: BacklineStub, method: str) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        getattr(stub, method)(getattr(pb, f"{method}Request")(name="stem"))
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
    assert "did you mean 'stems'? The packs here are: " in raised.value.details()


def test_a_damaged_pack_is_not_loaded_and_says_why_ever_after(stub: BacklineStub) -> None:
    assert pack(stub, "bent").state == pb.PACK_STATE_AVAILABLE
    with pytest.raises(grpc.RpcError) as raised:
        stub.LoadPack(pb.LoadPackRequest(name="bent"))
    assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert pack(stub, "bent").state == pb.PACK_STATE_DAMAGED
    assert "has changed since the pack was made" in pack(stub, "bent").problem


def test_sessions_are_listed_and_closed_by_anyone(stub: BacklineStub) -> None:
    call = stub.Stream(held(opening(client_name="singer")))
    session = next(call).ready.session
    (listed,) = stub.ListSessions(pb.ListSessionsRequest()).sessions
    assert (listed.id, listed.pack, listed.client_name) == (session, "passthrough", "singer")
    assert (listed.state, listed.sample_rate, listed.channels, listed.mode) == ("open", 48_000, 2, pb.MODE_OFFLINE)
    assert listed.ledger.items
    stub.CloseSession(pb.CloseSessionRequest(id=session))
    ended = Answer(call)
    assert ended.status is grpc.StatusCode.OK
    assert ended.messages[-1].WhichOneof("message") == "closed"
    assert eventually(lambda: not stub.ListSessions(pb.ListSessionsRequest()).sessions)
    with pytest.raises(grpc.RpcError) as raised:
        stub.CloseSession(pb.CloseSessionRequest(id=session))
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_session_closed_by_others_ends_in_order_while_its_client_still_sends(stub: BacklineStub) -> None:
    audio = noise(2, 256)
    ended = threading.Event()

    def messages() -> Iterator[pb.ClientMessage]:
        yield from client(opening())
        for index in range(10_000):
            if index == 20:
                (session,) = stub.ListSessions(pb.ListSessionsRequest()).sessions
                stub.CloseSession(pb.CloseSessionRequest(id=session.id))
            if ended.wait(0.001):
                return
            yield pb.ClientMessage(audio=block(audio, index * 256, index))

    answer = Answer(stub.Stream(messages()))
    ended.set()
    assert answer.status is grpc.StatusCode.OK
    assert answer.messages[-1].WhichOneof("message") == "closed"
    output = answer.port()
    assert output.shape[1] >= 19 * 256
    assert np.array_equal(output, np.tile(audio, output.shape[1] // 256))


def test_the_number_of_sessions_is_limited(stub: BacklineStub) -> None:
    calls = [stub.Stream(held(opening())) for _ in range(8)]
    assert all(next(call).WhichOneof("message") == "ready" for call in calls)
    refused = Answer(stub.Stream(client(opening())))
    assert refused.status is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "all 8 sessions are taken: close one" in refused.details
    assert stub.GetStats(pb.GetStatsRequest()).sessions_refused == 1
    for call in calls:
        call.cancel()
    assert eventually(lambda: not stub.ListSessions(pb.ListSessionsRequest()).sessions)
    assert Answer(stub.Stream(client(opening()))).status is grpc.StatusCode.OK


def test_figures_are_counted(stub: BacklineStub, server: RunningServer) -> None:
    before = stub.GetStats(pb.GetStatsRequest())
    with Bystander(server.address):
        assert eventually(lambda: len(stub.GetStats(pb.GetStatsRequest()).by_session) == 1)
        (session,) = stub.GetStats(pb.GetStatsRequest()).by_session
        assert session.client_name == "bystander"
        assert eventually(lambda: stub.GetStats(pb.GetStatsRequest()).chunks > before.chunks)
    after = stub.GetStats(pb.GetStatsRequest())
    assert after.sessions_total == before.sessions_total + 1
    assert (after.device, after.version) == ("cpu", before.version)
    assert after.resident_bytes > 10_000_000


def test_health_and_reflection_answer(server: RunningServer) -> None:
    with grpc.insecure_channel(server.address, options=OPTIONS) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "backline.v1.Backline"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (listed,) = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]))
        assert "backline.v1.Backline" in {service.name for service in listed.list_services_response.service}


@pytest.mark.parametrize("patience", [0.0, 0.002, 0.02])
def test_a_client_that_leaves_while_its_session_opens_leaves_nothing_behind(
    stub: BacklineStub, patience: float
) -> None:
    call = stub.Stream(held(opening(pack="late")))
    time.sleep(patience)
    call.cancel()
    time.sleep(0.1)  # the server may still be opening it
    assert eventually(lambda: not stub.ListSessions(pb.ListSessionsRequest()).sessions)
