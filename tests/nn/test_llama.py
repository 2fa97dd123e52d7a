"""The LLaMA-style decoder: its cache, and what it may see."""

import pytest
import torch

from backline.nn.llama import Llama, LlamaConfig

CONFIG = LlamaConfig(layers=3, width=32, heads=4, feed_forward=48)


@pytest.fixture
def decoder() -> Llama:
    torch.manual_seed(0)
    return Llama(CONFIG).eval()


@pytest.mark.parametrize("blocks", [[1] * 20, [20], [7, 1, 1, 8, 3], [19, 1]])
@torch.no_grad()
def test_extending_a_cache_equals_the_whole_sequence(decoder: Llama, blocks: list[int]) -> None:
    x = torch.randn(2, 20, 32)
    cache = decoder.empty_cache(rows=2, capacity=20)
    parts = [decoder.extend(block, cache) for block in x.split(blocks, dim=1)]
    assert torch.allclose(torch.cat(parts, dim=1), decoder(x), atol=1e-5)
    assert cache.length == 20


@torch.no_grad()
def test_later_positions_change_nothing_earlier(decoder: Llama) -> None:
    x = torch.randn(1, 16, 32)
    changed = x.clone()
    changed[:, 9:] += 1
    difference = (decoder(x) - decoder(changed)).abs().amax(dim=(0, 2))
    assert (difference[:9] == 0).all()
    assert (difference[9:] > 0).all()


@torch.no_grad()
def test_a_full_cache_is_refused(decoder: Llama) -> None:
    cache = decoder.empty_cache(rows=1, capacity=4)
    decoder.extend(torch.randn(1, 3, 32), cache)
    with pytest.raises(ValueError, match="a cache of 4 positions cannot take position 5"):
        decoder.extend(torch.randn(1, 2, 32), cache)


@torch.no_grad()
def test_heads_turn_by_the_positions_that_are_given(decoder: Llama) -> None:
    x = torch.randn(1, 6, 32)
    assert torch.equal(decoder(x), decoder(x, torch.arange(6)))
    assert torch.allclose(decoder(x), decoder(x, torch.arange(6) + 100), atol=1e-4), "distances alone count"
    assert not torch.allclose(decoder(x), decoder(x, torch.tensor([0, 1, 2, 0, 1, 2])), atol=1e-2)
