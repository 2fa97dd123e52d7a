"""HAFM as a stream: a voice in, a band out, chunk by chunk.

A chunk's way: the voice becomes semantic tokens; the stages (band.py) answer with codes; the codec makes sound of them;
the gate (gate.py) lets it through where somebody sings or the transport plays. Everything that belongs to one session
alone (semantics, codec, gate) runs row by row, so that a session's numbers never depend on what shares the batch;
within a stage all sessions share one pass over its weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from backline.codecs.base import Codec, SemanticEncoder
from backline.kernels.random import uniform_array
from backline.models.hafm.band import Band, Cue, Sampling, Tokens
from backline.models.hafm.gate import Gate
from backline.models.hafm.grid import Grid
from backline.models.hafm.held import CHORD_SOURCE, HeldNotes, Leading
from backline.models.hafm.sources import VOCAL
from backline.models.hafm.transport import song_ahead
from backline.models.rows import check_tokens, free_row
from backline.models.stream import (
    Audio,
    ChunkInput,
    ChunkOutput,
    LatencyItem,
    RowBytes,
    RowFailed,
    SessionConfig,
    StreamSpec,
)
from backline.models.warm_up import warmed_up
from backline.nn.streaming import state_bytes

CAPACITY = 8  # sessions at once
# Peaks of the band are bent from the one to the other. The rest, a quarter, is for what lies between the samples and
# comes out when they are resampled to the session's rate. The songs that the band is trained on hardly pass 0.6.
BEND_FROM, CEILING = 0.6, 0.75
NOISE_STREAM = 3  # of random numbers; those before it are the stages'
WARM_UP_CHUNKS = 4  # that are timed


@dataclass(frozen=True)
class HafmParts:
    """What a pack provides beside the band."""

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
    gate: Gate
    held: HeldNotes
    chunk: int = 0  # the next one
    frames_fed: int = 0  # to the encoder
    frames_played: int = 0  # by the codec


class HafmStream:
    """A `Stream` (models/stream.py)."""

    def __init__(self, parts: HafmParts, band: Band, capacity: int = CAPACITY) -> None:
        """`band` has a row more than sessions at once: for warming up."""
        self.parts, self.band, self.capacity = parts, band, capacity
        self._vocal = replace(VOCAL, rate=int(parts.encoder.frame_rate))
        self.spec = parts.spec
        # Frames by which the encoder's step is late.
        self._encoder_delay = math.ceil(parts.encoder.lookahead / parts.encoder.hop)
        self._defaults = self.spec.defaults
        self._rows: dict[int, Row] = {}

    def open(self, config: SessionConfig) -> int:
        free = free_row(self._rows, self.capacity)
        self._start(free, config)
        return free

    def close(self, row: int) -> None:
        del self._rows[row]

    def required_input(self, row: int) -> int:
        state = self._rows[row]
        frames = state.grid.source_frames(self._vocal, state.chunk)
        return (frames + self._encoder_delay) * self.parts.encoder.hop if frames else 0

    @torch.inference_mode()
    def step(self, inputs: Sequence[ChunkInput]) -> list[ChunkOutput | RowFailed]:
        cues: list[Cue] = []
        answers: dict[int, ChunkOutput | RowFailed] = {}
        for given in inputs:
            try:
                cues.append(self._cue(given))
            except Exception as error:
                answers[given.row] = RowFailed(given.row, error)
        for cue, codes in zip(cues, self.band.play(cues), strict=True):
            try:
                if isinstance(codes, Exception):
                    raise codes
                answers[cue.row] = self._sound(cue.row, codes)
            except Exception as error:
                answers[cue.row] = RowFailed(cue.row, error)
            row = self._rows[cue.row]
            row.chunk += 1
            row.held.forget(float(min(row.chunk * row.grid.chunk, Fraction(row.frames_fed, self._vocal.rate))))
        return [answers[given.row] for given in inputs]

    def latency(self, config: SessionConfig) -> tuple[LatencyItem, ...]:
        encoder, codec = self.parts.encoder, self.parts.codec
        frame = 1 / encoder.frame_rate
        held_back = self.band.held_back * codec.hop + codec.decode_latency
        visible = math.floor(_grid(config, self.band.lookahead).visibility / frame) * frame
        return (
            LatencyItem("front_end", float(self._encoder_delay * frame), "look-ahead of the semantic encoder"),
            LatencyItem("visibility", float(visible), "newest input that a chunk hears, counted from its start"),
            LatencyItem("codec", held_back / codec.sample_rate, "frames and samples that wait for what completes them"),
        )

    def warm_up(self, config: SessionConfig) -> float:
        row = self.capacity
        self._start(row, config)
        try:  # a chunk costs most when all windows are full, so they are filled first
            full = math.ceil(self.band.full_after() / config.chunk_seconds)
            return warmed_up(self, row, config, chunks=full, timed=WARM_UP_CHUNKS, device=self.parts.device)
        finally:
            self.close(row)

    def resident_bytes(self) -> int:
        return self.parts.other_bytes + self.band.resident_bytes()

    def row_bytes(self, row: int) -> RowBytes:
        playing = self._rows.get(row)
        if playing is None:
            return RowBytes()
        states = state_bytes(playing.encoder_state) + state_bytes(playing.decoder_state)
        return RowBytes(kv=self.band.kv_bytes(), other=states)

    def _start(self, row: int, config: SessionConfig) -> None:
        grid, encoder = _grid(config, self.band.lookahead), self.parts.encoder
        frame = 1 / encoder.frame_rate  # the gate hears as far as whole frames do
        gated = replace(grid, visibility=math.floor(grid.visibility / frame) * frame)
        self._rows[row] = Row(
            grid=grid,
            seed=config.seed,
            encoder_state=encoder.init_state(1),
            decoder_state=self.parts.codec.init_decode_state(1),
            gate=Gate(gated, encoder.sample_rate // VOCAL.rate, self.parts.codec.sample_rate),
            held=HeldNotes(),
        )
        self.band.reset(row, config.seed)

    def _cue(self, given: ChunkInput) -> Cue:
        row, values = self._rows[given.row], {**self._defaults, **given.parameters}
        leading = Leading(int(values.get(CHORD_SOURCE.name, Leading.HEARD)))
        row.held.hear(given.notes, self.parts.encoder.sample_rate)
        held = None if leading is Leading.HEARD else row.held
        row.gate.hear(given.audio, given.transport, values["gate"], lambda seconds: bool(held and held.at(seconds)))
        ahead = song_ahead(given.transport)
        return Cue(
            row=given.row,
            grid=row.grid,
            chunk=row.chunk,
            vocal=self._hear(row, given.audio, ahead),
            transport=given.transport,
            sampling=Sampling(values["guidance"], values["temperature"], int(values["top_k"])),
            key=int(values["key"]) - 1 if values.get("key") else None,
            ahead=ahead,
            held=held,
            keep=leading is Leading.NOTES,
        )

    def _hear(self, row: Row, audio: Audio, ahead: float) -> Tokens:
        """The vocal tokens [1, frame] that the chunk's input adds."""
        encoder = self.parts.encoder
        frames = audio.shape[1] // encoder.hop
        if not frames:
            return np.zeros((1, 0), np.int64)
        first = row.frames_fed * encoder.hop + round(ahead * encoder.sample_rate)
        noise = self.parts.vocal_noise * voice_noise(row.seed, first, audio.shape[1])
        tokens, row.encoder_state = encoder.step(torch.from_numpy(audio + noise)[None], row.encoder_state)
        before_start = max(0, self._encoder_delay - row.frames_fed)
        row.frames_fed += frames
        return tokens[:, before_start:].cpu().numpy()

    def _sound(self, index: int, codes: Tokens) -> ChunkOutput:
        """The chunk's audio, later by the codec's latency: what lies before the session's start is left out."""
        row, codec = self._rows[index], self.parts.codec
        frames = codes.shape[1]
        check_tokens(codes, self.parts.codec.codebook_size, "the codec")
        audio = torch.zeros(1, 1, 0)
        if frames:  # none while the band still holds back its first ones
            audio, row.decoder_state = codec.decode_step(
                torch.from_numpy(codes)[None].to(self.parts.device), row.decoder_state
            )
        position = row.frames_played * codec.hop - codec.decode_latency
        row.frames_played += frames
        before_start = max(0, min(-position, audio.shape[2]))
        samples = below_full_scale(audio[0, :, before_start:].float().cpu().numpy())
        position = max(0, position)
        return ChunkOutput(
            row=index,
            position=position,
            audio=(row.gate.apply(samples, position),),
            first_frame=row.frames_played - frames,
            frames=codes.T.astype(np.int32),
            heard=self.band.heard(index),
        )


def voice_noise(seed: int, first: int, count: int) -> Audio:
    """[1, sample] Gaussian noise of deviation 1 for samples `first`.. of the song; the same however it is cut."""
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


def _grid(config: SessionConfig, lookahead: Fraction) -> Grid:
    return Grid.of(config.chunk_seconds, config.visibility_seconds, lookahead)
