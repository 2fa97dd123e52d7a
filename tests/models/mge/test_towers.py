"""Towers: what asks for nothing is no condition, n-grams are the same everywhere, sounds count whatever their level."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from backline.models.errors import PackError
from backline.models.mge.minilm import read_minilm
from backline.models.mge.towers import Towers, TowersConfig, TowersNetwork, asks, buckets_of, grams, load_towers, plain
from backline.packs.quantized import quantize, restore
from backline.training.towers import packed

NOTHING = ["", "   ", "\t\n\x00", "🎸" * 128, "?!", "\u202e", "...", "—"]


@pytest.fixture(scope="module")
def towers() -> Towers:
    torch.manual_seed(0)
    return Towers(TowersNetwork(TowersConfig()), None)


@pytest.mark.parametrize("text", NOTHING)
def test_what_asks_for_nothing_is_no_condition(towers: Towers, text: str) -> None:
    assert len(text.encode()) <= 512
    assert not asks(text)
    assert torch.equal(towers.embed(text), torch.zeros(128))


@pytest.mark.parametrize("text", ["the bass", "ピアノ", "Ünïcödé", "808", "b" * 512, "bass\x00line", "🎸 solo"])
def test_every_other_text_has_a_direction(towers: Towers, text: str) -> None:
    found = towers.embed(text)
    assert found.shape == (128,)
    assert float(found.norm()) == pytest.approx(1, abs=1e-5)
    assert torch.equal(found, towers.embed(text))


def test_what_is_kept_cannot_be_changed_from_outside(towers: Towers) -> None:
    towers.embed("the drums").zero_()
    assert float(towers.embed("the drums").norm()) == pytest.approx(1, abs=1e-5)


def test_case_width_and_blanks_say_nothing(towers: Towers) -> None:
    assert plain("  The\t\uff22\uff21\uff33\uff33 \x00 ") == "the bass"
    assert torch.equal(towers.embed("The  BASS\n"), towers.embed("the bass"))


def test_n_grams_are_words_and_their_parts_in_the_same_buckets_everywhere() -> None:
    assert grams("Bass") == ["=bass", "<ba", "bas", "ass", "ss>", "<bas", "bass", "ass>", "<bass", "bass>"]
    assert buckets_of("bass", 4096) == [3846, 3341, 3132, 694, 2181, 3371, 2864, 3821, 1718, 705]
    assert buckets_of("", 4096) == [0]


def test_what_is_mistyped_shares_most_of_its_n_grams() -> None:
    right, wrong, other = (set(grams(word)) for word in ("saxophone", "saxaphone", "tambourine"))
    assert len(right & wrong) > 5 > len(right & other)


@pytest.mark.weights
def test_with_minilm_both_towers_are_heard(towers: Towers, minilm: Path) -> None:
    pytest.importorskip("tokenizers")
    both = Towers(towers.network, read_minilm(minilm))
    assert (towers.hears, both.hears) == ("n-grams", "minilm")
    alone = both.network.projected(both.minilm(["the bass"]))[0]  # type: ignore[misc]
    assert torch.allclose(both.embed("The  BASS"), F.normalize(alone + towers.embed("the bass"), dim=0), atol=1e-5)
    for text in NOTHING:
        assert not both.embed(text).any()


def test_a_sound_is_heard_whatever_its_level_and_length(towers: Towers) -> None:
    torch.manual_seed(1)
    sounds = 0.1 * torch.randn(3, 48_000)
    heard = towers.embed_audio(sounds)
    assert heard.shape == (3, towers.dimension)
    assert torch.allclose(heard.norm(dim=-1), torch.ones(3))
    assert torch.allclose(towers.embed_audio(8 * sounds), heard, atol=1e-4)
    assert torch.allclose(towers.embed_audio(sounds[1:2]), heard[1:2], atol=1e-5)  # alone or beside others
    for samples in (1, 959, 961, 300_001):
        assert towers.embed_audio(torch.randn(1, samples)).isfinite().all()
    assert towers.embed_audio(torch.zeros(1, 48_000)).isfinite().all()
    for wrong in (torch.zeros(48_000), torch.zeros(1, 0)):
        with pytest.raises(ValueError, match="row, sample"):
            towers.embed_audio(wrong)


def test_a_pack_carries_them_in_a_megabyte(towers: Towers) -> None:
    table, tensors = packed(towers.network)
    stored = quantize(tensors)
    assert sum(tensor.numel() * tensor.element_size() for tensor in stored.values()) < 1.0e6
    again = load_towers(restore(stored), TowersConfig(**table))
    again = Towers(again.network, None)
    sound = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 48_000), np.float32))
    assert torch.cosine_similarity(again.embed_audio(sound), towers.embed_audio(sound)).min() > 0.99
    assert torch.cosine_similarity(again.embed("the bass"), towers.embed("the bass"), 0) > 0.99


def test_what_does_not_fit_is_named(towers: Towers) -> None:
    _, tensors = packed(towers.network)
    del tensors["towers.grams.out.bias"]
    tensors["towers.projection.weight"] = torch.zeros(128, 768)
    with pytest.raises(PackError, match=r"towers\.grams\.out\.bias \[128\] is missing.*\[128, 768\]"):
        load_towers(tensors, TowersConfig())
    with pytest.raises(ValueError, match="multiple of 32"):
        TowersConfig(bands=40)
