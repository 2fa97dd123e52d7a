"""Fits semantic tokens: k-means over one layer's features of voices and bands (HAFM, section 3.2: 500, layer 9)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from backline.codecs.base import SemanticEncoder
from backline.codecs.clustered import ClusteredEncoder, agreement
from backline.codecs.duotok.codec import DuoTokSemantics
from backline.corpus.multitrack import Sound
from backline.corpus.pair_tokens import voice_and_band_heard
from backline.corpus.songs import Passage
from backline.measures.codes import perplexity
from backline.models.hafm.load import load_encoder
from backline.models.hafm.tables import CLUSTERED, VOCAL_NOISE
from backline.nn.kmeans import minibatch_kmeans
from backline.packs.importers.checkpoint import Component

FRAMES = 1000  # of a passage that are fitted on, half of them the voice's
STREAMED_SECONDS = 12  # of a voice, heard as a stream too: it takes many times as long


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
