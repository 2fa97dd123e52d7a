"""Mini-batch k-means (Sculley, 2010), begun as k-means++ (Arthur and Vassilvitskii, 2007)."""

from __future__ import annotations

import torch
from torch import Tensor

from backline.nn.rvq import nearest

BATCH = 10_000  # points
ROUNDS = 12  # how often every point is met
CANDIDATES = 20  # points that k-means++ chooses a centroid from, for each


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
