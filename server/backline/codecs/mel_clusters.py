"""Nearest of centroids to four mel frames at once, 25 Hz: tokens that know spectra and nothing else.

What a tokenizer that calls itself semantic has to be better than, at DuoTok's rate and in its front end. One track has
one table; k-means fits it.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import torch
from torch import Tensor

from backline.nn.kmeans import minibatch_kmeans
from backline.nn.mel import LogMel
from backline.nn.rvq import nearest

SAMPLE_RATE = 24_000
MEL_HOP, WINDOW, BANDS, FLOOR = 240, 1024, 80, 1e-5
STACKED = 4  # mel frames of a token
ENTRIES = 1024
FITTED_FRAMES = 500  # of a sound


class MelClusters:
    """[row, 1, n * hop] to int64 [row, 1, n] of one codebook."""

    sample_rate = SAMPLE_RATE
    hop = STACKED * MEL_HOP
    frame_rate = Fraction(SAMPLE_RATE, hop)

    def __init__(self, centroids: Tensor, mean: Tensor, deviation: Tensor) -> None:
        """`centroids` [entry, STACKED * BANDS] of log mels less `mean`, by `deviation`, both [STACKED * BANDS]."""
        self.centroids, self.mean, self.deviation = centroids, mean, deviation
        self.sizes = (len(centroids),)

    @classmethod
    def fit(cls, sounds: Iterable[Tensor], entries: int = ENTRIES, seed: int = 0) -> MelClusters:
        """On sounds [sample], of which one is heard at a time.

        Raises:
            ValueError: there are too few frames for so many clusters.
        """
        generator = torch.Generator().manual_seed(seed)
        points = []
        for sound in sounds:
            frames = stacked_mels(whole_hops(sound)[None, None])[0]
            points.append(frames[torch.randperm(len(frames), generator=generator)[:FITTED_FRAMES]])
        heard = torch.cat(points) if points else torch.zeros(0, STACKED * BANDS)
        mean, deviation = heard.mean(0), heard.std(0) + 1e-3
        return cls(minibatch_kmeans((heard - mean) / deviation, entries, generator), mean, deviation)

    @torch.inference_mode()
    def encode(self, audio: Tensor) -> Tensor:
        return nearest((stacked_mels(audio) - self.mean) / self.deviation, self.centroids)[:, None]

    def vectors(self, codes: Tensor) -> Tensor:
        """The centroids [frame, dimension] of codes [1, frame]."""
        return self.centroids[codes[0]]


def whole_hops(sound: Tensor) -> Tensor:
    """[sample] without the last ones that make no token."""
    return sound[: len(sound) // MelClusters.hop * MelClusters.hop]


def stacked_mels(audio: Tensor) -> Tensor:
    """Log mels [row, n, STACKED * BANDS] of [row, 1, n * hop]."""
    mels: Tensor = LogMel(SAMPLE_RATE, BANDS, WINDOW, MEL_HOP, FLOOR)(audio)  # [row, band, frame]
    return mels.transpose(1, 2).unflatten(1, (-1, STACKED)).flatten(2)
