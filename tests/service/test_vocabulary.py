"""Texts, inputs, notes, frames and tasks over the wire, by both clients, live and as a render, beside a bystander."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from backline.service.server import start_server
from backline_client import (
    AsyncClient,
    BacklineError,
    Block,
    Client,
    Frames,
    InvalidRequest,
    Notes,
    NotFound,
    Rendering,
    Session,
    Text,
)
from backline_client.wire import Audio
from backline_protos.v1 import backline_pb2 as pb
from backline_protos.v1.backline_pb2_grpc import BacklineStub
from tests.support import everything
from tests.support.everything import CHUNK_FRAMES, CHUNK_SAMPLES, RATE, SIZES, EverythingStream, everything_pack

CHUNKS = 6
INPUTS = {"voice": 1, "band": 2}
NOTE_ON = bytes([0x90, 60, 100])
NOTE_AT = CHUNK_SAMPLES + 11


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        folder = everything_pack(tmp_path_factory.mktemp("packs"), patch)
        with start_server(packs=[folder], load=["everything"]) as server:
            yield server.address


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address) as client:
        yield client


@pytest.fixture
def stream(address: str) -> Iterator[EverythingStream]:
    stream = everything.LOADED[-1]
    yield stream
    stream.before_prepare = lambda text: None


def noise() -> Audio:
    return np.random.default_rng(3).uniform(-0.4, 0.4, (3, CHUNKS * CHUNK_SAMPLES)).astype(np.float32)


def codes() -> Any:
    return np.random.default_rng(4).integers(0, SIZES, (CHUNKS * CHUNK_FRAMES, 2))


def what_happens() -> list[Any]:
    return [Text("prompt", "drums", 3 * CHUNK_SAMPLES), Notes(NOTE_AT, NOTE_ON), Frames(0, codes())]


def expected(audio: Audio, *prompts: tuple[int, str]) -> Audio:
    """The main output: `prompts` are texts and where each comes into force."""
    weights = np.zeros(audio.shape[1], np.float32)
    for start, prompt in prompts:
        weights[start:] = np.float32(len(prompt) / 100)
    main = audio[1:] + weights * audio[:1]
    main[:, NOTE_AT] += 1.0
    return main


def check(rendering: Rendering) -> None:
    audio = noise()
    np.testing.assert_array_equal(rendering["main"], expected(audio, (0, "strings"), (3 * CHUNK_SAMPLES, "drums")))
    np.testing.assert_array_equal(rendering["voice"], audio[:1])
    assert rendering.texts == [Text("prompt", "drums", 3 * CHUNK_SAMPLES)]
    got = np.concatenate([frames.codes for frames in rendering.frames])
    np.testing.assert_array_equal(got, (codes() + 1) % SIZES)


def collected(session: Session, audio: Audio) -> Rendering:
    """All that a session answers, as a rendering."""
    rendering = Rendering(session.ready, audio.shape[1])
    while (event := session.receive_event(20)) is not None:
        rendering.take(event)
    return rendering


# ---- both clients, both calls ------------------------------------------------------------------------


def test_a_render_takes_all_that_a_session_takes(client: Client) -> None:
    options: Any = {"inputs": INPUTS, "texts": {"prompt": "strings"}, "want_frames": True}
    check(client.render("everything", noise(), RATE, changes=what_happens(), **options))


def test_a_session_gives_the_same(client: Client) -> None:
    audio = noise()
    with client.open(
        "everything", RATE, 3, block_size=500, offline=True, inputs=INPUTS, texts={"prompt": "strings"},
        want_frames=True,
    ) as session:  # fmt: skip
        assert dict(session.ready.texts) == {"prompt": "strings"}
        assert session.ready.task == "play"
        session.text("prompt", "drums", 3 * CHUNK_SAMPLES)
        session.midi(NOTE_AT, NOTE_ON)
        session.frames(codes()[:5])
        session.frames(codes()[5:])
        session.send(audio)
        session.end_input()
        check(collected(session, audio))


def test_the_client_of_asyncio_gives_the_same(address: str) -> None:
    options: Any = {"inputs": INPUTS, "texts": {"prompt": "strings"}, "want_frames": True}

    async def run() -> Rendering:
        async with AsyncClient(address) as client:
            return await client.render("everything", noise(), RATE, changes=what_happens(), **options)

    check(asyncio.run(run()))


def test_a_session_of_tokens_alone(client: Client) -> None:
    with client.open("everything", RATE, 3, offline=True, inputs=INPUTS, want_audio=False) as session:
        session.frames(codes())
        session.send(noise())
        session.end_input()
        events = list(iter(lambda: session.receive_event(20), None))
    assert not any(isinstance(event, Block) for event in events)
    got = np.concatenate([event.codes for event in events if isinstance(event, Frames)])
    np.testing.assert_array_equal(got, (codes() + 1) % SIZES)


def test_a_task_of_its_own(client: Client) -> None:
    audio = noise()[:1]
    rendering = client.render("everything", audio, RATE, changes=[Frames(0, codes())], task="hum")
    assert list(rendering) == ["voice"]
    assert rendering.ready.task == "hum"
    np.testing.assert_array_equal(rendering["voice"], audio)


def test_a_pack_says_all_that_it_takes(client: Client) -> None:
    pack = client.pack("everything")
    assert [(group.name, group.channels) for group in pack.inputs] == [("voice", 1), ("band", 2)]
    (text,) = pack.texts
    assert (text.name, text.default_value, list(text.suggestions)) == ("prompt", "a rhodes", ["a rhodes", "drums"])
    assert pack.takes_notes
    assert [(book.name, book.size, book.rate, book.track) for book in pack.takes] == [
        ("book0", 8, 25.0, "band"),
        ("book1", 16, 25.0, "band"),
    ]
    assert list(pack.codebooks) == list(pack.takes)
    assert {task.name: (list(task.ports), list(task.parameters)) for task in pack.tasks} == {
        "play": (["main", "voice"], ["style", "depth"]),
        "hum": (["voice"], ["depth"]),
    }
    assert list(pack.parameters[0].labels) == ["plain", "swing", "wild"]


# ---- what goes wrong, beside a bystander -------------------------------------------------------------


@pytest.fixture
def bystander(client: Client) -> Iterator[Session]:
    """A session that plays on, whatever happens: at the end it has given exactly what it should."""
    audio = noise()
    half = audio.shape[1] // 2
    with client.open("everything", RATE, 3, block_size=500, offline=True, inputs=INPUTS) as session:
        session.midi(NOTE_AT, NOTE_ON)
        session.frames(codes())
        session.send(audio[:, :half])
        yield session
        session.send(audio[:, half:])
        session.end_input()
        np.testing.assert_array_equal(collected(session, audio)["main"], expected(audio, (0, "a rhodes")))


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"inputs": {"choir": 3}}, NotFound, "no input 'choir'"),
        ({"inputs": {"voice": 1}}, InvalidRequest, "the session has 3"),
        ({"task": "polka"}, NotFound, "no task 'polka'"),
        ({"texts": {"lyrics": "la"}}, NotFound, "no text 'lyrics'"),
        ({"texts": {"prompt": "x" * 513}}, InvalidRequest, "513 bytes"),
        ({"texts": {"prompt": "a\0b"}}, InvalidRequest, "NUL"),
        ({"texts": {"prompt": "impossible"}}, InvalidRequest, "nobody can play that"),
    ],
)
def test_an_open_that_cannot_be(
    client: Client, bystander: Session, options: dict[str, Any], error: type[BacklineError], said: str
) -> None:
    with pytest.raises(error, match=said):
        client.open("everything", RATE, 3, **options)


@pytest.mark.parametrize(
    ("act", "error", "said"),
    [
        (lambda session: session.text("prompt", "x" * 513), InvalidRequest, "513 bytes"),
        (lambda session: session.text("prompt", "a\0b"), InvalidRequest, "NUL"),
        (lambda session: session.text("lyrics", "la"), NotFound, "no text 'lyrics'"),
        (lambda session: session.text("prompt", "impossible"), InvalidRequest, "nobody can play that"),
        (lambda session: session.text("prompt", "drums", 2**60), InvalidRequest, "position"),
        (lambda session: session.frames([[0, 99]]), InvalidRequest, "code 99 of codebook 'book1'"),
        (lambda session: session.frames([[0]]), InvalidRequest, "frames of 1 codebooks"),
        (lambda session: session.frames([[2**32 - 1, 0]]), InvalidRequest, "no codebook has so many"),
    ],
)
def test_a_message_that_cannot_be(
    client: Client,
    bystander: Session,
    act: Callable[[Session], None],
    error: type[BacklineError],
    said: str,
) -> None:
    session = client.open("everything", RATE, 3, inputs=INPUTS)
    act(session)
    with pytest.raises(error, match=said):
        list(session)


@pytest.mark.parametrize("codebooks", [0, 2, 3])
def test_frames_that_are_not_whole(address: str, bystander: Session, codebooks: int) -> None:
    opening = pb.Open(
        pack="everything",
        sample_rate=RATE,
        channels=3,
        block_size=500,
        inputs=[pb.InputGroup(name="voice", channels=3)],
    )
    frames = pb.CodecFrames(first_frame=0, codebooks=codebooks, codes=[1] * 7)
    with grpc.insecure_channel(address) as channel:
        call = BacklineStub(channel).Stream(iter([pb.ClientMessage(open=opening), pb.ClientMessage(frames=frames)]))
        with pytest.raises(grpc.RpcError) as raised:
            list(call)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_text_that_is_none(address: str, bystander: Session) -> None:
    """Bytes that are no UTF-8 where a text should be."""
    opening = pb.Open(pack="everything", sample_rate=RATE, channels=3, block_size=500, texts={"prompt": "abc"})
    wrong = pb.ClientMessage(open=opening).SerializeToString().replace(b"abc", b"a\xff\xfe")
    with grpc.insecure_channel(address) as channel:
        method = channel.stream_stream(
            "/backline.v1.Backline/Stream", response_deserializer=pb.ServerMessage.FromString
        )
        with pytest.raises(grpc.RpcError) as raised:
            list(method(iter([wrong])))
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_an_encoder_that_takes_its_time_or_fails(client: Client, bystander: Session, stream: EverythingStream) -> None:
    gate = stream.hold("slow")
    audio = noise()
    with client.open("everything", RATE, 3, block_size=500, offline=True, inputs=INPUTS) as session:
        session.text("prompt", "slow", 0)
        session.midi(NOTE_AT, NOTE_ON)
        session.frames(codes())
        session.send(audio)
        session.end_input()
        other = client.render("everything", audio, RATE, changes=what_happens(), inputs=INPUTS)  # meanwhile
        np.testing.assert_array_equal(other["voice"], audio[:1])
        gate.set()
        np.testing.assert_array_equal(collected(session, audio)["main"], expected(audio, (0, "slow")))

    def fail(text: str) -> None:
        raise RuntimeError("no encoder")

    stream.before_prepare = fail
    failing = client.open("everything", RATE, 3, inputs=INPUTS)
    failing.text("prompt", "a text that nobody has prepared yet")
    with pytest.raises(BacklineError, match="could not read 'a text that nobody has prepared yet'") as raised:
        list(failing)
    assert raised.value.status is grpc.StatusCode.ABORTED
