"""Talks to a real server as the contract says, without the client library: raw messages in, raw messages out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import grpc
import numpy as np

from backline.models.stream import Audio
from backline_protos.v1 import backline_pb2 as pb
from backline_protos.v1.backline_pb2_grpc import BacklineStub

Message: TypeAlias = (
    "pb.Open | pb.Resume | pb.AudioBlock | pb.Control | pb.Transport | pb.Midi | pb.Marker | pb.Credit | pb.Close"
)

CHUNK = 0.01  # seconds; of the sessions that these helpers open
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
]


def noise(channels: int, count: int, seed: int = 0) -> Audio:
    return np.random.default_rng(seed).uniform(-1, 1, (channels, count)).astype(np.float32)


def opening(**fields: object) -> pb.Open:
    """A session that can be served, but for what `fields` make of it."""
    usual = {"pack": "passthrough", "sample_rate": 48_000, "channels": 2, "block_size": 512, "chunk_seconds": CHUNK}
    return pb.Open(**{**usual, "mode": pb.MODE_OFFLINE, **fields})  # type: ignore[arg-type]


def block(audio: Audio, position: int = 0, sequence: int = 0) -> pb.AudioBlock:
    return pb.AudioBlock(position=position, sequence=sequence, pcm=audio.T.astype("<f4").tobytes())


def blocks(audio: Audio, sizes: Iterable[int], start: int = 0) -> Iterator[pb.AudioBlock]:
    """`audio` [channel, sample] in blocks of `sizes`, over and over; the first at position `start`."""
    sizes = list(sizes)
    done = sequence = 0
    while done < audio.shape[1]:
        piece = audio[:, done : done + sizes[sequence % len(sizes)]]
        yield block(piece, start + done, sequence)
        done += piece.shape[1]
        sequence += 1


def client(*messages: Message | None, envelope: Callable[..., Any] = pb.ClientMessage) -> Iterator[Any]:
    """Each message in the envelope that it goes up the call in; None: an envelope with nothing in it."""
    names = {field.message_type.name: field.name for field in pb.ClientMessage.DESCRIPTOR.fields}
    for message in messages:
        yield envelope() if message is None else envelope(**{names[type(message).__name__]: message})


def held(*messages: Message) -> Iterator[Any]:
    """As `client`, but the call stays open until the server or a cancel ends it."""
    yield from client(*messages)
    threading.Event().wait(30)


class Answer:
    """All that one call said, and the status it ended with."""

    def __init__(self, call: Iterable[pb.ServerMessage] | Iterable[pb.RenderResponse]) -> None:
        self.messages: list[pb.ServerMessage | pb.RenderResponse] = []
        self.status, self.details = grpc.StatusCode.OK, ""
        try:
            for message in call:
                self.messages.append(message)
        except grpc.RpcError as error:
            self.status, self.details = error.code(), error.details()

    def of(self, kind: str) -> list[Any]:
        """All messages of a kind."""
        return [getattr(message, kind) for message in self.messages if message.WhichOneof("message") == kind]

    @property
    def ready(self) -> pb.Ready:
        (ready,) = self.of("ready")
        return ready  # type: ignore[no-any-return]

    def port(self, port: int = 0) -> Audio:
        """One port's output [channel, sample]; checks that its blocks follow each other."""
        channels = self.ready.ports[port].channels
        found = [entry for entry in self.of("audio") if entry.port == port]
        pieces = [np.frombuffer(entry.pcm, "<f4").reshape(-1, channels).T for entry in found]
        ends = np.cumsum([piece.shape[1] for piece in pieces])
        assert [entry.position - found[0].position for entry in found] == [0, *ends[:-1]]
        return np.concatenate(pieces, axis=1)


class Bystander:
    """A session that plays from here to the end of the block, and must not notice what others do meanwhile."""

    def __init__(self, address: str) -> None:
        self._stop = threading.Event()
        self._began = threading.Event()
        self._sent: list[Audio] = []
        self._channel = grpc.insecure_channel(address, options=OPTIONS)
        self._thread = threading.Thread(target=self._play, name="bystander")
        self._answer: Answer | None = None

    def __enter__(self) -> Bystander:
        self._thread.start()
        assert self._began.wait(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)
        self._channel.close()
        if kind is None:
            assert self._answer is not None
            assert (self._answer.status, self._answer.details) == (grpc.StatusCode.OK, "")
            assert not self._answer.of("warning")
            assert np.array_equal(self._answer.port(), np.concatenate(self._sent, axis=1))
            (closed,) = self._answer.of("closed")
            assert (closed.samples_in, closed.late_chunks) == (sum(audio.shape[1] for audio in self._sent), 0)

    def _play(self) -> None:
        self._answer = Answer(BacklineStub(self._channel).Stream(self._messages()))

    def _messages(self) -> Iterator[pb.ClientMessage]:
        yield pb.ClientMessage(open=opening(client_name="bystander"))
        position = 0
        while not self._stop.is_set():
            audio = noise(2, 256, seed=len(self._sent))
            self._sent.append(audio)
            yield pb.ClientMessage(audio=block(audio, position, len(self._sent) - 1))
            position += 256
            self._began.set()
            time.sleep(0.001)
        yield pb.ClientMessage(close=pb.Close())


def eventually(holds: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether it comes to hold; for what another thread or process does in its own time."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True
