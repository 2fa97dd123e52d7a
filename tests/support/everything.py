"""A model family that uses all of the contract: two inputs, a text, notes, frames both ways, two tasks, several steps.

What it plays is simple enough to be told beforehand. `play`: the band, plus the voice times a hundredth of the length
of the text, plus a click of 1 at each note-on; frames come back with 1 added. `hum`: the voice alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backline.models import families
from backline.models.rows import free_row, one_by_one
from backline.models.stream import (
    Audio,
    ChunkInput,
    ChunkOutput,
    Codebook,
    Codes,
    Heard,
    Input,
    LatencyItem,
    Notes,
    Parameter,
    Port,
    RowFailed,
    SessionConfig,
    StreamSpec,
    Task,
    Text,
)
from backline.models.warm_up import warmed_up

RATE, CHUNK, CAPACITY = 24_000, Fraction(2, 25), 4
CHUNK_SAMPLES, CHUNK_FRAMES = int(RATE * CHUNK), 2
SIZES = (8, 16)  # of its codebooks
BOOKS = ("book0", "book1")
STEPS = 3  # a chunk
CHORDS = ("Am", "F")  # that it claims to hear, chunk by chunk

MANIFEST = """
format = 1
name = "everything"
version = "1"
family = "everything"
description = "all of the contract"
license = "Apache-2.0"
"""


@dataclass
class Row:
    task: str
    chunks: int = 0
    step: int = 0
    heard: ChunkInput | None = None  # what the chunk at hand was given
    notes: list[Notes] = field(default_factory=list)  # that still lie ahead


class EverythingStream:
    """A `Stream`, a `TextStream` and a `TokenStream`. Tests fail or wait in `before_prepare` and `before_step`.

    Where `waits_for_frames` is not set it plays on with those that come, as for clients that have none.
    """

    capacity = CAPACITY

    def __init__(self, *, waits_for_frames: bool = True) -> None:
        self.spec = spec()
        self.waits_for_frames = waits_for_frames
        self.rows: dict[int, Row] = {}
        self.prepared: list[tuple[str, str, str]] = []  # name, text, and the thread it was prepared on
        self.stepped_on: set[str] = set()  # names of threads
        self.waiting = 0  # texts that `hold` has wait
        self.before_prepare: Callable[[str], None] = lambda text: None
        self.before_step: Callable[[Sequence[ChunkInput]], None] = lambda inputs: None

    def hold(self, slow: str) -> threading.Event:
        """Has the text `slow` take until the event is set."""
        gate = threading.Event()

        def wait(text: str) -> None:
            if text == slow:
                self.waiting += 1
                assert gate.wait(20)

        self.before_prepare = wait
        return gate

    def open(self, config: SessionConfig) -> int:
        row = free_row(self.rows, CAPACITY)
        self.rows[row] = Row(config.task or "play")
        return row

    def close(self, row: int) -> None:
        del self.rows[row]

    def required_input(self, row: int) -> int:
        return (self.rows[row].chunks + 1) * CHUNK_SAMPLES

    def required_frames(self, row: int) -> int:
        return (self.rows[row].chunks + 1) * CHUNK_FRAMES if self.waits_for_frames else 0

    def prepare(self, name: str, text: str) -> float:
        self.before_prepare(text)
        if text == "impossible":
            raise ValueError("nobody can play that: write something else")
        self.prepared.append((name, text, threading.current_thread().name))
        return len(text) / 100

    def step(self, inputs: Sequence[ChunkInput]) -> list[ChunkOutput | RowFailed]:
        self.stepped_on.add(threading.current_thread().name)
        self.before_step(inputs)
        return one_by_one(inputs, lambda given: self._step(self.rows[given.row], given))

    def latency(self, config: SessionConfig) -> tuple[LatencyItem, ...]:
        return (LatencyItem("visibility", config.visibility_seconds),)

    def warm_up(self, config: SessionConfig) -> float:
        row = self.open(config)
        try:
            return warmed_up(self, row, config, chunks=1, timed=1, device="cpu")
        finally:
            self.close(row)

    def resident_bytes(self) -> int:
        return 0

    def _step(self, row: Row, given: ChunkInput) -> ChunkOutput:
        if row.step == 0:
            row.heard = given
            row.notes += given.notes
        else:  # a further step is given nothing new
            assert given.audio.shape[1] == 0
            assert not given.notes
            assert given.frames is not None
            assert len(given.frames) == 0
        row.step += 1
        if row.step < STEPS:
            return ChunkOutput(given.row, row.chunks * CHUNK_SAMPLES, (), advanced=False)
        assert row.heard is not None
        output = self._played(row, row.heard)
        row.step, row.chunks = 0, row.chunks + 1
        return output

    def _played(self, row: Row, heard: ChunkInput) -> ChunkOutput:
        start = row.chunks * CHUNK_SAMPLES
        frames: Codes | None = heard.frames
        assert frames is not None
        frames = (frames + 1) % np.array(SIZES, np.int32)
        if row.task == "hum":
            return ChunkOutput(heard.row, start, (heard.audio[:1],), row.chunks * CHUNK_FRAMES, frames)
        voice, band = heard.audio[:1], heard.audio[1:]
        main: Audio = band + np.float32(heard.texts["prompt"]) * voice
        end = start + CHUNK_SAMPLES
        for note in [note for note in row.notes if note.position < end]:
            row.notes.remove(note)
            if note.data[0] & 0xF0 == 0x90:
                main[:, max(0, note.position - start)] += 1.0
        told = Heard(start / RATE, CHORDS[row.chunks % 2])
        return ChunkOutput(heard.row, start, (main, voice), row.chunks * CHUNK_FRAMES, frames, heard=(told,))


def spec() -> StreamSpec:
    codebooks = tuple(Codebook(name, size, "band") for name, size in zip(BOOKS, SIZES, strict=True))
    return StreamSpec(
        input_rate=RATE,
        output_rate=RATE,
        input_channels=3,
        ports=(Port("main", 2), Port("voice", 1)),
        parameters=(
            Parameter("style", 0.0, 0.0, 2.0, integer=True, labels=("plain", "swing", "wild")),
            Parameter("depth", 1.0, 0.0, 1.0),
        ),
        frame_rate=Fraction(25),
        chunk_quantum_seconds=CHUNK,
        default_chunk_seconds=CHUNK,
        maximum_chunk_seconds=CHUNK,
        default_visibility_seconds=float(CHUNK),
        inputs=(Input("voice", 1, "who sings"), Input("band", 2, "who plays")),
        texts=(Text("prompt", "a rhodes", "what to play", ("a rhodes", "drums")),),
        takes_notes=True,
        codebooks=codebooks,
        takes=codebooks,
        tasks=(
            Task("play", "plays along", ("main", "voice"), ("voice", "band"), ("prompt",), ("style", "depth"), BOOKS),
            Task("hum", "hums along", ("voice",), ("voice",), (), ("depth",), BOOKS),
        ),
    )


LOADED: list[EverythingStream] = []  # by servers of this process, newest last


def load(config: Mapping[str, Any], tensors: Mapping[str, Any], device: str) -> EverythingStream:
    LOADED.append(EverythingStream(waits_for_frames=config.get("waits_for_frames", True)))
    return LOADED[-1]


def describe(config: Mapping[str, Any]) -> StreamSpec:
    return spec()


def everything_pack(folder: Path, monkeypatch: pytest.MonkeyPatch, *, waits_for_frames: bool = True) -> Path:
    """A folder with the pack `everything`, whose family is served while the test runs."""
    monkeypatch.setitem(families.FAMILIES, "everything", f"{__name__}:load")
    (folder / "everything").mkdir(parents=True)
    (folder / "everything" / "pack.toml").write_text(f"{MANIFEST}waits_for_frames = {str(waits_for_frames).lower()}\n")
    return folder
