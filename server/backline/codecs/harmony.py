"""Our own semantic encoder: 50 tokens a second over features that hold harmony, bass, drums and loudness.

There are as many different ones as its table has: 500, if nothing speaks for another number.

It hears 24 kHz mono, the codec's rate, so that a session is resampled once for both. A constant-Q-like filterbank (one
filter a semitone, 100-300 ms long: a bass note needs that much to be told from its neighbour) gives chroma; each filter
is lopsided, long into the past and short into the future, which keeps the look-ahead at 40 ms. One extractor serves
voice and band; they differ in their tables: how much each feature counts, and the centroids.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backline.kernels.chroma import BANDS, FEATURES, music_features, nearest, silent_trail
from backline.nn.streaming import keep_rows
from backline.nn.weights import misfits

SAMPLE_RATE = 24_000
HOP = 480
LOOKAHEAD = 960  # samples after a frame that its features see
VOCABULARY = 500

LOWEST_PITCH, HIGHEST_PITCH = 28, 88  # E1, the bass guitar's lowest string, to E6
BASS_BELOW, TREBLE_FROM = 53, 48  # they share a few semitones, as bass lines and low chords do
BAND_EDGES_HZ = ((30.0, 150.0), (150.0, 700.0), (700.0, 4000.0), (4000.0, 11000.0))
SHORTEST_SECONDS, LONGEST_SECONDS = 0.1, 0.3
PERIODS = 34.0  # a Hann window of so many periods has its first zero one semitone off


@dataclass(frozen=True)
class HarmonyTables:
    """What makes tokens of features: the nearest of `centroids` [token, feature] to (features - mean) * gain."""

    mean: Tensor  # [feature]
    gain: Tensor  # [feature]
    centroids: Tensor  # [token, feature]

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], prefix: str) -> HarmonyTables:
        """The tables that a pack holds under `prefix`, e.g. "semantics.vocal.".

        Raises:
            ValueError: tensors are missing or have wrong shapes; the message lists all of them.
        """
        entries = tensors[prefix + "centroids"].shape[:1] if prefix + "centroids" in tensors else (VOCABULARY,)
        expected = {"mean": (FEATURES,), "gain": (FEATURES,), "centroids": (*entries, FEATURES)}
        wrong = []
        for name, shape in expected.items():
            found = tensors.get(prefix + name)
            if found is None:
                wrong.append(f"{prefix}{name} {list(shape)} is missing")
            else:
                wrong += misfits(prefix + name, found, shape)
        if wrong:
            raise ValueError("semantic tables do not fit: " + "; ".join(wrong))
        return cls(**{name: tensors[prefix + name].to("cpu", torch.float32).contiguous() for name in expected})

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """What `from_tensors` reads."""
        return {prefix + "mean": self.mean, prefix + "gain": self.gain, prefix + "centroids": self.centroids}


@dataclass
class HarmonyState:
    """What a row remembers between blocks."""

    history: Tensor  # [row, WINDOW - HOP] float32, the newest samples
    memory: Tensor  # [row, band, section, 2] float64, of the band filters
    trail: Tensor  # [row, band] float64, recent maximum of each band's log energy


class HarmonyFeatures:
    """The extractor: audio to features, streaming. `HarmonyEncoder` makes tokens of them."""

    def init_state(self, rows: int) -> HarmonyState:
        """Silence so far."""
        bank = _filterbank()
        return HarmonyState(
            history=torch.zeros(rows, bank.window - HOP),
            memory=torch.zeros(rows, BANDS, bank.sections.shape[1], 2, dtype=torch.float64),
            trail=torch.full((rows, BANDS), silent_trail(), dtype=torch.float64),
        )

    def step(self, audio: Tensor, state: HarmonyState, mask: Tensor | None = None) -> tuple[Tensor, HarmonyState]:
        """Features [row, frame, FEATURES] of audio [row, 1, frame * HOP], late by LOOKAHEAD / HOP frames."""
        rows, channels, samples = audio.shape
        if channels != 1 or samples % HOP:
            raise ValueError(f"audio is {list(audio.shape)}: the encoder takes [row, 1, a multiple of {HOP}]")
        bank = _filterbank()
        signal = torch.cat([state.history, audio[:, 0].to("cpu", torch.float32)], dim=1)
        memory, trail = state.memory.clone(), state.trail.clone()
        features = torch.empty(rows, samples // HOP, FEATURES)
        for row in range(rows):
            if mask is not None and not mask[row]:
                features[row] = 0.0
                continue
            music_features(
                signal[row].numpy(), HOP, bank.window, LOOKAHEAD, bank.cosines, bank.sines, bank.starts, bank.pitches,
                BASS_BELOW, TREBLE_FROM, bank.sections, memory[row].numpy(), trail[row].numpy(), features[row].numpy(),
            )  # fmt: skip
        history = keep_rows(signal[:, samples:].clone(), state.history, mask if mask is None else mask.cpu())
        return features, HarmonyState(history, memory, trail)

    def __call__(self, audio: Tensor) -> Tensor:
        """Features [row, ceil(sample / HOP), FEATURES] of whole signals [row, 1, sample]."""
        frames = -(-audio.shape[-1] // HOP)
        tail = frames * HOP - audio.shape[-1] + LOOKAHEAD
        padded = torch.nn.functional.pad(audio, (0, tail))
        features, _ = self.step(padded, self.init_state(audio.shape[0]))
        return features[:, LOOKAHEAD // HOP :]


class HarmonyEncoder:
    """Audio to semantic tokens; a `SemanticEncoder`."""

    sample_rate = SAMPLE_RATE
    frame_rate = Fraction(SAMPLE_RATE, HOP)
    hop = HOP
    vocabulary = VOCABULARY
    lookahead = LOOKAHEAD

    def __init__(self, tables: HarmonyTables) -> None:
        self.tables = tables
        self.vocabulary = len(tables.centroids)
        self.features = HarmonyFeatures()

    def encode(self, audio: Tensor) -> Tensor:
        """Tokens [row, ceil(sample / HOP)] of whole signals [row, 1, sample]."""
        return self.tokens(self.features(audio))

    def init_state(self, rows: int) -> HarmonyState:
        """Silence so far."""
        return self.features.init_state(rows)

    def step(self, audio: Tensor, state: HarmonyState, mask: Tensor | None = None) -> tuple[Tensor, HarmonyState]:
        """Tokens [row, frame] of audio [row, 1, frame * HOP], late by LOOKAHEAD / HOP frames; masked rows: token 0."""
        features, state = self.features.step(audio, state, mask)
        tokens = self.tokens(features)
        if mask is not None:
            tokens[~mask.cpu()] = 0
        return tokens, state

    def tokens(self, features: Tensor) -> Tensor:
        """Tokens [row, frame] of features [row, frame, FEATURES]."""
        rows, frames, _ = features.shape
        tokens = torch.empty(rows, frames, dtype=torch.int64)
        nearest(
            features.reshape(rows * frames, FEATURES).numpy(),
            self.tables.mean.numpy(),
            self.tables.gain.numpy(),
            self.tables.centroids.numpy(),
            tokens.view(-1).numpy(),
        )
        return tokens


@dataclass(frozen=True)
class _Filterbank:
    window: int  # samples
    cosines: NDArray[np.float32]  # [tap]
    sines: NDArray[np.float32]  # [tap]
    starts: NDArray[np.int64]  # [filter + 1]
    pitches: NDArray[np.int64]  # [filter]
    sections: NDArray[np.float64]  # [band, section, 5]


@cache
def _filterbank() -> _Filterbank:
    """One filter a semitone: lopsided Hann windows that peak at the frame's centre and end at its newest sample."""
    future = LOOKAHEAD + HOP // 2
    pitches = np.arange(LOWEST_PITCH, HIGHEST_PITCH + 1)
    cosines, sines, starts = [], [], [0]
    for pitch in pitches:
        hertz = 440.0 * 2.0 ** ((pitch - 69) / 12)
        taps = round(SAMPLE_RATE * min(max(PERIODS / hertz, SHORTEST_SECONDS), LONGEST_SECONDS))
        past = taps - future
        rise = np.sin(0.5 * np.pi * (np.arange(past) + 0.5) / past) ** 2
        fall = np.cos(0.5 * np.pi * (np.arange(future) + 0.5) / future) ** 2
        shape = np.concatenate([rise, fall])
        shape *= 2.0 / shape.sum()  # a sine of amplitude 1 gives magnitude 1
        angle = 2.0 * np.pi * hertz / SAMPLE_RATE * np.arange(taps)
        cosines.append(shape * np.cos(angle))
        sines.append(shape * np.sin(angle))
        starts.append(starts[-1] + taps)
    from scipy.signal import butter  # takes seconds, and is not needed to say what a pack with this codec serves

    sections = np.stack([butter(2, edges, "bandpass", output="sos", fs=SAMPLE_RATE) for edges in BAND_EDGES_HZ])
    return _Filterbank(
        window=-(-round(LONGEST_SECONDS * SAMPLE_RATE) // HOP) * HOP,
        cosines=np.concatenate(cosines).astype(np.float32),
        sines=np.concatenate(sines).astype(np.float32),
        starts=np.array(starts, np.int64),
        pitches=pitches.astype(np.int64),
        sections=np.ascontiguousarray(sections[:, :, [0, 1, 2, 4, 5]]),
    )
