"""K-means of what a network hears: the same for the same seed, and it says what its tokens are worth."""

from pathlib import Path

import torch

from backline.corpus.songs import Composer
from backline.models.hafm.load import load_encoder
from backline.music.world import TRIO
from backline.packs.parts import read_part, read_semantics_part, save_part
from backline.packs.registry import PackRegistry
from backline.training.kmeans import fit_semantics, judge_semantics
from tests.support.whisper_model import write_whisper


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
