"""Sessions that play in real time beside whatever else goes on, in a process of their own, and must not notice it.

with bystanders(address, "default", seeds=(1, 2)) as playing:
    ...                      # playing.news(): what has happened to them so far
playing.verdicts             # what each of them heard, against a render of the same input
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from backline.cli.phrase import sung_phrase
from backline_protos.v1 import backline_pb2 as pb
from backline_protos.v1.backline_pb2_grpc import BacklineStub

NAME = "bystander"  # as the server lists it
BLOCK = 512  # samples
OPTIONS = [("grpc.max_receive_message_length", -1)]


@dataclass
class Life:
    """One session from its opening to its end; ended too early, another one follows."""

    samples: int = 0  # sent
    blocks: list[tuple[int, int, bytes]] = field(default_factory=list)  # port, position, interleaved float32
    warnings: list[str] = field(default_factory=list)
    closed: pb.Closed | None = None
    failure: str = ""


@dataclass
class Playing:
    """The sessions as the parent process sees them."""

    pipe: Connection
    verdicts: list[str] = field(default_factory=list)  # what was wrong; complete once they have stopped
    chunks: int = 0

    def news(self) -> list[str]:
        """What has gone wrong since the last time."""
        found = []
        while self.pipe.poll():
            found.append(self.pipe.recv())
        return found


@contextmanager
def bystanders(
    address: str, pack: str, seeds: Sequence[int], jitter_buffer_seconds: float, start_seconds: float = 60.0
) -> Iterator[Playing]:
    """Sessions that play as long as the block lasts; `start_seconds` are for the first output of all of them."""
    context = multiprocessing.get_context("spawn")  # gRPC does not survive a fork
    ours, theirs = context.Pipe()
    child = context.Process(target=_play_all, args=(theirs, address, pack, list(seeds), jitter_buffer_seconds))
    child.start()
    theirs.close()
    try:
        if not ours.poll(start_seconds):
            raise RuntimeError(f"the bystanders had no output after {start_seconds:g} s")
        ours.recv()
        playing = Playing(ours)
        yield playing
        ours.send("stop")
        try:
            while not isinstance(found := ours.recv(), int):
                playing.verdicts.append(found)
            playing.chunks = found
        except EOFError:
            playing.verdicts.append("the bystanders' process failed")
    finally:
        ours.close()
        child.join(10.0)
        child.terminate()


def _play_all(pipe: Connection, address: str, pack: str, seeds: list[int], jitter_buffer_seconds: float) -> None:
    """The process."""
    stop = threading.Event()
    sessions = [Bystander(address, pack, seed, jitter_buffer_seconds, stop, pipe) for seed in seeds]
    for session in sessions:
        session.start()
    for session in sessions:
        session.heard.wait()
    pipe.send("playing")
    try:
        pipe.recv()
        stop.set()
        for session in sessions:
            session.join()
        for session in sessions:
            for verdict in session.verdicts():
                pipe.send(verdict)
        pipe.send(sum(life.closed.chunks for session in sessions for life in session.lives if life.closed))
    except (EOFError, BrokenPipeError):  # the parent has gone
        stop.set()


class Bystander(threading.Thread):
    """One session after another, until `stop`; as a rule only one."""

    def __init__(
        self,
        address: str,
        pack: str,
        seed: int,
        jitter_buffer_seconds: float,
        stop: threading.Event,
        pipe: Connection | None,
    ) -> None:
        super().__init__(name=f"bystander-{seed}", daemon=True)
        phrase = sung_phrase()
        self._audio, self._rate = phrase.audio, phrase.rate
        self._address, self._stopped, self._pipe = address, stop, pipe
        self._opening = pb.Open(
            pack=pack, sample_rate=phrase.rate, channels=phrase.audio.shape[0], block_size=BLOCK, seed=seed,
            client_name=NAME, jitter_buffer_seconds=jitter_buffer_seconds,
        )  # fmt: skip
        self._transport = pb.Transport(playing=True, tempo=phrase.transport.tempo, numerator=4, denominator=4)
        self.heard = threading.Event()
        self.lives: list[Life] = []

    def run(self) -> None:
        while not self._stopped.is_set():
            self.lives.append(Life())
            self._live(self.lives[-1])
            if not self._stopped.is_set():
                if self._pipe is not None:
                    self._pipe.send(f"bystander {self._opening.seed} was ended: {self.lives[-1].failure}")
                self._stopped.wait(0.5)

    def verdicts(self) -> list[str]:
        """What was wrong, against renders of the same input."""
        return [f"bystander {self._opening.seed}: {problem}" for life in self.lives for problem in self._compared(life)]

    def _live(self, life: Life) -> None:
        with grpc.insecure_channel(self._address, options=OPTIONS) as channel:
            try:
                for message in BacklineStub(channel).Stream(self._paced(life)):
                    kind = message.WhichOneof("message")
                    if kind == "audio":
                        life.blocks.append((message.audio.port, message.audio.position, message.audio.pcm))
                        self.heard.set()
                    elif kind == "warning":
                        life.warnings.append(f"{message.warning.code} x {message.warning.count}")
                        if self._pipe is not None and message.warning.code == "late_output":
                            late = message.warning.count / self._rate
                            self._pipe.send(f"bystander {self._opening.seed} is late: {late:.3f} s in all")
                    elif kind == "closed":
                        life.closed = message.closed
            except grpc.RpcError as error:
                life.failure = f"{error.code().name}: {error.details()}"

    def _paced(self, life: Life) -> Iterator[pb.ClientMessage]:
        """In real time until `stop`."""
        yield pb.ClientMessage(open=self._opening)
        yield pb.ClientMessage(transport=self._transport)
        begin = time.monotonic()
        while not self._stopped.is_set():
            time.sleep(max(0.0, begin + (life.samples + BLOCK) / self._rate - time.monotonic()))
            yield pb.ClientMessage(audio=self._block(life.samples))
            life.samples += BLOCK
        yield pb.ClientMessage(close=pb.Close())

    def _block(self, position: int) -> pb.AudioBlock:
        wanted = np.arange(position, position + BLOCK) % self._audio.shape[1]
        return pb.AudioBlock(position=position, pcm=self._audio[:, wanted].T.astype("<f4").tobytes())

    def _compared(self, life: Life) -> Iterator[str]:
        if life.failure:
            yield f"ended with {life.failure}"
        if life.warnings:
            yield f"was warned of {', '.join(life.warnings)}"
        if life.closed is not None and life.closed.late_chunks:
            yield f"{life.closed.late_chunks} of {life.closed.chunks} chunks were late"
        try:
            channels, expected = self._rendered(life.samples)
        except grpc.RpcError as error:
            yield f"cannot be compared: its render ended with {error.code().name}: {error.details()}"
            return
        if life.closed is not None and life.closed.samples_out != life.samples and not life.closed.late_chunks:
            yield f"got {life.closed.samples_out} samples for {life.samples}"
        for port, position, pcm in life.blocks:
            audio = np.frombuffer(pcm, "<f4").reshape(-1, channels[port])
            if not np.array_equal(audio, expected[port][position : position + len(audio)]):
                yield f"heard something else from sample {position} of port {port} on than a render of the same gives"
                return

    def _rendered(self, samples: int) -> tuple[list[int], list[NDArray[np.float32]]]:
        """Channels and audio [sample, channel] of each port, of the same input, undisturbed."""

        def requests() -> Iterator[pb.RenderRequest]:
            yield pb.RenderRequest(open=self._opening)
            yield pb.RenderRequest(transport=self._transport)
            for position in range(0, samples, BLOCK):
                yield pb.RenderRequest(audio=self._block(position))

        pieces: dict[int, list[bytes]] = {}
        channels: list[int] = []
        with grpc.insecure_channel(self._address, options=OPTIONS) as channel:
            answers: Any = BacklineStub(channel).Render(requests())
            for message in answers:
                kind = message.WhichOneof("message")
                if kind == "ready":
                    channels = [port.channels for port in message.ready.ports]
                elif kind == "audio":
                    pieces.setdefault(message.audio.port, []).append(message.audio.pcm)
        audio = [
            np.frombuffer(b"".join(pieces.get(port, [])), "<f4").reshape(-1, count)
            for port, count in enumerate(channels)
        ]
        return channels, audio
