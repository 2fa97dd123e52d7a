"""What is no message, or too large a one, is the client's fault and is told so; no long name hides a status."""

import logging
import time
from collections.abc import Iterator

import grpc
import numpy as np
import pytest

from backline.engine.limits import MAXIMUM_BLOCK, MAXIMUM_CHANNELS, MESSAGE_BYTES, OTHER_BYTES, STATUS_BYTES
from backline.models.errors import PackError
from backline.service.server import RunningServer
from backline.service.status import status_of
from backline_protos.v1 import backline_pb2 as pb
from backline_protos.v1.backline_pb2_grpc import BacklineStub
from tests.support.wire import OPTIONS, Answer, Bystander, block, client, eventually, held, noise, opening

INVALID = grpc.StatusCode.INVALID_ARGUMENT
GARBAGE = {
    "a tag without a field": b"\xff\xff\xff\xff",
    "a length beyond the end": b"\x0a\xff\x01",
    "text that is no UTF-8": b"\x0a\x03\x0a\x01\xff",
    "a group that never ends": b"\x0b" * 300,
    "a call to a web server": b"GET / HTTP/1.1\r\n\r\n",
}
UNARY = ["ListPacks", "GetPack", "LoadPack", "UnloadPack", "ListSessions", "CloseSession", "GetStats"]
BROKEN = b"\x0a\xff\x01"  # for any message: field 1 has 255 bytes, and there are none


@pytest.fixture
def channel(server: RunningServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address, options=OPTIONS) as channel:
        yield channel


@pytest.fixture(autouse=True)
def nothing_is_logged_as_a_fault(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info]


def raw(channel: grpc.Channel, method: str, messages: list[bytes]) -> Answer:
    """A call that sends these bytes as its messages."""
    call = channel.stream_stream(f"/backline.v1.Backline/{method}", lambda data: data, pb.ServerMessage.FromString)
    return Answer(call(iter(messages)))


@pytest.mark.parametrize("case", GARBAGE)
@pytest.mark.parametrize("method", ["Stream", "Render"])
def test_bytes_that_are_no_message_end_their_call_only(
    server: RunningServer, channel: grpc.Channel, method: str, case: str
) -> None:
    first = pb.ClientMessage(open=opening()).SerializeToString()
    with Bystander(server.address):
        for messages in ([GARBAGE[case]], [first, GARBAGE[case]]):
            answer = raw(channel, method, messages)
            assert answer.status is INVALID, answer.details
            assert "no message of the contract: send messages of this service" in answer.details
    stub = BacklineStub(channel)
    assert eventually(lambda: not stub.ListSessions(pb.ListSessionsRequest()).sessions)


@pytest.mark.parametrize("method", UNARY)
def test_requests_that_are_none_are_refused_by_every_call(channel: grpc.Channel, method: str) -> None:
    call = channel.unary_unary(f"/backline.v1.Backline/{method}", lambda data: data, lambda data: data)
    for data, remedy in ((BROKEN, "no message of the contract"), (b"\x0a" * (OTHER_BYTES + 1), "may exceed 65536")):
        with pytest.raises(grpc.RpcError) as raised:
            call(data)
        assert raised.value.code() is INVALID
        assert remedy in raised.value.details()


@pytest.mark.parametrize(
    "method",
    [
        "grpc.health.v1.Health/Check",
        "grpc.health.v1.Health/Watch",
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ],
)
def test_the_services_beside_ours_refuse_what_is_no_message(
    channel: grpc.Channel, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    call = channel.stream_stream(f"/{method}", request_serializer=bytes, response_deserializer=bytes)
    with pytest.raises(grpc.RpcError) as caught:
        list(call(iter([b"\xff\xff\xff"]), timeout=20))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]
    assert not [record for record in caplog.records if record.exc_info]


def test_the_largest_block_is_taken_and_a_larger_one_is_named(stub: BacklineStub) -> None:
    audio = noise(MAXIMUM_CHANNELS, MAXIMUM_BLOCK)
    first = opening(channels=MAXIMUM_CHANNELS, block_size=MAXIMUM_BLOCK)
    answer = Answer(stub.Stream(client(first, block(audio), pb.Close())))
    assert answer.status is grpc.StatusCode.OK, answer.details
    assert np.array_equal(answer.port(), audio)
    longer = np.concatenate([audio, audio[:, :100]], axis=1)
    answer = Answer(stub.Stream(client(first, block(longer))))
    assert answer.status is INVALID
    assert f"block of {MAXIMUM_BLOCK + 100} samples: this session takes at most {MAXIMUM_BLOCK}" in answer.details


def test_what_no_block_needs_is_not_even_read(server: RunningServer, stub: BacklineStub) -> None:
    with Bystander(server.address):
        answer = Answer(stub.Stream(client(opening(), pb.AudioBlock(pcm=bytes(MESSAGE_BYTES + 1)))))
        assert answer.status in (grpc.StatusCode.RESOURCE_EXHAUSTED, INVALID)
        assert str(MESSAGE_BYTES) in answer.details


def test_a_message_that_is_large_without_audio_costs_the_others_nothing(
    server: RunningServer, stub: BacklineStub
) -> None:
    """A session of its own, whose every byte would be looked at for seconds."""
    huge = [
        opening(parameters={f"p{index}": 1.0 for index in range(200_000)}),
        opening(pack="x" * 10_000_000),
        opening(client_name="x" * 10_000_000),
    ]
    with Bystander(server.address):
        for first in huge:
            begin = time.monotonic()
            answer = Answer(stub.Stream(client(first)))
            assert time.monotonic() - begin < 5.0
            assert answer.status is INVALID
            assert f"only one that carries audio may exceed {OTHER_BYTES}" in answer.details
        midi = Answer(stub.Stream(client(opening(), pb.Midi(data=b"\x90<d" * 5_000_000))))
        assert midi.status is INVALID


@pytest.mark.parametrize("name", ["x" * 20_000, "ü" * 20_000, "%" * 20_000, "\n" * 20_000, "'" * 250, "é" * 250])
def test_a_long_name_is_not_found_and_nothing_else(stub: BacklineStub, name: str) -> None:
    for call, request in (
        (stub.GetPack, pb.GetPackRequest(name=name)),
        (stub.LoadPack, pb.LoadPackRequest(name=name)),
        (stub.UnloadPack, pb.UnloadPackRequest(name=name)),
        (stub.CloseSession, pb.CloseSessionRequest(id=name)),
    ):
        with pytest.raises(grpc.RpcError) as raised:
            call(request)
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND, raised.value.details()
    answer = Answer(stub.Stream(client(opening(pack=name))))
    assert answer.status is grpc.StatusCode.NOT_FOUND
    answer = Answer(stub.Stream(held(opening(parameters={name: 1.0}))))
    assert answer.status is grpc.StatusCode.NOT_FOUND
    assert answer.messages[-1].error.message == answer.details


@pytest.mark.parametrize("letter", ["x", "ü", "%", "\n", "\udcff"])
def test_a_status_is_never_longer_than_a_header_may_be(letter: str) -> None:
    status, message = status_of(PackError([letter * 100] * 1_000))
    assert status is grpc.StatusCode.FAILED_PRECONDITION
    assert message.startswith("the pack cannot be loaded: ")
    escaped = sum(1 if 0x20 <= byte < 0x7F and byte != 0x25 else 3 for byte in message.encode())
    assert escaped <= STATUS_BYTES + 9  # the last sign says that there was more
