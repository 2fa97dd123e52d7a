"""A bystander: a session that shares every call of its model with others, and must play on as if it were alone.

with company(engine, "default", victims=2) as table:
    table.together()                                   # a chunk for everyone, in one call of the model
    table.victims[0].session.set_transport(...)        # whatever a stranger may do, or what may go wrong
    table.together()
# here the bystander has played to its end, sample-exact what it plays alone, and has shared calls with the victims
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import torch

from backline.codecs.convnext import ConvNeXtCodec, ConvNeXtCodecConfig
from backline.engine.engine import Engine
from backline.models import families
from backline.models.hafm.load import tiny_random as tiny_hafm
from backline.models.mge.load import tiny_random as tiny_mge
from backline.models.stems.load import tiny_random as tiny_stems
from backline.models.stream import Audio, ChunkInput, Stream
from backline.packs.pack import load_stream, read_pack
from backline.packs.registry import PackRegistry
from tests.support.playing import Listener, make_config, settle

RATE, CHANNELS = 48_000, 2
SHORTEST = Fraction(4, 25)  # seconds of a chunk, at least
CHUNKS = 4  # that a bystander plays
SMALL_CODEC = ConvNeXtCodecConfig(latent=16, encoder_width=16, encoder_blocks=1, decoder_width=16, decoder_blocks=1)
SHIPPED = ("default", "stems")
TINY = ("tiny", "tiny-aligned", "tiny-stems", "tiny-mge", "tiny-codec", "passthrough")
PACKS = (*SHIPPED, *TINY)


def tables(name: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """What a tiny pack's folder holds: its pack.toml, and its tensors."""
    match name:
        case "tiny" | "tiny-aligned":
            config, tensors = tiny_hafm(layout="aligned" if name == "tiny-aligned" else "interleaved")
        case "tiny-stems":
            config, tensors = tiny_stems()
        case "tiny-mge":
            config, tensors = tiny_mge()
        case _:
            with torch.random.fork_rng():
                torch.manual_seed(0)
                weights = ConvNeXtCodec(SMALL_CODEC).state_dict().items()
            tensors = {f"codec.{key}": tensor.detach().contiguous() for key, tensor in weights}
            config = {
                "format": 1, "version": "1", "family": "codec", "description": "A codec of random weights, for tests",
                "license": "Apache-2.0", "codec": {"kind": "convnext", **vars(SMALL_CODEC)},
            }  # fmt: skip
    return {**config, "name": name}, tensors


def make_stream(name: str) -> Stream:
    """The model of a pack that ships, or of a tiny one."""
    if name in SHIPPED or name == "passthrough":
        return load_stream(read_pack(PackRegistry([]).entry(name).folder))
    config, tensors = tables(name)
    return families.load(config, tensors, "cpu")


class Watched:
    """A `Stream` that notes which rows share a call, and lets a test spoil what goes in and comes out."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.calls: list[list[int]] = []
        self.restore()

    def restore(self) -> None:
        """Nothing is spoilt any more."""
        self.calls.clear()
        self.before: Callable[[Sequence[ChunkInput]], Sequence[ChunkInput]] = lambda inputs: inputs
        self.after: Callable[[list[Any]], list[Any]] = lambda answers: answers

    def step(self, inputs: Sequence[ChunkInput]) -> list[Any]:
        self.calls.append([given.row for given in inputs])
        return self.after(list(self._stream.step(self.before(inputs))))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def served(name: str) -> Iterator[Engine]:
    """An engine with one pack resident, watched."""
    engine = Engine()
    try:
        engine.add_stream(name, Watched(make_stream(name)))
        yield engine
    finally:
        engine.shutdown(drain_seconds=0.0)


@dataclass
class Guest:
    """One session at the table."""

    session: Any
    heard: Listener
    sent: int = 0  # samples
    chunks: int = 0  # that the input sent is enough for

    @property
    def gone(self) -> bool:
        return self.session.closed.is_set() or self.session.input_closed


@dataclass
class Table:
    """A bystander and its victims on one model, who all play the same."""

    engine: Engine
    name: str
    stream: Watched
    chunk: Fraction
    bystander: Guest
    victims: list[Guest] = field(default_factory=list)

    def open(self, seed: int = 99, block_size: int = 65_536, **changes: Any) -> Guest:
        """A further session; `changes` are of its configuration."""
        guest = open_guest(self.engine, self.name, seed, block_size, **changes)
        self.victims.append(guest)
        return guest

    def together(self, chunks: int = 1) -> None:
        """A chunk's worth of input for everyone who is still there; the model plays it in one call."""
        for _ in range(chunks):
            with held(self.engine, self.name):
                for guest in [self.bystander, *self.victims]:
                    if not guest.gone:
                        feed(guest, self.chunk)
            settle(self.engine)


@contextmanager
def held(engine: Engine, name: str) -> Iterator[None]:
    """The model's engine thread does nothing as long as the block lasts, and then sees all that has come meanwhile."""
    entered, go = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        assert go.wait(60)

    engine.resident(name).post(hold)
    assert entered.wait(60)
    try:
        yield
    finally:
        go.set()


@contextmanager
def company(engine: Engine, name: str, victims: int = 1) -> Iterator[Table]:
    """A table for a test's attack. Afterwards the bystander plays to its end, and is compared with itself alone."""
    stream = engine.resident(name).stream
    assert isinstance(stream, Watched)
    expected = alone(engine, name)
    stream.restore()
    table = Table(engine, name, stream, chunk_of(stream), open_guest(engine, name, seed=5))
    for seed in range(victims):
        table.open(seed)
    try:
        yield table
        while table.bystander.chunks < CHUNKS:
            table.together()
        row = table.bystander.session.row
        shared = [call for call in stream.calls if row in call and len(call) > 1]
        table.bystander.session.close_input()
        table.bystander.heard.finished()
        assert shared or not table.victims, "no victim was ever in a call with the bystander"
        assert not [event for event in table.bystander.heard.events if hasattr(event, "code")], "it was warned"
        for port, audio in enumerate(expected):
            np.testing.assert_array_equal(table.bystander.heard.audio(port), audio)
    finally:
        stream.restore()
        for session in engine.list_sessions():
            session.abort()
            assert session.closed.wait(20)


def chunk_of(stream: Any) -> Fraction:
    """A short chunk that the model can play, in seconds."""
    quantum: Fraction = stream.spec.chunk_quantum_seconds
    return quantum * max(1, -(-SHORTEST // quantum))


def open_guest(engine: Engine, name: str, seed: int, block_size: int = 65_536, **changes: Any) -> Guest:
    stream = engine.resident(name).stream
    chunk = chunk_of(stream)
    usual = {"chunk_seconds": chunk, "visibility_seconds": stream.spec.visibility(chunk), "seed": seed}
    listener = Listener()
    config = make_config(sample_rate=RATE, channels=CHANNELS, **{**usual, **changes})
    session = engine.open_session(name, config, "test", listener, block_size=block_size)
    listener.session = session
    return Guest(session, listener)


def feed(guest: Guest, chunk: Fraction) -> None:
    """As much of the music that everyone plays as the next chunk needs, in chunks."""
    samples = int(chunk * RATE)
    while not guest.session.ready():
        assert guest.session.try_write(guest.sent, music(20 * samples)[:, guest.sent : guest.sent + samples])
        guest.sent += samples
        assert guest.sent < 20 * samples
    guest.chunks += 1


@cache
def music(samples: int) -> Audio:
    """[channel, sample] a gliding tone with a beat, other in each channel."""
    time, random = np.arange(samples) / RATE, np.random.default_rng(0)
    tone = 0.3 * np.sin(2 * np.pi * 220 * time * (1 + 0.05 * np.sin(2 * np.pi * time)))
    beat = 0.2 * random.standard_normal(samples) * np.exp(-20 * (time % 0.25))
    return np.stack([tone + beat, 0.7 * tone - 0.5 * beat]).astype(np.float32)


def alone(engine: Engine, name: str) -> list[Audio]:
    """What the bystander plays where nobody else is: each port [channel, sample]."""
    known: dict[str, list[Audio]] = engine.__dict__.setdefault("_alone", {})
    if name not in known:
        guest = open_guest(engine, name, seed=5)
        for _ in range(CHUNKS):
            with held(engine, name):
                feed(guest, chunk_of(guest.session.stream))
            settle(engine)
        guest.session.close_input()
        guest.heard.finished()
        known[name] = [guest.heard.audio(port) for port in range(len(guest.session.ports))]
        assert all(np.isfinite(audio).all() and audio.any() for audio in known[name])
    return known[name]
