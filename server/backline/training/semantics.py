"""Fits the voice's tokens: k-means over features of composed songs, every centroid in all twelve transpositions.

And counts which of them a song in C has, by which a key is heard. The band's tokens need no table: training/score.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backline.codecs.harmony import HOP, SAMPLE_RATE, HarmonyEncoder, HarmonyFeatures, HarmonyTables
from backline.kernels.chroma import BASS, FEATURES, LEVEL, ONSETS, TONALITY, TREBLE
from backline.models.hafm.listening.keys import KeyListener
from backline.models.hafm.score import (
    VOICE_PROTOTYPES,
    VOICE_TURNS,
    VOICE_VOCABULARY,
    transposed,
)

VOCAL_NOISE = 0.01  # standard deviation added to vocals before the encoder, as HAFM does: hides separation residue
GAINS = (0.5, 1.5)  # songs to fit on come at levels in between, as singers do
FRAME_SECONDS = HOP / SAMPLE_RATE

# How much of the distance between two frames each group of features makes, as standard deviations: a voice is told
# apart by its pitch, and by where notes begin.
GROUPS = {
    "bass": BASS,
    "treble": TREBLE,
    "onsets": ONSETS,
    "tonality": slice(TONALITY, TONALITY + 1),
    "level": slice(LEVEL, LEVEL + 1),
}
WEIGHTS = {"bass": 0.4, "treble": 1.0, "onsets": 0.3, "tonality": 0.2, "level": 0.4}
SILENT_CHROMA = 0.1  # sum of squares of a chroma (1 for a loud tone) below which a frame has no pitch


@dataclass(frozen=True)
class SungSong:
    """What the trainer needs of a song."""

    vocal: NDArray[np.float32]  # [sample] at SAMPLE_RATE
    semitones: int  # by which its key lies above C major or A minor


@dataclass(frozen=True)
class TokenReport:
    """How good the tokens are, on songs that they were not fitted on."""

    used: float  # share of the vocabulary that occurs
    perplexity: float
    changes_per_second: float
    key_heard: dict[int, float]  # seconds of a song -> share of the songs whose key is then heard right

    def __str__(self) -> str:
        keys = ", ".join(f"{share:.2f} after {seconds} s" for seconds, share in self.key_heard.items())
        return (
            f"used {self.used:.2f}, perplexity {self.perplexity:.0f}, {self.changes_per_second:.1f} changes/s, "
            f"key heard: {keys} (chance 0.08)"
        )


@dataclass(frozen=True)
class Semantics:
    """The table, how often its tokens come in C, and what they are worth."""

    tables: HarmonyTables
    key_profile: Tensor  # [token] log probability
    report: TokenReport

    def tensors(self) -> dict[str, Tensor]:
        """As a pack holds them."""
        return {**self.tables.tensors("semantics.vocal."), "semantics.key": self.key_profile}


def train_semantics(
    fitted: Iterable[SungSong],
    held_out: Iterable[SungSong],
    seed: int = 0,
    iterations: int = 30,
    progress: Callable[[str], None] = lambda line: None,
) -> Semantics:
    """Fits on the songs `fitted` and judges on `held_out`. Equal songs and seed: equal tables."""
    generator = torch.Generator().manual_seed(seed)
    train, keys = _measure(fitted, generator, GAINS)
    test, test_keys = _measure(held_out, generator, (1.0, 1.0))
    progress(f"semantics: {sum(map(len, train))} frames to fit, {sum(map(len, test))} held out")
    tables = fit_tables(torch.cat(train), generator, iterations)
    encoder = HarmonyEncoder(tables)
    tokens = [encoder.tokens(song[None])[0].numpy() for song in train]
    profile = key_profile(tokens, keys)
    test_tokens = [encoder.tokens(song[None])[0].numpy() for song in test]
    report = _judge(test_tokens, test_keys, profile)
    progress(f"semantics: {report}")
    return Semantics(tables, profile, report)


def fit_tables(features: Tensor, generator: torch.Generator, iterations: int) -> HarmonyTables:
    """Of features [frame, FEATURES]: weighted by group, then clustered up to transposition; silence is the last token.

    Raises:
        ValueError: there are fewer frames with a pitch than prototypes.
    """
    mean, gain = torch.empty(FEATURES), torch.empty(FEATURES)
    for name, group in GROUPS.items():
        mean[group] = features[:, group].mean() if name in ("bass", "treble") else features[:, group].mean(0)
        gain[group] = WEIGHTS[name] / features[:, group].var(0).sum().sqrt().clamp_min(1e-4)
    silent = features[:, TREBLE].square().sum(1) < SILENT_CHROMA
    points = (features - mean) * gain
    prototypes = turning_means(points[~silent], VOICE_PROTOTYPES, generator, iterations)
    loudest = (prototypes / gain + mean)[:, TREBLE].argmax(1)
    prototypes = transpose(prototypes, -loudest)  # so that all tokens of one pitch are the same but for their prototype
    quiet = points[silent] if silent.any() else (HarmonyFeatures()(torch.zeros(1, 1, HOP))[0] - mean) * gain
    silence = all_transpositions(quiet.mean(0, keepdim=True)).mean(0, keepdim=True)
    return HarmonyTables(mean, gain, torch.cat([all_transpositions(prototypes), silence]).contiguous())


def turning_means(points: Tensor, clusters: int, generator: torch.Generator, iterations: int) -> Tensor:
    """Prototypes [cluster, FEATURES] of points [point, FEATURES]: k-means, where a point may be transposed to fit.

    A cluster that loses all its points starts again at a point that is badly served.
    """
    if len(points) < clusters:
        raise ValueError(f"{len(points)} frames with a pitch cannot make {clusters} prototypes: fit on more songs")
    prototypes = points[torch.randperm(len(points), generator=generator)[:clusters]]
    for _ in range(iterations):
        token, distance = _assign(points, all_transpositions(prototypes))
        back = transpose(points, -(token % 12))
        sums = torch.zeros_like(prototypes).index_add_(0, token // 12, back)
        counts = torch.bincount(token // 12, minlength=clusters)
        prototypes = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], prototypes)
        dead = torch.nonzero(counts == 0).flatten()
        if len(dead):
            prototypes[dead] = points[torch.multinomial(distance.clamp_min(1e-12), len(dead), generator=generator)]
    return prototypes


def all_transpositions(prototypes: Tensor) -> Tensor:
    """[prototype * 12 + semitones, FEATURES] of prototypes [prototype, FEATURES]."""
    by_semitones = torch.arange(12).repeat(len(prototypes))
    return transpose(prototypes.repeat_interleave(12, dim=0), by_semitones)


def transpose(points: Tensor, semitones: Tensor) -> Tensor:
    """Both chromas of points [point, FEATURES] turned upwards by semitones [point]."""
    turned = points.clone()
    source = (torch.arange(12) - semitones[:, None]) % 12
    for group in (BASS, TREBLE):
        turned[:, group] = points[:, group].gather(1, source)
    return turned


def key_profile(tokens: Sequence[NDArray[np.int64]], keys: Sequence[int]) -> Tensor:
    """[token] log probability in a song in C, of songs' tokens [frame] and their semitones above C."""
    counts = np.ones(VOICE_VOCABULARY)
    for song, semitones in zip(tokens, keys, strict=True):
        counts += np.bincount(transposed(song[None], VOICE_TURNS, -semitones)[0], minlength=VOICE_VOCABULARY)
    return torch.from_numpy(np.log(counts / counts.sum())).float()


def _assign(points: Tensor, centroids: Tensor, block: int = 16_384) -> tuple[Tensor, Tensor]:
    """The nearest centroid of every point, and the squared distance to it."""
    nearest, distance = [], []
    norms = centroids.square().sum(1)
    for part in points.split(block):
        squared = (part.square().sum(1, keepdim=True) - 2 * part @ centroids.T + norms).clamp_min(0)
        values, indices = squared.min(1)
        nearest.append(indices)
        distance.append(values)
    return torch.cat(nearest), torch.cat(distance)


def _measure(
    songs: Iterable[SungSong], generator: torch.Generator, gains: tuple[float, float]
) -> tuple[list[Tensor], list[int]]:
    """Features [frame, FEATURES] and semitones above C of every song."""
    extract = HarmonyFeatures()
    features, keys = [], []
    for heard in songs:
        low, high = gains
        gain = low + (high - low) * float(torch.rand((), generator=generator))
        vocal = gain * torch.from_numpy(heard.vocal)
        vocal = vocal + VOCAL_NOISE * torch.randn(vocal.shape, generator=generator)
        features.append(extract(vocal[None, None])[0])
        keys.append(heard.semitones)
    return features, keys


def _judge(
    tokens: Sequence[NDArray[np.int64]],
    keys: Sequence[int],
    profile: Tensor,
) -> TokenReport:
    every = np.concatenate(tokens)
    share = np.bincount(every, minlength=VOICE_VOCABULARY) / len(every)
    heard = {}
    for seconds in (2, 4, 8, 16):
        right = 0
        for song, semitones in zip(tokens, keys, strict=True):
            listener = KeyListener(profile.numpy())
            listener.hear(song[None, : round(seconds / FRAME_SECONDS)])
            right += listener.semitones == semitones
        heard[seconds] = right / len(tokens)
    return TokenReport(
        used=float((share > 0).mean()),
        perplexity=float(np.exp(-np.sum(share[share > 0] * np.log(share[share > 0])))),
        changes_per_second=float(np.mean(np.diff(every) != 0) / FRAME_SECONDS),
        key_heard=heard,
    )
