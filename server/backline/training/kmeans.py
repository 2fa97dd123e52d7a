"""Fits semantic tokens: k-means over one layer's features of voices and bands (HAFM, section 3.2: 500, layer 9).

Mini-batch k-means (Sculley, 2010), begun as k-means++ (Arthur and Vassilvitskii, 2007).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from backline.codecs.base import SemanticEncoder
from backline.codecs.clustered import ClusteredEncoder, agreement, nearest
from backline.codecs.duotok.codec import DuoTokSemantics
from backline.corpus.multitrack import Sound
from backline.corpus.pair_tokens import voice_and_band_heard
from backline.corpus.songs import Passage
from backline.measures.codes import perplexity
from backline.models.hafm.load import load_encoder
from backline.models.hafm.tables import CLUSTERED, VOCAL_NOISE
from backline.packs.importers.checkpoint import Component

FRAMES = 1000  # of a passage that are fitted on, half of them the voice's
BATCH = 10_000  # points
ROUNDS = 12  # how often every point is met
STREAMED_SECONDS = 12  # of a voice, heard as a stream too: it takes many times as long
CANDIDATES = 20  # points that k-means++ chooses a centroid from, for each


@dataclass(frozen=True)
class TokenReport:
    """How good the tokens are, on passages that they were not fitted on."""

    clusters: int
    perplexity: dict[str, float]  # of "vocal" and "instrumental"; at most `clusters`
    agreement: float  # share of the voice's tokens that a stream gives as well

    def __str__(self) -> str:
        sides = ", ".join(f"perplexity of {side} tokens {value:.0f}" for side, value in self.perplexity.items())
        return f"{self.clusters} clusters, {sides}; a stream gives {self.agreement:.0%} of the whole clip's tokens"


def fit_semantics(
    network: Component,
    passages: Sequence[Passage],
    clusters: int,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[str], None] = lambda line: None,
) -> Component:
    """The part of a pack that listens: `network` with centroids that are fitted on `passages`.

    Raises:
        ValueError: there are too few frames for so many clusters.
    """
    kind = network.table["kind"]
    name = f"semantics.{kind}.centroids"
    dimension = network.table["dimension" if kind == "hubert" else "width"]
    none_yet = {**network.tensors, name: torch.zeros(1, dimension)}
    encoder = load_encoder({**network.table, "vocabulary": 1}, none_yet, device)
    assert isinstance(encoder, ClusteredEncoder | DuoTokSemantics), f"{kind} is one of {', '.join(CLUSTERED)}"
    generator = torch.Generator().manual_seed(seed)
    points = []
    for number, passage in enumerate(passages, 1):
        for sound in sounds(encoder, passage):
            features = encoder.clip_features(torch.from_numpy(sound)[None])[0]
            points.append(features[torch.randperm(len(features), generator=generator)[: FRAMES // 2]].cpu())
        if number % 25 == 0 or number == len(passages):
            progress(f"k-means: heard {number} of {len(passages)} passages")
    centroids = minibatch_kmeans(torch.cat(points), clusters, generator)
    table = {**network.table, "vocabulary": clusters, "vocal_noise": VOCAL_NOISE}
    return Component(table, {**network.tensors, name: centroids}, network.warnings)


def judge_semantics(listening: Component, passages: Sequence[Passage], device: str = "cpu") -> TokenReport:
    """What a part's tokens are worth on passages that they were not fitted on."""
    encoder = load_encoder(listening.table, listening.tensors, device)
    of_band = load_encoder(listening.table, listening.tensors, device, "accompaniment")
    found: dict[str, list[Tensor]] = {"vocal": [], "instrumental": []}
    same = []
    for passage in passages:
        voice, band = sounds(encoder, passage)
        for side, heard, sound in (("vocal", encoder, voice), ("instrumental", of_band, band)):
            found[side].append(heard.encode(torch.from_numpy(sound)[None, None])[0].cpu())
        beginning = voice[: STREAMED_SECONDS * encoder.sample_rate]
        same.append(agreement(encoder, torch.from_numpy(beginning)[None, None]))
    used = {side: perplexity(torch.cat(tokens), encoder.vocabulary) for side, tokens in found.items()}
    return TokenReport(encoder.vocabulary, used, float(np.mean(same)))


def sounds(encoder: SemanticEncoder, passage: Passage) -> tuple[Sound, Sound]:
    """Voice and band of a passage as they are tokenized."""
    return voice_and_band_heard(passage.song(), passage.seed, encoder.sample_rate, VOCAL_NOISE)


def minibatch_kmeans(points: Tensor, clusters: int, generator: torch.Generator, rounds: int = ROUNDS) -> Tensor:
    """Centroids [cluster, dimension] of points [point, dimension].

    Raises:
        ValueError: there are fewer points than clusters.
    """
    if len(points) < clusters:
        raise ValueError(f"{clusters} clusters of {len(points)} frames: give more songs, or fewer clusters")
    chosen = torch.randperm(len(points), generator=generator)[: CANDIDATES * clusters]
    centroids = spread(points[chosen], clusters, generator)
    counts = torch.zeros(clusters)
    for _ in range(rounds):
        for batch in torch.randperm(len(points), generator=generator).split(BATCH):
            met = points[batch]
            own = nearest(met, centroids)
            new = torch.bincount(own, minlength=clusters).float()
            counts += new
            sums = torch.zeros_like(centroids).index_add_(0, own, met)
            centroids += (sums - new[:, None] * centroids) / counts.clamp(min=1)[:, None]
    return centroids


def spread(points: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """k-means++: points far from each other, each drawn by its squared distance to those that are drawn."""
    first = int(torch.randint(len(points), (1,), generator=generator))
    drawn, distance = [first], (points - points[first]).square().sum(1)
    for _ in range(clusters - 1):
        # Points that are all drawn already have no distance left: then any will do.
        weights = distance if float(distance.sum()) > 0 else torch.ones_like(distance)
        drawn.append(int(torch.multinomial(weights, 1, generator=generator)))
        distance = torch.minimum(distance, (points - points[drawn[-1]]).square().sum(1))
    return points[drawn].clone()
