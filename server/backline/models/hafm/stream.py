"""HAFM as a stream: a voice in, a band out, chunk by chunk.

A chunk's way: the voice becomes semantic tokens; stage 1 answers with the band's semantic tokens, stage 2 with coarse
codes, stage 3 with fine ones; the codec makes sound of them. Everything that belongs to one session alone (semantics,
codec) runs row by row, so that a session's numbers never depend on what shares the batch; the three stages share one
pass over their weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import median
from typing import Any

import numpy as np
import torch

from backline.codecs.base import Codec, SemanticEncoder
from backline.kernels.random import uniform_array
from backline.models.hafm.config import TRANSPORT, VOCAL, HafmConfig
from backline.models.hafm.layout import Grid
from backline.models.hafm.network import StageNetwork
from backline.models.hafm.player import Backend, Cache, ChunkJob, Sampling, StagePlayer, Tokens
from backline.models.hafm.transport import transport_tokens
from backline.models.stream import (
    Audio,
    ChunkInput,
    ChunkOutput,
    LatencyItem,
    Parameter,
    Port,
    SessionConfig,
    StreamSpec,
    Transport,
)

CAPACITY = 8  # sessions at once
PREDICTED = {"semantic": "instrumental", "coarse": "coarse", "fine": "fine"}  # stage -> source that it becomes
# Peaks of the band are bent from the one to the other. The rest, a quarter, is for what lies between the samples and
# comes out when they are resampled to the session's rate. The songs that the band is trained on hardly pass 0.6.
BEND_FROM, CEILING = 0.6, 0.75
NOISE_STREAM = len(PREDICTED)  # of random numbers; those before it are the stages'
WARM_UP_CHUNKS = 4  # that are timed


@dataclass(frozen=True)
class HafmParts:
    """What a pack provides."""

    config: HafmConfig
    networks: Mapping[str, StageNetwork]  # by stage name
    encoder: SemanticEncoder  # of the voice
    codec: Codec
    spec: StreamSpec
    vocal_noise: float  # deviation of the noise under the voice, which the encoder's tokens were trained with
    device: str
    other_bytes: int  # weights of encoder and codec


@dataclass
class Row:
    """One session."""

    grid: Grid
    seed: int
    encoder_state: Any
    decoder_state: Any
    chunk: int = 0  # the next one
    frames_fed: int = 0  # to the encoder


class HafmStream:
    """A `Stream` (models/stream.py)."""

    def __init__(
        self, parts: HafmParts, backend: Backend = "bfloat16", cache: Cache = "evict", capacity: int = CAPACITY
    ) -> None:
        self.parts = parts
        self.spec = parts.spec
        self.capacity = capacity
        self.players = {
            name: StagePlayer(parts.networks[name], capacity + 1, number, backend, cache)  # one row is for warming up
            for number, name in enumerate(PREDICTED)
        }
        # Frames by which the encoder's step is late.
        self._encoder_delay = math.ceil(parts.encoder.lookahead / parts.encoder.hop)
        self._defaults = {parameter.name: parameter.default for parameter in self.spec.parameters}
        self._rows: dict[int, Row] = {}

    def open(self, config: SessionConfig) -> int:
        free = next((row for row in range(self.capacity) if row not in self._rows), None)
        if free is None:
            raise RuntimeError(f"all {self.capacity} rows of this pack are taken: close a session")
        self._start(free, config)
        return free

    def close(self, row: int) -> None:
        del self._rows[row]

    def required_input(self, row: int) -> int:
        state = self._rows[row]
        frames = state.grid.source_frames(VOCAL, state.chunk)
        return (frames + self._encoder_delay) * self.parts.encoder.hop if frames else 0

    @torch.inference_mode()
    def step(self, inputs: Sequence[ChunkInput]) -> list[ChunkOutput]:
        tokens = [
            {
                VOCAL.name: self._hear(self._rows[given.row], given.audio),
                TRANSPORT.name: self._beat(self._rows[given.row], given.transport),
            }
            for given in inputs
        ]
        for stage, becomes in PREDICTED.items():
            jobs = [
                ChunkJob(
                    row=given.row,
                    grid=self._rows[given.row].grid,
                    chunk=self._rows[given.row].chunk,
                    tokens=known,
                    sampling=self._sampling(given.parameters),
                )
                for given, known in zip(inputs, tokens, strict=True)
            ]
            for known, predicted in zip(tokens, self.players[stage].play(jobs), strict=True):
                known[becomes] = predicted
        outputs = []
        for given, known in zip(inputs, tokens, strict=True):
            outputs.append(self._sound(given.row, np.concatenate([known["coarse"], known["fine"]])))
            self._rows[given.row].chunk += 1
        return outputs

    def latency(self, config: SessionConfig) -> tuple[LatencyItem, ...]:
        encoder, codec = self.parts.encoder, self.parts.codec
        frame = 1 / encoder.frame_rate
        visible = math.floor(_grid(config).visibility / frame) * frame
        return (
            LatencyItem("front_end", float(self._encoder_delay * frame), "look-ahead of the semantic encoder"),
            LatencyItem("visibility", float(visible), "newest input that a chunk hears, counted from its start"),
            LatencyItem("codec", codec.decode_latency / codec.sample_rate, "what the codec's decoder holds back"),
        )

    def warm_up(self, config: SessionConfig) -> float:
        row = self.capacity
        self._start(row, config)
        noise = np.random.default_rng(0)
        seconds, fed = [], 0
        # A chunk costs most when all windows are full, so they are filled first.
        for _ in range(self._chunks_to_fill_windows(config.chunk_seconds) + WARM_UP_CHUNKS):
            required = max(fed, self.required_input(row))
            audio = 0.1 * noise.standard_normal((1, required - fed), np.float32)
            fed = required
            begin = time.perf_counter()
            self.step([ChunkInput(row, audio, None, config.parameters)])
            seconds.append(time.perf_counter() - begin)
        self.close(row)
        return float(median(seconds[-WARM_UP_CHUNKS:]) / config.chunk_seconds)

    def resident_bytes(self) -> int:
        return self.parts.other_bytes + sum(player.resident_bytes() for player in self.players.values())

    def _chunks_to_fill_windows(self, chunk_seconds: Fraction) -> int:
        spans = [
            Fraction(stage.window, stage.rate * stage.quantizers + sum(source.rate for source in stage.sources))
            for stage in self.parts.config.stages().values()
        ]
        return math.ceil(max(spans) / chunk_seconds)

    def _start(self, row: int, config: SessionConfig) -> None:
        self._rows[row] = Row(
            grid=_grid(config),
            seed=config.seed,
            encoder_state=self.parts.encoder.init_state(1),
            decoder_state=self.parts.codec.init_decode_state(1),
        )
        for player in self.players.values():
            player.reset(row, config.seed)

    def _hear(self, row: Row, audio: Audio) -> Tokens:
        """The vocal tokens [1, frame] that the chunk's input adds."""
        encoder = self.parts.encoder
        frames = audio.shape[1] // encoder.hop
        if not frames:
            return np.zeros((1, 0), np.int64)
        noise = self.parts.vocal_noise * voice_noise(row.seed, row.frames_fed * encoder.hop, audio.shape[1])
        tokens, row.encoder_state = encoder.step(torch.from_numpy(audio + noise)[None], row.encoder_state)
        before_start = max(0, self._encoder_delay - row.frames_fed)
        row.frames_fed += frames
        return tokens[:, before_start:].cpu().numpy()

    def _beat(self, row: Row, transport: Transport | None) -> Tokens:
        """The transport tokens [1, frame] that the chunk adds."""
        start = row.grid.source_frames(TRANSPORT, row.chunk - 1) if row.chunk else 0
        stop = row.grid.source_frames(TRANSPORT, row.chunk)
        return transport_tokens(transport, start, stop - start)[None]

    def _sampling(self, parameters: Mapping[str, float]) -> Sampling:
        values = {**self._defaults, **parameters}
        return Sampling(values["guidance"], values["temperature"], int(values["top_k"]))

    def _sound(self, index: int, codes: Tokens) -> ChunkOutput:
        """The chunk's audio, later by the codec's latency: what lies before the session's start is left out."""
        row, codec = self._rows[index], self.parts.codec
        frames = codes.shape[1]
        audio, row.decoder_state = codec.decode_step(
            torch.from_numpy(codes)[None].to(self.parts.device), row.decoder_state
        )
        position = row.chunk * frames * codec.hop - codec.decode_latency
        before_start = max(0, min(-position, audio.shape[2]))
        samples = below_full_scale(audio[0, :, before_start:].float().cpu().numpy())
        return ChunkOutput(
            row=index,
            position=max(0, position),
            audio=(samples,),
            first_frame=row.chunk * frames,
            frames=codes.T.astype(np.int32),
        )


def voice_noise(seed: int, first: int, count: int) -> Audio:
    """[1, sample] Gaussian noise of deviation 1 for samples `first`.. of a session; the same however it is cut."""
    counters = 2 * np.arange(first, first + count)
    radius = np.sqrt(-2 * np.log1p(-uniform_array(seed, NOISE_STREAM, counters)))
    return (radius * np.cos(2 * np.pi * uniform_array(seed, NOISE_STREAM, counters + 1)))[None].astype(np.float32)


def below_full_scale(audio: Audio) -> Audio:
    """`audio` with every sample within +-CEILING: untouched up to BEND_FROM, a smooth bend from there.

    Sampled codes are not always a sum that a real mix would have; without memory, so blocks make no difference.
    """
    over = np.maximum(np.abs(audio) - np.float32(BEND_FROM), 0)
    room = np.float32(CEILING - BEND_FROM)
    return np.where(over > 0, np.sign(audio) * (np.float32(BEND_FROM) + room * np.tanh(over / room)), audio)


def make_spec(
    input_rate: int,
    output_rate: int,
    frame_rate: Fraction,
    sampling: Sampling,
    codebook_size: int,
    default_chunk_seconds: Fraction,
    default_visibility_seconds: float,
) -> StreamSpec:
    """What a HAFM pack takes and gives."""
    return StreamSpec(
        input_rate=input_rate,
        output_rate=output_rate,
        input_channels=1,
        ports=(Port("accompaniment", 1, "the band that plays along"),),
        parameters=(
            Parameter("guidance", sampling.guidance, 0.0, 10.0, "x", "how closely the band follows the voice"),
            Parameter("temperature", sampling.temperature, 0.0, 2.0, "", "how freely tokens are drawn; 0: not at all"),
            Parameter(
                "top_k", sampling.top_k, 1, codebook_size, "tokens", "likeliest tokens to draw from", integer=True
            ),
        ),
        frame_rate=frame_rate,
        default_chunk_seconds=default_chunk_seconds,
        default_visibility_seconds=default_visibility_seconds,
    )


def _grid(config: SessionConfig) -> Grid:
    return Grid.of(config.chunk_seconds, config.visibility_seconds)
