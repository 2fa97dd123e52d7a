"""K-means: it finds clusters that are there, is the same for the same seed, and says what its tokens are worth."""

from pathlib import Path

import pytest
import torch

from backline.codecs.clustered import nearest
from backline.corpus.songs import Composer
from backline.models.hafm.load import load_encoder
from backline.music.world import TRIO
from backline.packs.parts import read_part, read_semantics_part, save_part
from backline.packs.registry import PackRegistry
from backline.training.kmeans import fit_semantics, judge_semantics, minibatch_kmeans
from tests.support.whisper_model import write_whisper


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


def test_a_part_listens_after_it_was_fitted_and_kept(tmp_path: Path) -> None:
    network = read_semantics_part(f"whisper:{write_whisper(tmp_path, positions=1500)}", PackRegistry())
    passages = Composer(TRIO, 16_000).passages("training", 2)
    fitted = fit_semantics(network, passages, 16)
    save_part(fitted, tmp_path / "part.safetensors")
    kept = read_part(tmp_path / "part.safetensors")
    assert kept.table == fitted.table
    assert kept.table["vocabulary"] == 16
    encoder = load_encoder(kept.table, kept.tensors, "cpu")
    tokens = encoder.encode(torch.randn(1, 1, 16_000))
    assert tokens.shape == (1, 50)
    report = judge_semantics(kept, passages[:1])
    assert 1 < report.perplexity["vocal"] <= 16
    assert 0 < report.agreement <= 1
    assert report.clusters == 16
