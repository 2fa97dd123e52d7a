"""What cannot be served ends its own call, with the status and the remedy of the contract, and no other."""

import re
import threading
from collections.abc import Iterator

import grpc
import numpy as np
import pytest

from backline.service.server import RunningServer
from backline_protos.v1 import backline_pb2 as pb
from backline_protos.v1.backline_pb2_grpc import BacklineStub
from tests.support.wire import OPTIONS, Answer, Bystander, block, blocks, client, eventually, noise, opening

INVALID = grpc.StatusCode.INVALID_ARGUMENT
MISSING = grpc.StatusCode.NOT_FOUND
BROKEN = grpc.StatusCode.FAILED_PRECONDITION
UNSERVED = grpc.StatusCode.UNIMPLEMENTED

AUDIO = noise(2, 512)
LOOP_OF_NOTHING = pb.Transport(tempo=96, looping=True, loop_start=np.nan, loop_end=4)
BAD = {
    "no message at all": ([], INVALID, "first message is missing: begin with Open"),
    "audio before Open": ([block(AUDIO)], INVALID, "first message is audio: begin with Open"),
    "unknown pack": ([opening(pack="pastrough")], MISSING, "no pack 'pastrough': did you mean 'passthrough'"),
    "no pack": ([opening(pack="")], MISSING, "no pack ''"),
    "unknown parameter": ([opening(parameters={"volume": 1.0})], MISSING, "no parameter 'volume' .*: use gain"),
    "parameter out of range": ([opening(parameters={"gain": 3.0})], INVALID, "'gain' is 3: use 0 to 1"),
    "parameter that is no number": ([opening(parameters={"gain": np.nan})], INVALID, "'gain' is nan: use 0 to 1"),
    "rate of nothing": ([opening(sample_rate=0)], INVALID, "sample rate is 0 Hz: use 8000 to 192000"),
    "rate below": ([opening(sample_rate=7_999)], INVALID, "sample rate is 7999 Hz"),
    "rate above": ([opening(sample_rate=2**32 - 1)], INVALID, "sample rate is 4294967295 Hz"),
    "no channels": ([opening(channels=0)], INVALID, "0 channels: use 1 to 64"),
    "too many channels": ([opening(channels=65)], INVALID, "65 channels: use 1 to 64"),
    "no block size": ([opening(block_size=0)], INVALID, "block size is 0: use 1 to"),
    "huge block size": ([opening(block_size=2**31)], INVALID, "block size is 2147483648"),
    "chunk between multiples": ([opening(chunk_seconds=0.0105)], INVALID, "chunk is 0.0105 s: use a multiple of 0.001"),
    "chunk of nothing": ([opening(chunk_seconds=0)], INVALID, "chunk is 0 s"),
    "chunk too long": ([opening(chunk_seconds=1e9)], INVALID, "chunk is 1e.09 s: use .* up to 4 s"),
    "chunk that is no number": ([opening(chunk_seconds=np.nan)], INVALID, "chunk is nan s"),
    "endless chunk": ([opening(chunk_seconds=np.inf)], INVALID, "chunk is inf s"),
    "visibility beyond the chunk": ([opening(visibility_seconds=0.011)], INVALID, "visibility is 0.011 s: use -2 to "),
    "visibility too early": ([opening(visibility_seconds=-3)], INVALID, "visibility is -3 s: use -2 to 0.01"),
    "visibility that is no number": ([opening(visibility_seconds=np.nan)], INVALID, "visibility is nan s"),
    "jitter buffer that is no number": ([opening(jitter_buffer_seconds=np.nan)], INVALID, "jitter buffer is nan s"),
    "oversized block": ([opening(), block(noise(2, 513))], INVALID, "block of 513 samples: .* at most 512"),
    "half a sample": ([opening(), pb.AudioBlock(pcm=b"123456")], INVALID, "pcm holds 6 bytes: .* a multiple of 8"),
    "half a frame": ([opening(), pb.AudioBlock(pcm=bytes(12))], INVALID, "pcm holds 12 bytes"),
    "time going backwards": ([opening(), block(AUDIO, 512), block(AUDIO, 511)], INVALID, "position 511 goes back"),
    "time leaping ahead": ([opening(), block(AUDIO), block(AUDIO, 2**50)], INVALID, "leaves a gap"),
    "audio at the end of time": ([opening(), block(AUDIO, 2**63 - 1)], INVALID, "position 9223372036854775807: use -2"),
    "audio before all time": ([opening(), block(AUDIO, -(2**63))], INVALID, r"-9223372036854775808: use -2\^53 to"),
    "audio where doubles end": ([opening(), block(AUDIO, 2**53 + 1)], INVALID, r"use -2\^53 to 2\^53 samples"),
    "control at the end of time": ([opening(), pb.Control(parameter="gain", position=2**63 - 1)], INVALID, "7: use -2"),
    "midi at the end of time": ([opening(), pb.Midi(position=2**62, data=b"\xc0\1")], INVALID, "4: use -2"),
    "transport at the end of time": ([opening(), pb.Transport(position=-(2**62), tempo=1)], INVALID, "4: use"),
    "a song without end": ([opening(), pb.Transport(tempo=1, song_position=1e308)], INVALID, "song position 1e.308"),
    "a bar without beginning": ([opening(), pb.Transport(tempo=1, bar_start=-1e308)], INVALID, "bar start -1e.308"),
    "too much midi at once": ([opening(), pb.Midi(data=b"\x90<d" * 5_000_000)], INVALID, "only one that carries audio"),
    "more midi than there are notes": ([opening(), pb.Midi(data=b"\x90<d" * 3_000)], INVALID, "9000 bytes: .* 8192"),
    "a client of endless name": ([opening(client_name="ü" * 200)], INVALID, "client's name 'ü{60}…' is 400 bytes long"),
    "a pack of endless name": ([opening(pack="ü" * 30_000)], MISSING, "no pack 'ü{60}…'"),
    "a parameter of endless name": ([opening(parameters={"%" * 30_000: 0})], MISSING, "no parameter '%{60}…'"),
    "a control of endless name": ([opening(), pb.Control(parameter="\n" * 30_000)], MISSING, "no parameter .*: use"),
    "second Open": ([opening(), block(AUDIO), opening()], INVALID, "a second Open"),
    "empty message": ([opening(), None], INVALID, "empty message"),
    "unknown control": ([opening(), pb.Control(parameter="volume")], MISSING, "no parameter 'volume'"),
    "control out of range": ([opening(), pb.Control(parameter="gain", value=-1)], INVALID, "'gain' is -1: use 0 to 1"),
    "tempo of nothing": ([opening(), pb.Transport(tempo=0)], INVALID, "tempo 0"),
    "tempo that is no number": ([opening(), pb.Transport(tempo=np.nan)], INVALID, "tempo nan"),
    "resume of nothing": ([pb.Resume(token="x")], MISSING, "no session to take up: open a new one"),
    "resume later": ([opening(), pb.Resume(token="x")], INVALID, "a second Resume"),
    "a lease that is no number": ([opening(lease_seconds=np.nan)], INVALID, "a lease of nan s: use 0 or more"),
    "a lease below nothing": ([opening(lease_seconds=-1)], INVALID, "a lease of -1 s"),
    "more acknowledged than sent": ([opening(lease_seconds=9), pb.Ack(received=9)], INVALID, "9 messages ack.*, and 0"),
    "marker at the end of time": ([opening(), pb.Marker(position=2**62)], INVALID, "marker at position 46.*4: use -2"),
    "midi of no message": ([opening(), pb.Midi()], INVALID, "midi data without bytes: send whole channel messages"),
    "midi that begins in the midst": ([opening(), pb.Midi(data=b"<d")], INVALID, "midi data 3c 64"),
    "midi cut short": ([opening(), pb.Midi(data=b"\x90<d\x80<")], INVALID, "midi data 90 3c 64 80 3c: send whole"),
    "midi that is no channel's": ([opening(), pb.Midi(data=b"\xf8")], INVALID, "midi data f8"),
    "midi before the session": ([opening(), block(AUDIO, 9), pb.Midi(position=8, data=b"\xc0\1")], INVALID, "8 is out"),
    "midi far ahead": ([opening(), block(AUDIO), pb.Midi(position=2**50, data=b"\xc0\1")], INVALID, "is outside of"),
    "a jump that is none": ([opening(on_jump=7)], INVALID, "on_jump 7 is none of ON_JUMP_UNSPECIFIED"),
    "a loop that is no number": ([opening(), LOOP_OF_NOTHING], INVALID, "loop to nan: use -1e7 to 1e7 quarter notes"),
    "a take beyond all time": ([opening(), pb.Take(position=2**60)], INVALID, "take at position .*: use -2.53 to 2.53"),
    "an endless wait": ([opening(), pb.Midi(data=b"\x90<d", after=2**60)], INVALID, "midi comes after at position"),
    "truncated pack": ([opening(pack="torn")], BROKEN, r"'torn' .*codec\.safetensors is damaged .*install"),
    "altered pack": ([opening(pack="bent")], BROKEN, r"'bent' .*codec\.safetensors has changed .*install"),
    "missing weights": ([opening(pack="bare")], BROKEN, r"pack 'bare' .*codec\.safetensors is missing"),
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def bystander(server: RunningServer) -> Iterator[Bystander]:
    """Plays through all the tests of this file; checks at the end that its output is exact and complete."""
    with Bystander(server.address) as bystander:
        yield bystander


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_its_call_with_status_and_remedy(stub: BacklineStub, case: str) -> None:
    messages, status, remedy = BAD[case]
    answer = Answer(stub.Stream(client(*messages)))
    assert answer.status is status
    assert re.search(remedy, answer.details), answer.details
    error = answer.messages[-1].error  # for clients that cannot read trailers
    assert (error.status, error.message) == (status.value[0], answer.details)
    assert eventually(lambda: len(stub.ListSessions(pb.ListSessionsRequest()).sessions) == 1)


@pytest.mark.parametrize(
    "case", ["audio before Open", "unknown pack", "rate below", "time going backwards", "half a frame"]
)
def test_a_render_is_refused_alike(stub: BacklineStub, case: str) -> None:
    messages, status, remedy = BAD[case]
    answer = Answer(stub.Render(client(*messages, envelope=pb.RenderRequest)))
    assert answer.status is status
    assert re.search(remedy, answer.details), answer.details


def test_non_finite_samples_become_zero_and_are_counted(stub: BacklineStub) -> None:
    audio = noise(2, 2_048)
    audio[0, 100], audio[1, 700], audio[:, 1_500] = np.nan, np.inf, -np.inf
    answer = Answer(stub.Stream(client(opening(), *blocks(audio, [512]), pb.Close())))
    assert answer.status is grpc.StatusCode.OK
    assert np.array_equal(answer.port(), np.nan_to_num(audio, nan=0, posinf=0, neginf=0))
    counts = [warning.count for warning in answer.of("warning") if warning.code == "non_finite_input"]
    assert counts[0] == 1
    assert counts[-1] >= 2


@pytest.mark.parametrize("how", ["cancels", "loses its connection"])
def test_a_client_that_vanishes_leaves_nothing_behind(server: RunningServer, stub: BacklineStub, how: str) -> None:
    def names() -> list[str]:
        return [session.client_name for session in stub.ListSessions(pb.ListSessionsRequest()).sessions]

    def messages() -> Iterator[pb.ClientMessage]:
        yield from client(opening(client_name="ghost"), block(AUDIO))
        vanished.wait(20)

    vanished = threading.Event()
    with grpc.insecure_channel(server.address, options=OPTIONS) as channel:
        call = BacklineStub(channel).Stream(messages())
        assert [next(call).WhichOneof("message") for _ in range(2)] == ["ready", "audio"]
        assert sorted(names()) == ["bystander", "ghost"]
        if how == "cancels":
            call.cancel()
        else:
            channel.close()
        assert eventually(lambda: names() == ["bystander"])
        vanished.set()


def test_a_stream_that_ends_without_close_is_closed(stub: BacklineStub) -> None:
    audio = noise(2, 1_000)
    answer = Answer(stub.Stream(client(opening(), *blocks(audio, [300]))))
    assert answer.status is grpc.StatusCode.OK
    assert np.array_equal(answer.port(), audio)
    assert answer.messages[-1].closed.samples_in == 1_000
