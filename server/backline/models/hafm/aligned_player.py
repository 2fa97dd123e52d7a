"""The aligned stages playing chunk after chunk: the voice's tokens in, codes out, every row's cache carried along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from backline.kernels.decode import DecodeStage
from backline.models.hafm.aligned import (
    BAND,
    BEAT,
    HINT,
    LAG,
    LOOKAHEAD,
    VOICE,
    AlignedConfig,
    AlignedNetwork,
    aligned,
    lag_token,
)
from backline.models.hafm.aligned_decode import TorchFrameStage, frame_arrays
from backline.models.hafm.band import Cue, Tokens
from backline.models.hafm.hints import ChordHints
from backline.models.hafm.keys import KeyListener
from backline.models.hafm.player import Backend
from backline.models.hafm.score import (
    BAND_TURNS,
    SUNG_REACH,
    VOICE_TURNS,
    pitch_and_colour,
    semitones_from_c,
    transposed,
)
from backline.models.hafm.transport import BEAT_STEPS, transport_tokens

Floats = NDArray[np.float32]


class AlignedBand:
    """A `Band` (band.py) of two stages. Only the semantic one hears the voice, so only it is ever guided.

    It knows one key: what it hears is transposed there, and what it answers back.
    """

    takes_key = True
    lookahead = LOOKAHEAD

    def __init__(
        self,
        config: AlignedConfig,
        networks: Mapping[str, AlignedNetwork],
        key_profile: Floats,
        hints: ChordHints,
        rows: int,
        backend: Backend,
    ) -> None:
        self.config = config
        self.networks = {name: networks[name].eval().requires_grad_(False) for name in config.stages()}
        self.semantic = _decoder(self.networks["semantic"], rows, 0, backend, branches=2)
        self.acoustic = _decoder(self.networks["acoustic"], rows, 1, backend, branches=1)
        self.held_back = max(config.acoustic.delays)
        self.hints = hints
        self.key_profile = key_profile  # [vocal token], see keys.py
        self._heard = [np.zeros((1, 0), np.int64) for _ in range(rows)]  # the voice's newest tokens, as they came
        self._listeners = [KeyListener(key_profile) for _ in range(rows)]
        self._begun = [np.zeros((0, config.acoustic.codebooks), np.int64) for _ in range(rows)]  # steps not yet whole

    def reset(self, row: int, seed: int) -> None:
        self.semantic.reset(row, seed)
        self.acoustic.reset(row, seed)
        self._begun[row] = self._begun[row][:0]
        self._listeners[row] = KeyListener(self.key_profile)
        self._heard[row] = self._heard[row][:, :0]

    def play(self, cues: Sequence[Cue]) -> list[Tokens]:
        keys = [self._key(cue) for cue in cues]
        known = [self._known(cue, up) for cue, up in zip(cues, keys, strict=True)]
        for tokens, steps, up in zip(known, self._answer(cues, known, "semantic"), keys, strict=True):
            tokens[BAND.name] = transposed(np.ascontiguousarray(steps.T), BAND_TURNS, up)
        return [
            self._whole_frames(cue.row, steps)
            for cue, steps in zip(cues, self._answer(cues, known, "acoustic"), strict=True)
        ]

    def full_after(self) -> Fraction:
        return max(Fraction(stage.window, stage.rate) for stage in self.config.stages().values())

    def resident_bytes(self) -> int:
        tables = sum(p.nbytes for network in self.networks.values() for p in network.parameters())
        return tables + self.semantic.resident_bytes() + self.acoustic.resident_bytes()

    def _key(self, cue: Cue) -> int:
        """Semitones by which the key that is told, or else heard, lies above C."""
        listener = self._listeners[cue.row]
        listener.hear(cue.vocal)
        return listener.semitones if cue.key is None else semitones_from_c(cue.key)

    def _known(self, cue: Cue, up: int) -> dict[str, Tokens]:
        """By source the tokens [codebook, frame] of the chunk; of the voice those that its lag puts there, in C."""
        chunk, lag = cue.grid.chunk, cue.grid.chunk - cue.grid.visibility
        frames = cue.grid.frames(VOICE.rate)
        history = np.concatenate([self._heard[cue.row], cue.vocal], axis=1)
        self._heard[cue.row] = history[:, -SUNG_REACH:]
        in_c = transposed(history, VOICE_TURNS, -up)
        new = min(frames, cue.vocal.shape[1])  # a first chunk hears more than belongs to it, or less
        voice, hint = (np.full((source.codebooks, frames), source.vocabulary) for source in (VOICE, HINT))
        if new:
            voice[:, -new:] = pitch_and_colour(in_c)[:, -new:]
            hint[:, -new:] = self.hints(in_c)[:, -new:]
        beats = int(chunk * BEAT.rate)
        return {
            VOICE.name: voice,
            HINT.name: hint,
            BEAT.name: transport_tokens(cue.transport, cue.chunk * beats, beats, BEAT.rate, BEAT_STEPS)[None],
            LAG.name: np.full((1, int(chunk * LAG.rate)), lag_token(lag)),
        }

    def _answer(self, cues: Sequence[Cue], known: Sequence[dict[str, Tokens]], name: str) -> list[Tokens]:
        """What a stage predicts in the steps of a chunk, [step, codebook] for every cue."""
        decoder = self.semantic if name == "semantic" else self.acoustic
        steps = [cue.grid.frames(self.config.stages()[name].rate) for cue in cues]
        conditions = np.zeros((len(cues), decoder.branches, max(steps), self.config.stages()[name].width), np.float32)
        for condition, tokens, count in zip(conditions, known, steps, strict=True):
            condition[:, :count] = self._conditions(name, tokens, count, decoder.branches)
        found = decoder.generate_frames(
            [cue.row for cue in cues],
            conditions,
            steps=steps,
            guidance=[cue.sampling.guidance if decoder.branches == 2 else 1.0 for cue in cues],
            temperature=[cue.sampling.temperature for cue in cues],
            top_k=[cue.sampling.top_k for cue in cues],
        )
        return [tokens[:count].astype(np.int64) for tokens, count in zip(found, steps, strict=True)]

    @torch.inference_mode()
    def _conditions(self, name: str, known: Mapping[str, Tokens], steps: int, branches: int) -> Floats:
        """[branch, step, width] embeddings of what is known in a chunk; the second branch does without the voice."""
        network, rate = self.networks[name], self.config.stages()[name].rate
        parts = []
        for source in network.config.sources:
            tokens = aligned(known[source.name], source, rate, 0, steps)
            both = np.stack([tokens] * branches)
            if source.name in (VOICE.name, HINT.name):
                both[1:] = source.vocabulary
            parts.append(torch.from_numpy(both).to(network.tokens.device))
        return network.embed_conditions(parts).float().cpu().numpy()

    def _whole_frames(self, row: int, steps: Tokens) -> Tokens:
        """Codes [codebook, frame] of the frames that are complete after `steps` [step, codebook]."""
        every = np.concatenate([self._begun[row], steps])
        frames = max(0, len(every) - self.held_back)
        self._begun[row] = every[frames:]
        delays = self.config.acoustic.delays
        return np.stack([every[delay : delay + frames, k] for k, delay in enumerate(delays)])


def _decoder(
    network: AlignedNetwork, rows: int, number: int, backend: Backend, branches: Literal[1, 2]
) -> DecodeStage | TorchFrameStage:
    if backend == "torch":
        return TorchFrameStage(network, rows, number, branches)
    return DecodeStage(frame_arrays(network), rows, network.config.window, backend, number, branches)
