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
from backline.models.hafm.aligned import IGNORED
from backline.models.hafm.hints import CHORDS, HIDDEN, HINT_FRAMES_BACK, HINTS, SUNG, ChordHints
from backline.models.hafm.keys import KeyListener
from backline.models.hafm.score import (
    BAND_TURNS,
    SUNG_WINDOWS,
    VOICE_PROTOTYPES,
    VOICE_TURNS,
    VOICE_VOCABULARY,
    sung_counts,
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
    chords: NDArray[np.int64]  # [frame] of the score, see models/hafm/score.py


@dataclass(frozen=True)
class TokenReport:
    """How good the tokens are, on songs that they were not fitted on."""

    used: float  # share of the vocabulary that occurs
    perplexity: float
    changes_per_second: float
    key_heard: dict[int, float]  # seconds of a song -> share of the songs whose key is then heard right
    chords_heard: dict[int, float]  # frames back -> share of the frames whose chord is the likeliest

    def __str__(self) -> str:
        keys = ", ".join(f"{share:.2f} after {seconds} s" for seconds, share in self.key_heard.items())
        chords = ", ".join(f"{share:.2f} {back / 50:g} s later" for back, share in self.chords_heard.items())
        return (
            f"used {self.used:.2f}, perplexity {self.perplexity:.0f}, {self.changes_per_second:.1f} changes/s, "
            f"key heard: {keys} (chance 0.08), chord heard: {chords}"
        )


@dataclass(frozen=True)
class Semantics:
    """The table, how often its tokens come in C, and what they are worth."""

    tables: HarmonyTables
    key_profile: Tensor  # [token] log probability
    hints: ChordHints
    report: TokenReport

    def tensors(self) -> dict[str, Tensor]:
        """As a pack holds them."""
        return {**self.tables.tensors("semantics.vocal."), "semantics.key": self.key_profile, **self.hints.tensors()}


def train_semantics(
    fitted: Iterable[SungSong],
    held_out: Iterable[SungSong],
    seed: int = 0,
    iterations: int = 30,
    progress: Callable[[str], None] = lambda line: None,
) -> Semantics:
    """Fits on the songs `fitted` and judges on `held_out`. Equal songs and seed: equal tables."""
    generator = torch.Generator().manual_seed(seed)
    train, keys, chords = _measure(fitted, generator, GAINS)
    test, test_keys, test_chords = _measure(held_out, generator, (1.0, 1.0))
    progress(f"semantics: {sum(map(len, train))} frames to fit, {sum(map(len, test))} held out")
    tables = fit_tables(torch.cat(train), generator, iterations)
    encoder = HarmonyEncoder(tables)
    tokens = [encoder.tokens(song[None])[0].numpy() for song in train]
    profile = key_profile(tokens, keys)
    hints = train_hints(in_c(tokens, keys, VOICE_TURNS), in_c(chords, keys, BAND_TURNS[:1]), seed)
    test_tokens = [encoder.tokens(song[None])[0].numpy() for song in test]
    report = _judge(test_tokens, test_keys, test_chords, profile, hints)
    progress(f"semantics: {report}")
    return Semantics(tables, profile, hints, report)


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


def in_c(tokens: Sequence[NDArray[np.int64]], keys: Sequence[int], turns: tuple[int, ...]) -> list[NDArray[np.int64]]:
    """Tokens [frame] of songs, transposed to C."""
    return [transposed(song[None], turns, -key)[0] for song, key in zip(tokens, keys, strict=True)]


def train_hints(
    tokens: Sequence[NDArray[np.int64]], chords: Sequence[NDArray[np.int64]], seed: int = 0, epochs: int = 12
) -> ChordHints:
    """Learns which chord is likely after what was sung; of songs in C, voice tokens [frame] and chords [frame]."""
    generator = torch.Generator().manual_seed(seed)
    counts, wanted = [], []
    for song, chord in zip(tokens, chords, strict=True):
        frames = min(len(song), len(chord))
        newest = np.arange(0, frames, 3)  # neighbours say the same
        counts.append(sung_counts(song[None, :frames])[:, newest].T)
        wanted.append(np.stack([np.where(newest >= b, chord[newest - b], IGNORED) for b in HINT_FRAMES_BACK], axis=1))
    x = torch.from_numpy(np.concatenate(counts)).float() / SUNG_WINDOWS[1]
    y = torch.from_numpy(np.concatenate(wanted))
    inner = torch.randn(HIDDEN, SUNG, generator=generator) / SUNG**0.5
    outer = torch.randn(HINTS, HIDDEN, generator=generator) / HIDDEN**0.5
    weights = [inner, torch.zeros(HIDDEN), outer, torch.zeros(HINTS)]
    for weight in weights:
        weight.requires_grad_()
    optimizer = torch.optim.AdamW(weights, 3e-3, weight_decay=0.02)
    batches = epochs * -(-len(x) // 1024)
    for batch in range(batches):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * (1 - batch / batches)
        rows = torch.randint(len(x), (1024,), generator=generator)
        hidden = torch.relu(x[rows] @ weights[0].T + weights[1])
        scores = (hidden @ weights[2].T + weights[3]).view(-1, len(HINT_FRAMES_BACK), CHORDS)
        loss = torch.nn.functional.cross_entropy(scores.flatten(0, 1), y[rows].flatten(), ignore_index=IGNORED)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return ChordHints(*(weight.detach().numpy() for weight in weights))


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
) -> tuple[list[Tensor], list[int], list[NDArray[np.int64]]]:
    """Features [frame, FEATURES], semitones above C and chords [frame] of every song."""
    extract = HarmonyFeatures()
    features, keys, chords = [], [], []
    for heard in songs:
        low, high = gains
        gain = low + (high - low) * float(torch.rand((), generator=generator))
        vocal = gain * torch.from_numpy(heard.vocal)
        vocal = vocal + VOCAL_NOISE * torch.randn(vocal.shape, generator=generator)
        features.append(extract(vocal[None, None])[0])
        keys.append(heard.semitones)
        chords.append(heard.chords)
    return features, keys, chords


def _judge(
    tokens: Sequence[NDArray[np.int64]],
    keys: Sequence[int],
    chords: Sequence[NDArray[np.int64]],
    profile: Tensor,
    hints: ChordHints,
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
        chords_heard=hinted(in_c(tokens, keys, VOICE_TURNS), in_c(chords, keys, BAND_TURNS[:1]), hints),
    )


def hinted(
    tokens: Sequence[NDArray[np.int64]], chords: Sequence[NDArray[np.int64]], hints: ChordHints
) -> dict[int, float]:
    """For each of HINT_FRAMES_BACK the share of frames whose chord is the likeliest, of songs in C."""
    right: dict[int, list[NDArray[np.bool_]]] = {back: [] for back in HINT_FRAMES_BACK}
    for song, chord in zip(tokens, chords, strict=True):
        frames = min(len(song), len(chord))
        likeliest = hints(song[None, :frames]).reshape(len(HINT_FRAMES_BACK), CHORDS, -1).argmax(axis=1)
        for told, back in zip(likeliest, HINT_FRAMES_BACK, strict=True):
            right[back].append(told[back:] == chord[: frames - back])
    return {back: float(np.concatenate(shares).mean()) for back, shares in right.items()}
