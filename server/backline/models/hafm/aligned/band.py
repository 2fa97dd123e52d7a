"""The aligned stages playing chunk after chunk: the voice's tokens in, codes out, every row's cache carried along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from backline.kernels.decode import DecodeStage
from backline.models.hafm.aligned.config import BAND, BEAT, CHORD, LAG, LOOKAHEAD, VOICE, AlignedConfig
from backline.models.hafm.aligned.decode import TorchFrameStage, frame_arrays
from backline.models.hafm.aligned.network import AlignedNetwork, aligned, lag_token
from backline.models.hafm.band import Backend, Cue, Tokens
from backline.models.hafm.held import chord_of
from backline.models.hafm.listening.beats import BeatListener
from backline.models.hafm.listening.hints import CHORDS, HINT_RATE, ChordHints, HintListener
from backline.models.hafm.listening.keys import KeyListener
from backline.models.hafm.listening.leading import UNHEARD, ChordLeader
from backline.models.hafm.score import (
    BAND_TURNS,
    VOICE_TURNS,
    chord_name,
    pitch_and_colour,
    semitones_from_c,
    transposed,
)
from backline.models.hafm.transport import BEAT_STEPS, transport_tokens
from backline.models.rows import check_tokens, each, together
from backline.models.stream import Heard

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Part:
    """What one row is to play in one chunk."""

    cue: Cue
    up: int  # semitones by which its key lies above C
    known: dict[str, Tokens]  # by source, in C

    @property
    def row(self) -> int:
        return self.cue.row


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
        beat_table: Floats | None = None,
    ) -> None:
        """
        Args:
            key_profile: [vocal token], see listening/keys.py.
            beat_table: [kind, position], see listening/beats.py; without it no beat is heard, only told.
        """
        self.config = config
        self.networks = {name: networks[name].eval().requires_grad_(False) for name in config.stages()}
        self.semantic = _decoder(self.networks["semantic"], rows, 0, backend, branches=2)
        self.acoustic = _decoder(self.networks["acoustic"], rows, 1, backend, branches=1)
        self.held_back = max(config.acoustic.delays)
        self.hints = hints
        self.key_profile = key_profile  # [vocal token], see listening/keys.py
        self._hints = [HintListener(hints) for _ in range(rows)]
        self._leaders = [ChordLeader() for _ in range(rows)]
        self._listeners = [KeyListener(key_profile) for _ in range(rows)]
        self.beat_table = beat_table
        self._beats = [self._beat_listener() for _ in range(rows)]
        self._heard: list[tuple[Heard, ...]] = [()] * rows
        self._begun = [np.zeros((0, config.acoustic.codebooks), np.int64) for _ in range(rows)]  # steps not yet whole

    def reset(self, row: int, seed: int) -> None:
        self.semantic.reset(row, seed)
        self.acoustic.reset(row, seed)
        self._begun[row] = self._begun[row][:0]
        self._heard[row] = ()
        self._listeners[row] = KeyListener(self.key_profile)
        self._beats[row] = self._beat_listener()
        self._hints[row] = HintListener(self.hints)
        self._leaders[row] = ChordLeader()

    def play(self, cues: Sequence[Cue]) -> list[Tokens | Exception]:
        prepared = each(self._prepare, cues)
        playing = [part for part in prepared if isinstance(part, Part)]
        failed = {cue.row: error for cue, error in zip(cues, prepared, strict=True) if isinstance(error, Exception)}
        for part, steps in zip(playing, self._answer(playing, "semantic"), strict=True):
            if isinstance(steps, Exception):
                failed[part.row] = steps
            else:
                part.known[BAND.name] = transposed(np.ascontiguousarray(steps.T), BAND_TURNS, part.up)
        playing = [part for part in playing if part.row not in failed]
        codes: dict[int, Tokens] = {}
        for part, steps in zip(playing, self._answer(playing, "acoustic"), strict=True):
            if isinstance(steps, Exception):
                failed[part.row] = steps
            else:
                codes[part.row] = self._whole_frames(part.row, steps)
        return [failed[cue.row] if cue.row in failed else codes[cue.row] for cue in cues]

    def heard(self, row: int) -> tuple[Heard, ...]:
        return self._heard[row]

    def full_after(self) -> Fraction:
        return max(Fraction(stage.window, stage.rate) for stage in self.config.stages().values())

    def kv_bytes(self) -> int:
        return self.semantic.kv_bytes() + self.acoustic.kv_bytes()

    def resident_bytes(self) -> int:
        tables = sum(p.nbytes for network in self.networks.values() for p in network.parameters())
        return tables + self.semantic.resident_bytes() + self.acoustic.resident_bytes()

    def _beat_listener(self) -> BeatListener | None:
        return None if self.beat_table is None else BeatListener(self.beat_table)

    def _prepare(self, cue: Cue) -> Part:
        """What is known of the chunk before a stage plays; moves the row's listeners on."""
        cue = self._in_time(cue)
        up = self._key(cue)
        return Part(cue, up, self._known(cue, up))

    def _in_time(self, cue: Cue) -> Cue:
        """The cue with the beat that is heard, if one is, where the host does not play."""
        listener = self._beats[cue.row]
        if listener is None:
            return cue
        listener.hear(cue.vocal)
        if cue.transport is not None and cue.transport.playing:
            return cue
        begin, end = (float(number * cue.grid.chunk) for number in (cue.chunk, cue.chunk + 1))
        return replace(cue, transport=listener.transport(begin, end), heard=True)

    def _key(self, cue: Cue) -> int:
        """Semitones by which the key that is told, or else heard, lies above C."""
        listener = self._listeners[cue.row]
        listener.hear(cue.vocal)
        for held in filter(None, _held(cue, keep=False)):  # a chord that stays tells no more than when it was held
            listener.told(chord_of(held, np.zeros(CHORDS)))
        return listener.semitones if cue.key is None else semitones_from_c(cue.key)

    def _known(self, cue: Cue, up: int) -> dict[str, Tokens]:
        """By source the tokens [codebook, frame] of the chunk; of the voice those that its lag puts there, in C."""
        chunk, lag = cue.grid.chunk, cue.grid.chunk - cue.grid.visibility
        frames = cue.grid.frames(VOICE.rate)
        voice = np.full((VOICE.codebooks, frames), VOICE.vocabulary)
        new = min(frames, cue.vocal.shape[1])  # a first chunk hears more than belongs to it, or less
        if new:
            voice[:, -new:] = pitch_and_colour(transposed(cue.vocal, VOICE_TURNS, -up))[:, -new:]
        self._hints[cue.row].hear(cue.vocal, cue.transport, counted=not cue.heard)
        beats, steps = int(chunk * BEAT.rate), int(chunk * HINT_RATE)
        first = cue.chunk * steps
        hints = self._hints[cue.row].told(first, steps, up, lag)
        held = [frozenset(pitch - up for pitch in step) for step in _held(cue, cue.keep)]
        chords = self._leaders[cue.row].lead(hints, first, cue.transport, held)
        self._heard[cue.row] = _heard(cue, first, chords, up)
        return {
            VOICE.name: voice,
            CHORD.name: chords.repeat(CHORD.rate // HINT_RATE)[None],
            BEAT.name: transport_tokens(cue.transport, cue.chunk * beats, beats, BEAT.rate, BEAT_STEPS)[None],
            LAG.name: np.full((1, int(chunk * LAG.rate)), lag_token(lag)),
        }

    def _answer(self, parts: Sequence[Part], name: str) -> list[Tokens | Exception]:
        """What a stage predicts in the steps of a chunk, [step, codebook] for every part, or what it failed of."""
        decoder: Any = self.semantic if name == "semantic" else self.acoustic
        return together(parts, lambda some: self._generate(some, name), decoder.snapshot, decoder.restore)

    def _generate(self, parts: Sequence[Part], name: str) -> list[Tokens]:
        decoder = self.semantic if name == "semantic" else self.acoustic
        rate = self.config.stages()[name].rate
        steps = [part.cue.grid.frames(rate) for part in parts]
        conditions = np.zeros((len(parts), decoder.branches, max(steps), self.config.stages()[name].width), np.float32)
        for condition, part, count in zip(conditions, parts, steps, strict=True):
            condition[:, :count] = self._conditions(name, part.known, count, decoder.branches)
        for part in parts:
            decoder.draw_ahead(part.row, round(part.cue.ahead * rate))
        sampling = [part.cue.sampling for part in parts]
        found = decoder.generate_frames(
            [part.row for part in parts],
            conditions,
            steps=steps,
            guidance=[each.guidance if decoder.branches == 2 else 1.0 for each in sampling],
            temperature=[each.temperature for each in sampling],
            top_k=[each.top_k for each in sampling],
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
            if source.name in (VOICE.name, CHORD.name):
                both[1:] = source.vocabulary
            check_tokens(both, source.vocabulary + 1, f"source {source.name!r}")
            parts.append(torch.from_numpy(both).to(network.tokens.device))
        return network.embed_conditions(parts).float().cpu().numpy()

    def _whole_frames(self, row: int, steps: Tokens) -> Tokens:
        """Codes [codebook, frame] of the frames that are complete after `steps` [step, codebook]."""
        every = np.concatenate([self._begun[row], steps])
        frames = max(0, len(every) - self.held_back)
        self._begun[row] = every[frames:]
        delays = self.config.acoustic.delays
        return np.stack([every[delay : delay + frames, k] for k, delay in enumerate(delays)])


def _heard(cue: Cue, first: int, chords: Tokens, up: int) -> tuple[Heard, ...]:
    """What a chunk is played by: `chords` [step] in C from step `first` of HINT_RATE on, and the beat that is heard."""
    beat, heard = cue.transport if cue.heard else None, list[Heard]()
    before = None
    for step, chord in enumerate(chords.tolist()):
        if chord != before:
            name = "" if chord == UNHEARD else chord_name(chord // 12 * 12 + (chord + up) % 12)
            heard.append(Heard((first + step) / HINT_RATE, name, beat))
        before = chord
    return tuple(heard)


def _held(cue: Cue, keep: bool) -> list[frozenset[int]]:
    """Pitches that are held in the chunk's steps of HINT_RATE: what is struck within one is held from its start."""
    if cue.held is None:
        return []
    steps = int(cue.grid.chunk * HINT_RATE)
    return [cue.held.at((cue.chunk * steps + step + 1) / HINT_RATE, keep) for step in range(steps)]


def _decoder(
    network: AlignedNetwork, rows: int, number: int, backend: Backend, branches: Literal[1, 2]
) -> DecodeStage | TorchFrameStage:
    if backend == "torch":
        return TorchFrameStage(network, rows, number, branches)
    return DecodeStage(frame_arrays(network), rows, network.config.window, backend, number, branches)
