"""Plays a codec by itself: what goes in comes out as the codec's frames have it. For judging a codec by ear, live.

[codec]  kind = "convnext", "encodec" or "hcodec", and its sizes
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backline.codecs.base import Codec
from backline.codecs.convnext import ConvNeXtCodecConfig, convnext_codec
from backline.codecs.encodec import EncodecStream
from backline.codecs.hcodec.load import hcodec
from backline.codecs.hcodec.network import HCodecConfig
from backline.codecs.hcodec.windowed import WindowedHCodec
from backline.codecs.tables import EncodecConfig, Kind, read_codec_table
from backline.models.errors import PackError
from backline.models.rows import free_row, one_by_one, rows_of
from backline.models.stream import (
    Audio,
    ChunkInput,
    ChunkOutput,
    LatencyItem,
    Port,
    RowBytes,
    RowFailed,
    SessionConfig,
    StreamSpec,
)
from backline.models.warm_up import warmed_up
from backline.nn.streaming import state_bytes
from backline.nn.tables import TableError
from backline.nn.weights import part

CAPACITY = 16  # rows
KINDS: tuple[Kind, ...] = ("convnext", "encodec", "hcodec")
DEFAULT_CHUNK_FRAMES = 6
MAXIMUM_CHUNK_SECONDS = 4
WARM_UP_CHUNKS = 6  # that are timed


@dataclass
class Row:
    """One session, in samples at the codec's rate."""

    chunk_frames: int
    visibility: int  # samples
    encoding: Any
    decoding: Any
    held: Audio  # [1, sample], input that the encoder has not had
    codes: NDArray[np.int32]  # [frame, codebook], of frames that are not decoded out yet
    fed: int = 0  # that the encoder has had; also where `held` begins
    chunks: int = 0


class CodecStream:
    """A `Stream` through one codec. A chunk waits for what the codec lags behind; input not heard by then is silent."""

    def __init__(self, codec: Codec, device: str, resident_bytes: int, capacity: int = CAPACITY) -> None:
        self.codec, self.capacity = codec, capacity
        self.device = device
        self.spec = make_spec(codec.sample_rate, codec.hop)
        self.late = codec.encode_latency + codec.decode_latency  # samples
        self._weights = resident_bytes
        self._rows: dict[int, Row] = {}

    def open(self, config: SessionConfig) -> int:
        free = free_row(self._rows, self.capacity)
        rate = self.codec.sample_rate
        frames = config.chunk_seconds * self.codec.frame_rate
        if frames.denominator != 1 or frames < 1:
            raise ValueError(
                f"a chunk of {config.chunk_seconds} s is no whole number of frames of 1/{rate // self.codec.hop} s"
            )
        self._rows[free] = Row(
            chunk_frames=int(frames),
            visibility=round(config.visibility_seconds * rate),
            encoding=self.codec.init_encode_state(1),
            decoding=self.codec.init_decode_state(1),
            held=np.zeros((1, 0), np.float32),
            codes=np.zeros((0, self.codec.codebooks), np.int32),
        )
        return free

    def close(self, row: int) -> None:
        del self._rows[row]

    def required_input(self, row: int) -> int:
        playing = self._rows[row]
        return playing.chunks * playing.chunk_frames * self.codec.hop + playing.visibility + self.late

    def step(self, inputs: Sequence[ChunkInput]) -> list[ChunkOutput | RowFailed]:
        return one_by_one(inputs, lambda given: self._chunk(self._rows[given.row], given))

    def latency(self, config: SessionConfig) -> tuple[LatencyItem, ...]:
        return (
            LatencyItem("codec", self.late / self.codec.sample_rate, "what encoder and decoder lag behind"),
            LatencyItem("visibility", config.visibility_seconds, "newest input that a chunk hears, from its start"),
        )

    def warm_up(self, config: SessionConfig) -> float:
        row = self.open(config)
        try:
            return warmed_up(self, row, config, chunks=1, timed=WARM_UP_CHUNKS, device=self.device)
        finally:
            self.close(row)

    def resident_bytes(self) -> int:
        return self._weights + sum(self.row_bytes(row).other for row in tuple(self._rows))

    def row_bytes(self, row: int) -> RowBytes:
        playing = self._rows.get(row)
        if playing is None:
            return RowBytes()
        states = state_bytes(playing.encoding) + state_bytes(playing.decoding)
        return RowBytes(other=playing.held.nbytes + playing.codes.nbytes + states)

    def _chunk(self, row: Row, given: ChunkInput) -> ChunkOutput:
        hop = self.codec.hop
        first_frame = row.chunks * row.chunk_frames
        row.held = np.concatenate((row.held, given.audio), axis=1)
        end = (first_frame + row.chunk_frames) * hop + self.late
        block = np.zeros((1, end - row.fed), np.float32)
        heard = min(block.shape[1], max(0, row.held.shape[1]))
        block[:, :heard] = row.held[:, :heard]
        row.held = row.held[:, heard:]

        audio = torch.from_numpy(block)[None].to(self.device)
        codes, row.encoding = self.codec.encode_step(audio, row.encoding)
        if row.chunks == 0:  # what comes before the stream's start is dropped; the first block is longer by it
            codes = codes[..., self.codec.encode_latency // hop :]
        sound, row.decoding = self.codec.decode_step(codes, row.decoding)
        if row.chunks == 0:
            sound = sound[..., self.codec.decode_latency :]
        fresh = codes[0].T.to("cpu", torch.int32).numpy()
        row.codes = np.concatenate((row.codes, fresh))
        frames, row.codes = row.codes[: row.chunk_frames], row.codes[row.chunk_frames :]
        row.fed = end
        row.chunks += 1
        return ChunkOutput(given.row, first_frame * hop, (sound[0].cpu().numpy(),), first_frame, frames)


def make_spec(sample_rate: int, hop: int) -> StreamSpec:
    frame = Fraction(hop, sample_rate)
    return StreamSpec(
        input_rate=sample_rate,
        output_rate=sample_rate,
        input_channels=1,
        ports=(Port("main", channels=1, description="the input, through the codec"),),
        frame_rate=1 / frame,
        chunk_quantum_seconds=frame,
        default_chunk_seconds=DEFAULT_CHUNK_FRAMES * frame,
        maximum_chunk_seconds=MAXIMUM_CHUNK_SECONDS // frame * frame,
        default_visibility_seconds=MAXIMUM_CHUNK_SECONDS,  # all of the chunk, however long
    )


def load_codec(table: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str) -> Codec:
    """The codec of a pack's [codec] table and tensors "codec.*". Raises ValueError with all that does not fit."""
    if table["kind"] == "convnext":
        return convnext_codec(table, tensors).requires_grad_(False).to(device)
    if table["kind"] == "hcodec":
        network = hcodec(table, tensors).requires_grad_(False).to(device)
        network.require_encoding()
        return WindowedHCodec(network)
    return EncodecStream(part(tensors, "codec."), codebooks=table.get("codebooks", 8), device=device)


def load(config: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str) -> CodecStream:
    """The stream of a pack. Raises PackError."""
    _sizes(config)
    try:
        codec = load_codec(config["codec"], tensors, device)
    except ValueError as error:
        raise PackError([str(error)], str(config.get("name", ""))) from error
    size = sum(tensor.numel() * 4 for name, tensor in tensors.items() if name.startswith("codec."))
    return CodecStream(codec, device, size, rows_of(config, CAPACITY))


def describe(config: Mapping[str, Any]) -> StreamSpec:
    """What `load` would serve. Raises PackError."""
    sizes = _sizes(config)
    return make_spec(sizes.sample_rate, sizes.hop * (sizes.frames_per_code if isinstance(sizes, HCodecConfig) else 1))


def _sizes(config: Mapping[str, Any]) -> ConvNeXtCodecConfig | EncodecConfig | HCodecConfig:
    try:
        sizes = read_codec_table(config.get("codec", {}), KINDS)
    except TableError as error:
        raise PackError(error.problems, str(config.get("name", ""))) from error
    frames = sizes.hop * (sizes.frames_per_code if isinstance(sizes, HCodecConfig) else 1)
    if DEFAULT_CHUNK_FRAMES * frames > MAXIMUM_CHUNK_SECONDS * sizes.sample_rate:
        problem = f"[codec] hop is {sizes.hop}: use frames of which {DEFAULT_CHUNK_FRAMES} last no longer than "
        raise PackError([f"{problem}{MAXIMUM_CHUNK_SECONDS} s"], str(config.get("name", "")))
    return sizes
