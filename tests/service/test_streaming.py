"""Audio through a real server comes back bit for bit, in its place, whatever the rate, the channels and the blocks."""

import logging
import threading
import time
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backline.service.server import RunningServer, start_server
from backline_protos.v1 import backline_pb2 as pb
from backline_protos.v1.backline_pb2_grpc import BacklineStub
from tests.support.clock import TurnedClock
from tests.support.wire import OPTIONS, Answer, block, blocks, client, eventually, held, noise, opening


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000, 192_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("sizes", [[32], [512], [1, 511, 64]], ids=str)
def test_output_is_the_input_at_its_positions(stub: BacklineStub, rate: int, channels: int, sizes: list[int]) -> None:
    audio = noise(channels, rate // 20 + 7)
    first = opening(sample_rate=rate, channels=channels)
    answer = Answer(stub.Stream(client(first, *blocks(audio, sizes, start=12_345), pb.Close())))
    assert answer.status is grpc.StatusCode.OK
    assert np.array_equal(answer.port(), audio)
    assert answer.of("audio")[0].position == 12_345
    assert answer.of("closed")[0].samples_out == audio.shape[1]


@settings(max_examples=20, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 512), min_size=1, max_size=5),
    chunk=st.integers(1, 40),
    count=st.integers(1, 4_000),
    start=st.integers(-(2**40), 2**40),
)
def test_neither_blocks_nor_chunks_nor_the_start_show(
    server_address: str, sizes: list[int], chunk: int, count: int, start: int
) -> None:
    audio = noise(2, count)
    with grpc.insecure_channel(server_address, options=OPTIONS) as channel:
        messages = client(opening(chunk_seconds=chunk / 1000), *blocks(audio, sizes, start))
        answer = Answer(BacklineStub(channel).Stream(messages))
    assert np.array_equal(answer.port(), audio)
    assert [entry.sequence for entry in answer.of("audio")] == list(range(len(answer.of("audio"))))


def test_every_port_gets_its_stem(stub: BacklineStub) -> None:
    audio = noise(2, 5_000)
    answer = Answer(stub.Stream(client(opening(pack="stems"), *blocks(audio, [512]))))
    assert [(port.name, port.channels) for port in answer.ready.ports] == [
        (name, 2) for name in ("vocals", "drums", "bass", "other")
    ]
    for port in range(4):
        assert np.array_equal(answer.port(port), audio)


def test_an_impulse_comes_back_where_it_went_in_and_not_before_the_declared_latency(stub: BacklineStub) -> None:
    audio = np.zeros((2, 96_000), np.float32)
    audio[:, 30_000] = 1.0
    sent: list[int] = []

    def messages() -> Iterator[pb.ClientMessage]:
        yield from client(opening(pack="late", chunk_seconds=0.01))
        for entry in blocks(audio, [480]):
            sent.append(entry.position + 480)
            yield pb.ClientMessage(audio=entry)
            time.sleep(0.0002)

    call = stub.Stream(messages())
    for message in call:
        if message.WhichOneof("message") == "ready":
            front_end = next(item for item in message.ready.ledger.items if item.name == "front_end")
            assert front_end.seconds == 1.0
            assert message.ready.ledger.latency_samples >= 48_000 + 480
        elif message.WhichOneof("message") == "audio":
            piece = np.frombuffer(message.audio.pcm, "<f4").reshape(-1, 2)
            end = message.audio.position + piece.shape[0]
            assert sent[-1] == audio.shape[1] or sent[-1] >= end + 48_000
            (where,) = np.nonzero(piece[:, 0])
            assert [message.audio.position + index for index in where] in ([], [30_000])


def test_a_render_is_the_stream_without_a_clock(stub: BacklineStub) -> None:
    audio = noise(2, 20_000)
    requests = client(opening(), *blocks(audio, [512]), envelope=pb.RenderRequest)
    answer = Answer(stub.Render(requests))
    assert answer.status is grpc.StatusCode.OK
    assert np.array_equal(answer.port(), audio)
    assert answer.of("closed")[0].samples_in == 20_000


def test_a_live_session_in_time_loses_nothing() -> None:
    audio, clock = noise(2, 9_600), TurnedClock()

    def paced() -> Iterator[pb.ClientMessage]:
        yield from client(opening(mode=pb.MODE_LIVE, chunk_seconds=0.1, jitter_buffer_seconds=0.5))
        for entry in blocks(audio, [480]):
            clock.turn(480 / 48_000)
            yield pb.ClientMessage(audio=entry)

    with (
        start_server(device="cpu", clock=clock) as server,
        grpc.insecure_channel(server.address, options=OPTIONS) as channel,
    ):
        answer = Answer(BacklineStub(channel).Stream(paced()))
        clock.release()
    assert np.array_equal(answer.port(), audio)
    (jitter,) = [item.seconds for item in answer.ready.ledger.items if item.name == "jitter_buffer"]
    assert jitter == 0.5


def test_a_gap_in_the_input_is_silence_and_a_warning(stub: BacklineStub) -> None:
    audio = noise(2, 1_500)
    answer = Answer(stub.Stream(client(opening(), block(audio[:, :500]), block(audio[:, 1_000:], 1_000))))
    expected = audio.copy()
    expected[:, 500:1_000] = 0
    assert np.array_equal(answer.port(), expected)
    (warning,) = answer.of("warning")
    assert (warning.code, warning.count, warning.position) == ("input_gap", 500, 1_000)


def test_a_control_is_in_force_from_its_position(stub: BacklineStub) -> None:
    audio = noise(1, 4_800)
    change = pb.Control(parameter="gain", value=0.5, position=2_400)
    answer = Answer(stub.Stream(client(opening(channels=1, parameters={"gain": 1.0}), change, *blocks(audio, [480]))))
    factor = np.where(np.arange(4_800) < 2_400, 1.0, 0.5).astype(np.float32)
    assert np.array_equal(answer.port(), audio * factor)
    assert answer.ready.parameters == {"gain": 1.0}


def test_midi_is_passed_over_with_one_warning(stub: BacklineStub) -> None:
    audio = noise(2, 4_800)
    notes = [pb.Midi(position=at, data=b"\x90<d\x80<\0") for at in range(0, 4_800, 100)]
    answer = Answer(stub.Stream(client(opening(), *notes, *blocks(audio, [480]), pb.Close())))
    assert (answer.status, answer.details) == (grpc.StatusCode.OK, "")
    assert np.array_equal(answer.port(), audio)
    assert [(warning.code, warning.count) for warning in answer.of("warning")] == [("midi_unused", 1)]


def test_ready_says_what_was_granted(stub: BacklineStub) -> None:
    ready = Answer(stub.Stream(client(opening(seed=2**64 - 1, chunk_seconds=1 / 1000, visibility_seconds=-0.5)))).ready
    assert (ready.seed, ready.chunk_seconds, ready.visibility_seconds) == (2**64 - 1, 0.001, -0.5)
    assert (ready.max_block, ready.parameters) == (512, {"gain": 1.0})
    assert ready.token


def test_defaults_are_the_packs_and_the_seed_is_drawn(stub: BacklineStub) -> None:
    first = pb.Open(pack="passthrough", sample_rate=48_000, channels=1, block_size=64)
    one, two = (Answer(stub.Stream(client(first))).ready for _ in range(2))
    assert one.chunk_seconds == one.visibility_seconds == 0.01
    assert one.seed != two.seed
    assert one.session != two.session


def test_a_client_that_does_not_read_comes_to_a_halt_and_then_gets_everything(stub: BacklineStub) -> None:
    count = 1_000
    audio = noise(8, 4_096)
    taken = 0

    def messages() -> Iterator[pb.ClientMessage]:
        nonlocal taken
        yield from client(opening(channels=8, block_size=4_096, chunk_seconds=0.05))
        for index in range(count):
            yield pb.ClientMessage(audio=block(audio, index * 4_096, index))
            taken += 1

    call = stub.Stream(messages())
    still = threading.Event()
    seen = -1
    while taken != seen:  # until it has stopped taking, for want of room
        seen = taken
        still.wait(0.3)
    assert 0 < taken < count // 2
    answer = Answer(call)
    assert (answer.status, taken) == (grpc.StatusCode.OK, count)
    output = answer.port()
    assert output.shape == (8, count * 4_096)
    assert all(np.array_equal(output[:, at : at + 4_096], audio) for at in range(0, output.shape[1], 4_096))


def test_a_client_that_goes_in_the_midst_of_a_message_is_no_fault_of_the_server(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    """64 channels, of which no message fits into what may be on its way."""
    first = opening(channels=64, sample_rate=192_000, block_size=4_096, mode=pb.MODE_LIVE, jitter_buffer_seconds=60)
    audio = noise(64, 4_096)
    with grpc.insecure_channel(server.address, options=OPTIONS) as channel:
        stub = BacklineStub(channel)
        calls = [stub.Stream(held(first, *blocks(np.tile(audio, 8), [4_096]))) for _ in range(4)]
        assert eventually(
            lambda: [s.chunks > 5 for s in stub.ListSessions(pb.ListSessionsRequest()).sessions] == [True] * 4
        )
        for call in calls:
            call.cancel()
        assert eventually(lambda: not stub.ListSessions(pb.ListSessionsRequest()).sessions)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_many_sessions_play_at_once(stub: BacklineStub) -> None:
    audios = [noise(2, 10_000 + 100 * index, seed=index) for index in range(6)]
    answers: dict[int, Answer] = {}

    def play(index: int) -> None:
        answers[index] = Answer(stub.Stream(client(opening(), *blocks(audios[index], [64 + index]))))

    threads = [threading.Thread(target=play, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    for index, audio in enumerate(audios):
        assert np.array_equal(answers[index].port(), audio)
    assert eventually(lambda: not stub.ListSessions(pb.ListSessionsRequest()).sessions)
