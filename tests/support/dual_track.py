"""A toy of a dual-track tokenizer: DuoTok's codebooks and rate, a frame's token its mean level. Decoding is exact.

Its tasks are `tokens`, from both tracks to tokens and no sound, `relay`, to tokens and sound again, and `render`, from
tokens to both tracks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from backline.models import families
from backline.models.rows import free_row, one_by_one
from backline.models.stream import (
    Audio,
    ChunkInput,
    ChunkOutput,
    Codebook,
    Codes,
    Input,
    LatencyItem,
    Parameter,
    Port,
    RowFailed,
    SessionConfig,
    StreamSpec,
    Task,
)
from backline.models.warm_up import warmed_up

RATE, FRAME_RATE, ENTRIES = 24_000, 25, 32_768
HOP = RATE // FRAME_RATE
TRACKS = ("vocals", "accompaniment")

MANIFEST = """
format = 1
name = "{name}"
version = "1"
family = "dual-track"
description = "two levels a frame"
license = "Apache-2.0"
"""


@dataclass
class Row:
    task: str
    chunk_frames: int
    want_audio: bool
    chunks: int = 0


class DualTrackStream:
    """A `Stream` and a `TokenStream`."""

    capacity = 4

    def __init__(self) -> None:
        self.spec = spec()
        self._rows: dict[int, Row] = {}

    def open(self, config: SessionConfig) -> int:
        row = free_row(self._rows, self.capacity)
        frames = int(config.chunk_seconds * FRAME_RATE)
        self._rows[row] = Row(config.task or "tokens", frames, config.want_audio)
        return row

    def close(self, row: int) -> None:
        del self._rows[row]

    def required_input(self, row: int) -> int:
        return 0 if self._rows[row].task == "render" else self._due(row) * HOP

    def required_frames(self, row: int) -> int:
        return self._due(row) if self._rows[row].task == "render" else 0

    def step(self, inputs: Sequence[ChunkInput]) -> list[ChunkOutput | RowFailed]:
        return one_by_one(inputs, lambda given: self._step(self._rows[given.row], given))

    def latency(self, config: SessionConfig) -> tuple[LatencyItem, ...]:
        return (LatencyItem("visibility", float(config.chunk_seconds)),)

    def warm_up(self, config: SessionConfig) -> float:
        row = self.open(config)
        try:
            return warmed_up(self, row, config, chunks=1, timed=1, device="cpu")
        finally:
            self.close(row)

    def resident_bytes(self) -> int:
        return 0

    def _due(self, row: int) -> int:
        return (self._rows[row].chunks + 1) * self._rows[row].chunk_frames

    def _step(self, row: Row, given: ChunkInput) -> ChunkOutput:
        first, row.chunks = row.chunks * row.chunk_frames, row.chunks + 1
        if row.task == "tokens":
            silent = np.zeros((0, row.chunk_frames * HOP), np.float32)
            return ChunkOutput(given.row, first * HOP, (silent,), first, tokens_of(given.audio))
        if row.task == "relay":
            codes = tokens_of(given.audio)
        else:
            codes = np.zeros((row.chunk_frames, 2), np.int32)  # beyond an input that is closed
            assert given.frames is not None
            codes[: len(given.frames)] = given.frames
        return ChunkOutput(given.row, first * HOP, tuple(sound_of(codes)[:, None]), first, codes)


def tokens_of(audio: Audio) -> Codes:
    """[frame, track] of both tracks [track, frame * HOP]."""
    levels = audio.reshape(2, -1, HOP).mean(2)
    return np.clip(np.round((levels + 1) / 2 * (ENTRIES - 1)), 0, ENTRIES - 1).T.astype(np.int32)


def sound_of(codes: NDArray[Any]) -> Audio:
    """Both tracks [track, frame * HOP] of [frame, track]."""
    return np.repeat(codes.T / (ENTRIES - 1) * 2 - 1, HOP, axis=1).astype(np.float32)


def levels(seed: int, frames: int) -> Audio:
    """Both tracks of a song [track, sample] that is told in tokens without loss."""
    return sound_of(np.random.default_rng(seed).integers(0, ENTRIES, (frames, 2)))


def spec() -> StreamSpec:
    books = tuple(Codebook(track, ENTRIES, track) for track in TRACKS)
    return StreamSpec(
        input_rate=RATE,
        output_rate=RATE,
        input_channels=2,
        ports=tuple(Port(track, 1) for track in TRACKS),
        parameters=(Parameter("steps", 4, 1, 16, integer=True),),
        frame_rate=Fraction(FRAME_RATE),
        default_chunk_seconds=Fraction(12, 25),
        default_visibility_seconds=0.48,
        inputs=tuple(Input(track, 1) for track in TRACKS),
        codebooks=books,
        takes=books,
        tasks=(
            Task("tokens", "both tracks to tokens", (), TRACKS),
            Task("relay", "both tracks through tokens", TRACKS, TRACKS),
            Task("render", "tokens to both tracks", TRACKS, (), (), ("steps",), tuple(book.name for book in books)),
        ),
    )


def load(config: Mapping[str, Any], tensors: Mapping[str, Any], device: str) -> DualTrackStream:
    return DualTrackStream()


def describe(config: Mapping[str, Any]) -> StreamSpec:
    return spec()


def dual_track_packs(folder: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> Path:
    """A folder of packs of these names, whose family is served while the test runs; no two have one tokenizer."""
    monkeypatch.setitem(families.FAMILIES, "dual-track", f"{__name__}:load")
    for name in names or ("toy",):
        (folder / name).mkdir(parents=True)
        (folder / name / "pack.toml").write_text(MANIFEST.format(name=name))
    return folder
