"""K-means finds the clusters that are there, and is the same for the same seed."""

import pytest
import torch

from backline.nn.kmeans import minibatch_kmeans
from backline.nn.rvq import nearest


def test_it_finds_the_clusters_that_are_there() -> None:
    centres = torch.randn(8, 5, generator=torch.Generator().manual_seed(1)) * 10
    own = torch.arange(4000) % 8
    points = centres[own] + 0.1 * torch.randn(4000, 5, generator=torch.Generator().manual_seed(2))
    found = minibatch_kmeans(points, 8, torch.Generator().manual_seed(0))
    assert torch.cdist(centres, found).min(1).values.max() < 0.05
    tokens = nearest(points, found)
    assert all(len(tokens[own == cluster].unique()) == 1 for cluster in range(8))
    assert torch.equal(found, minibatch_kmeans(points, 8, torch.Generator().manual_seed(0)))


def test_no_centroid_is_further_from_its_points_than_lloyds() -> None:
    """The oracle is Lloyd's algorithm, from the same beginning, until nothing moves."""
    points = torch.randn(3000, 4, generator=torch.Generator().manual_seed(3))
    found = minibatch_kmeans(points, 16, torch.Generator().manual_seed(0))
    slow = found.clone()
    for _ in range(100):
        own = nearest(points, slow)
        slow = torch.stack([points[own == cluster].mean(0) for cluster in range(16)])

    def error(centroids: torch.Tensor) -> float:
        return float(torch.cdist(points, centroids).min(1).values.square().mean())

    assert error(found) < 1.05 * error(slow)


def test_more_clusters_than_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="9 clusters of 8 frames: give more songs"):
        minibatch_kmeans(torch.randn(8, 2), 9, torch.Generator())


def test_equal_points_do_not_keep_it_from_starting() -> None:
    assert minibatch_kmeans(torch.ones(20, 3), 4, torch.Generator().manual_seed(0)).isfinite().all()
