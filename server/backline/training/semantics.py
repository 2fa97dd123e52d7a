"""Fits the tables of our semantic encoder: k-means over the features of composed songs.

One table for the voice. Three for the band, whose bass, chords and rhythm change independently: one vocabulary of the
same size would have to share out its entries over all their combinations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backline.codecs.harmony import HOP, SAMPLE_RATE, VOCABULARY, HarmonyEncoder, HarmonyFeatures, HarmonyTables
from backline.kernels.chroma import BASS, FEATURES, LEVEL, ONSETS, TONALITY, TREBLE

VOCAL_NOISE = 0.01  # standard deviation added to vocals before the encoder, as HAFM does: hides separation residue
GAINS = (0.5, 1.5)  # songs to fit on come at levels in between, as singers and mixes do
FRAME_SECONDS = HOP / SAMPLE_RATE

# How much of the distance between two frames each group of features makes, as standard deviations. A voice is told
# apart by its pitch and by where notes begin; a band's chord by its middle register, its
# rhythm by its attacks.
GROUPS = {
    "bass": BASS,
    "treble": TREBLE,
    "onsets": ONSETS,
    "tonality": slice(TONALITY, TONALITY + 1),
    "level": slice(LEVEL, LEVEL + 1),
}
WEIGHTS = {
    "vocal": {"bass": 0.4, "treble": 1.0, "onsets": 0.3, "tonality": 0.2, "level": 0.4},
    "bass": {"bass": 1.0, "treble": 0.0, "onsets": 0.0, "tonality": 0.0, "level": 0.1},
    "chord": {"bass": 0.0, "treble": 1.0, "onsets": 0.0, "tonality": 0.1, "level": 0.1},
    "rhythm": {"bass": 0.0, "treble": 0.0, "onsets": 1.0, "tonality": 0.0, "level": 0.7},
}
BAND = ("bass", "chord", "rhythm")  # the tables of the band's codebooks, in their order


@dataclass(frozen=True)
class LabelledSong:
    """What the trainer needs of a song: its two sides at SAMPLE_RATE, and what is true at every frame."""

    vocal: NDArray[np.float32]  # [sample]
    instrumental: NDArray[np.float32]  # [sample]
    chords: NDArray[np.int64]  # [frame], any numbering
    beats: NDArray[np.int64]  # [frame], position within the bar in 16ths


@dataclass(frozen=True)
class TokenReport:
    """How good the tokens of one table are, on songs that it was not fitted on."""

    used: float  # share of the vocabulary that occurs
    perplexity: float
    chord_accuracy: float  # of the likeliest chord per token, learnt on the fitted songs
    chord_chance: float  # of the likeliest chord of all
    chord_information: float  # normalised mutual information of token and chord
    beat_accuracy: float
    beat_chance: float
    changes_per_second: float

    def __str__(self) -> str:
        return (
            f"used {self.used:.2f}, perplexity {self.perplexity:.0f}, chord {self.chord_accuracy:.2f} "
            f"(chance {self.chord_chance:.2f}, information {self.chord_information:.2f}), "
            f"16th {self.beat_accuracy:.2f} (chance {self.beat_chance:.2f}), {self.changes_per_second:.1f} changes/s"
        )


@dataclass(frozen=True)
class Semantics:
    """The tables, by the names of WEIGHTS, and what they are worth."""

    tables: dict[str, HarmonyTables]
    reports: dict[str, TokenReport]

    def tensors(self) -> dict[str, Tensor]:
        """As a pack holds them."""
        return {
            name: tensor
            for table, found in self.tables.items()
            for name, tensor in found.tensors(f"semantics.{table}.").items()
        }


def train_semantics(
    fitted: Iterable[LabelledSong],
    held_out: Iterable[LabelledSong],
    seed: int = 0,
    iterations: int = 40,
    progress: Callable[[str], None] = lambda line: None,
) -> Semantics:
    """Fits all tables on the songs `fitted` and judges them on `held_out`. Equal songs and seed: equal tables."""
    generator = torch.Generator().manual_seed(seed)
    train, test = _measure(fitted, generator, GAINS), _measure(held_out, generator, (1.0, 1.0))
    progress(f"semantics: {len(train.chords)} frames to fit, {len(test.chords)} held out")
    tables, reports = {}, {}
    for name, weights in WEIGHTS.items():
        side = "instrumental" if name in BAND else "vocal"
        tables[name] = fit_tables(train.features[side], weights, generator, iterations)
        reports[name] = _judge(tables[name], side, train, test)
        progress(f"semantics, {name}: {reports[name]}")
    return Semantics(tables, reports)


def fit_tables(
    features: Tensor,  # [frame, FEATURES]
    weights: dict[str, float],
    generator: torch.Generator,
    iterations: int,
) -> HarmonyTables:
    """Weights every group of features to its standard deviation in `weights`, then clusters."""
    mean = features.mean(0)
    gain = torch.empty(FEATURES)
    for name, group in GROUPS.items():
        spread = features[:, group].var(0).sum().sqrt().clamp_min(1e-4)
        gain[group] = weights[name] / spread
    centroids = kmeans((features - mean) * gain, VOCABULARY, generator, iterations)
    return HarmonyTables(mean, gain, centroids)


def kmeans(
    points: Tensor,  # [point, dimension]
    clusters: int,
    generator: torch.Generator,
    iterations: int,
) -> Tensor:
    """Centroids [cluster, dimension] after k-means++ seeding and Lloyd's iterations.

    A cluster that loses all its points starts again at a point that is badly served.

    Raises:
        ValueError: there are fewer points than clusters.
    """
    if len(points) < clusters:
        raise ValueError(f"{len(points)} frames cannot make {clusters} tokens: fit on more songs")
    centroids = _seed_centroids(points, clusters, generator)
    for _ in range(iterations):
        nearest, distance = _assign(points, centroids)
        counts = torch.bincount(nearest, minlength=clusters)
        sums = torch.zeros_like(centroids).index_add_(0, nearest, points)
        centroids = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], centroids)
        dead = torch.nonzero(counts == 0).flatten()
        if len(dead):
            weight = distance.clamp_min(1e-12)
            centroids[dead] = points[torch.multinomial(weight, len(dead), generator=generator)]
    return centroids


def _seed_centroids(points: Tensor, clusters: int, generator: torch.Generator, pool: int = 20_000) -> Tensor:
    """k-means++ over a random pool: each next centroid is drawn by its squared distance to those there are."""
    pool_points = points[torch.randperm(len(points), generator=generator)[: max(pool, clusters)]]
    chosen = [pool_points[0]]
    distance = (pool_points - chosen[0]).square().sum(1)
    while len(chosen) < clusters:
        index = int(torch.multinomial(distance.clamp_min(1e-12), 1, generator=generator))
        chosen.append(pool_points[index])
        distance = torch.minimum(distance, (pool_points - chosen[-1]).square().sum(1))
    return torch.stack(chosen)


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


@dataclass(frozen=True)
class _Measured:
    features: dict[str, Tensor]  # side -> [frame, FEATURES]
    chords: NDArray[np.int64]  # [frame]
    beats: NDArray[np.int64]  # [frame]


def _measure(songs: Iterable[LabelledSong], generator: torch.Generator, gains: tuple[float, float]) -> _Measured:
    extract = HarmonyFeatures()
    sides: dict[str, list[Tensor]] = {"vocal": [], "instrumental": []}
    chords, beats = [], []
    for heard in songs:
        low, high = gains
        gain = low + (high - low) * float(torch.rand((), generator=generator))
        vocal = gain * torch.from_numpy(heard.vocal)
        vocal = vocal + VOCAL_NOISE * torch.randn(vocal.shape, generator=generator)
        instrumental = gain * torch.from_numpy(heard.instrumental)
        frames = min(len(heard.chords), len(heard.beats), len(heard.vocal) // HOP, len(heard.instrumental) // HOP)
        sides["vocal"].append(extract(vocal[None, None])[0, :frames])
        sides["instrumental"].append(extract(instrumental[None, None])[0, :frames])
        chords.append(heard.chords[:frames])
        beats.append(heard.beats[:frames])
    return _Measured(
        {side: torch.cat(parts) for side, parts in sides.items()}, np.concatenate(chords), np.concatenate(beats)
    )


def _judge(tables: HarmonyTables, side: str, train: _Measured, test: _Measured) -> TokenReport:
    encoder = HarmonyEncoder(tables)
    known = encoder.tokens(train.features[side][None])[0].numpy()
    tokens = encoder.tokens(test.features[side][None])[0].numpy()
    share = np.bincount(tokens, minlength=VOCABULARY) / len(tokens)
    chord_accuracy, chord_chance = _predicts(known, train.chords, tokens, test.chords)
    beat_accuracy, beat_chance = _predicts(known, train.beats, tokens, test.beats)
    return TokenReport(
        used=float((share > 0).mean()),
        perplexity=float(np.exp(_entropy(share))),
        chord_accuracy=chord_accuracy,
        chord_chance=chord_chance,
        chord_information=normalised_information(tokens, test.chords),
        beat_accuracy=beat_accuracy,
        beat_chance=beat_chance,
        changes_per_second=float(np.mean(np.diff(tokens) != 0) / FRAME_SECONDS),
    )


def _predicts(
    known: NDArray[np.int64], known_labels: NDArray[np.int64], tokens: NDArray[np.int64], labels: NDArray[np.int64]
) -> tuple[float, float]:
    """Accuracy on `labels` of each token's commonest known label, and of the commonest label alone."""
    table = np.zeros((VOCABULARY, int(max(known_labels.max(), labels.max())) + 1))
    np.add.at(table, (known, known_labels), 1)
    commonest = int(table.sum(0).argmax())
    guess = np.where(table.sum(1) > 0, table.argmax(1), commonest)
    return float(np.mean(guess[tokens] == labels)), float(np.mean(labels == commonest))


def normalised_information(tokens: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Mutual information of two labellings over the mean of their entropies: 0 unrelated, 1 the same."""
    joint = np.zeros((int(tokens.max()) + 1, int(labels.max()) + 1))
    np.add.at(joint, (tokens, labels), 1.0 / len(tokens))
    token_entropy, label_entropy = _entropy(joint.sum(1)), _entropy(joint.sum(0))
    mean = 0.5 * (token_entropy + label_entropy)
    return float((token_entropy + label_entropy - _entropy(joint.ravel())) / mean) if mean > 0 else 0.0


def _entropy(share: NDArray[np.float64]) -> float:
    share = share[share > 0]
    return float(-(share * np.log(share)).sum())
