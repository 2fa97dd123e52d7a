"""A HAFM of random weights behind a real server: seeded, independent of blocks, and as long as its input."""

import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from backline.models.hafm.load import tiny_random
from backline.packs.pack import write_pack
from backline.service.server import start_server
from backline_protos.v1 import backline_pb2 as pb
from backline_protos.v1.backline_pb2_grpc import BacklineStub
from tests.support.wire import OPTIONS, Answer, Bystander, Message, blocks, client, noise, opening

COUNT = 60_001  # samples of the input: 1.25 s at 48 kHz
FIRST = opening(pack="tiny", block_size=4_096, chunk_seconds=0.2, visibility_seconds=0.2, seed=5, want_frames=True)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("packs") / "tiny"
    write_pack(folder, *tiny_random())
    with start_server(packs=[folder], load=["tiny"], device="cpu") as server:
        yield server.address


@pytest.fixture(scope="module")
def stub(address: str) -> Iterator[BacklineStub]:
    with grpc.insecure_channel(address, options=OPTIONS) as channel:
        yield BacklineStub(channel)


@pytest.fixture(scope="module")
def streamed(stub: BacklineStub) -> Answer:
    """What everything else must equal."""
    return Answer(stub.Stream(client(FIRST, *blocks(0.1 * noise(2, COUNT), [512]))))


def codes(answer: Answer) -> np.ndarray:
    """[frame, codebook]; checks that no frame is missing."""
    parts = [np.reshape(frames.codes, (-1, frames.codebooks)) for frames in answer.of("frames")]
    ends = np.cumsum([len(part) for part in parts])
    assert [frames.first_frame for frames in answer.of("frames")] == [0, *ends[:-1]]
    return np.concatenate(parts)


def test_output_is_as_long_as_the_input_finite_and_not_silent(streamed: Answer) -> None:
    assert streamed.status is grpc.StatusCode.OK, streamed.details
    audio = streamed.port()
    assert audio.shape == (streamed.ready.ports[0].channels, COUNT)
    assert np.isfinite(audio).all()
    assert np.abs(audio).max() > 0
    assert codes(streamed).shape[0] >= COUNT / 48_000 * 75


@pytest.mark.parametrize("sizes", [[4_096], [64, 1_000, 7]], ids=str)
def test_block_sizes_do_not_show(stub: BacklineStub, address: str, streamed: Answer, sizes: list[int]) -> None:
    with Bystander(address):
        again = Answer(stub.Stream(client(FIRST, *blocks(0.1 * noise(2, COUNT), sizes))))
    assert np.array_equal(codes(again), codes(streamed))
    assert np.array_equal(again.port(), streamed.port())


def test_a_render_gives_the_tokens_of_the_stream(stub: BacklineStub, streamed: Answer) -> None:
    requests = client(FIRST, *blocks(0.1 * noise(2, COUNT), [4_096]), envelope=pb.RenderRequest)
    rendered = Answer(stub.Render(requests))
    assert np.array_equal(codes(rendered), codes(streamed))
    assert np.array_equal(rendered.port(), streamed.port())


def test_another_seed_plays_something_else(stub: BacklineStub, streamed: Answer) -> None:
    other = pb.Open()
    other.CopyFrom(FIRST)
    other.seed = 6
    assert not np.array_equal(
        codes(Answer(stub.Stream(client(other, *blocks(0.1 * noise(2, COUNT), [512]))))), codes(streamed)
    )


def test_parameters_are_checked_by_their_ranges(stub: BacklineStub) -> None:
    known = {parameter.name: parameter for parameter in stub.GetPack(pb.GetPackRequest(name="tiny")).parameters}
    for parameter in known.values():
        first = opening(pack="tiny", chunk_seconds=0.2, parameters={parameter.name: parameter.maximum * 2 + 1})
        answer = Answer(stub.Stream(client(first)))
        assert answer.status is grpc.StatusCode.INVALID_ARGUMENT
        assert f"{parameter.name!r} is " in answer.details
    assert (
        "no parameter 'loudness' in 'tiny': use " + ", ".join(known)
        in Answer(stub.Stream(client(opening(pack="tiny", chunk_seconds=0.2, parameters={"loudness": 1})))).details
    )


def test_transport_reaches_the_model_without_ending_anything(stub: BacklineStub) -> None:
    beat = pb.Transport(position=0, playing=True, tempo=120, numerator=3, denominator=4)
    answer = Answer(stub.Stream(client(FIRST, beat, *blocks(0.1 * noise(2, COUNT), [512]))))
    assert answer.status is grpc.StatusCode.OK
    assert answer.port().shape[1] == COUNT


def test_a_neighbour_that_sends_the_worst_that_may_be_sent_is_not_heard(stub: BacklineStub, streamed: Answer) -> None:
    """In one batch with it: positions at both ends of time, a song that is nowhere, changes by the ten thousand."""
    far = [2**53, -(2**53)]
    worst: list[Message] = [
        pb.Transport(position=at, playing=True, tempo=999, song_position=1e7, bar_start=-1e7) for at in far
    ]
    worst += [pb.Transport(position=0, playing=True, tempo=5e-324, denominator=64, song_position=-1e7, bar_start=1e7)]
    worst += [pb.Control(parameter="temperature", value=1.0, position=at % 40_000) for at in range(20_000)]
    worst += [pb.Midi(position=0, data=b"\x90<d" * 2_000)] * 20
    beyond = pb.Transport(position=0, playing=True, tempo=120, song_position=1e308, bar_start=-1e308)
    answers: list[Answer] = []

    def disturb() -> None:
        messages = client(FIRST, *worst, *blocks(0.1 * noise(2, COUNT), [512]), beyond)
        answers.append(Answer(stub.Stream(messages)))

    neighbour = threading.Thread(target=disturb)
    neighbour.start()
    again = Answer(stub.Stream(client(FIRST, *blocks(0.1 * noise(2, COUNT), [512]))))
    neighbour.join()
    assert np.array_equal(codes(again), codes(streamed))
    assert np.array_equal(again.port(), streamed.port())
    assert answers[0].status is grpc.StatusCode.INVALID_ARGUMENT
    assert "song position 1e+308: use -1e7 to 1e7" in answers[0].details


def test_a_pack_whose_tensors_do_not_fit_says_all_that_is_wrong(tmp_path: Path) -> None:
    config, tensors = tiny_random()
    wrong = {name: tensor for name, tensor in tensors.items() if not name.startswith("codec.")}
    name = next(name for name in wrong if name.startswith("coarse.") and wrong[name].dim() == 2)
    wrong[name] = wrong[name][:-1]
    write_pack(tmp_path / "wrong", {**config, "name": "wrong"}, wrong)
    with (
        start_server(packs=[tmp_path], device="cpu") as server,
        grpc.insecure_channel(server.address, options=OPTIONS) as channel,
    ):
        answer = Answer(BacklineStub(channel).Stream(client(opening(pack="wrong", chunk_seconds=0.2))))
    assert answer.status is grpc.StatusCode.FAILED_PRECONDITION
    assert "pack 'wrong' cannot be loaded" in answer.details
    assert name in answer.details
    assert "codec" in answer.details
