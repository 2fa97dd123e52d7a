"""The fused LLaMA step against the module, over a cache that both fill."""

import numpy as np
import pytest
import torch

from backline.kernels.llama import LlamaKernel, LlamaMatrices, can_fuse
from backline.models.stems.fused import FusedStep
from backline.nn.llama import Llama, LlamaConfig

CONFIG = LlamaConfig(layers=3, width=128, heads=4, feed_forward=96)


@pytest.fixture
def decoder() -> Llama:
    torch.manual_seed(0)
    return Llama(CONFIG).eval().requires_grad_(False)


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize(("bfloat16", "bound"), [(False, 1e-5), (True, 2e-2)])
def test_steps_equal_the_whole_sequence(decoder: Llama, bfloat16: bool, bound: float) -> None:
    x = torch.randn(1, 50, 128)
    step, cache = FusedStep(decoder, bfloat16), decoder.empty_cache(1, 50)
    found = torch.cat([step(x[:, [position]], cache) for position in range(50)], dim=1)
    assert relative(found, decoder(x)) < bound


def test_blocks_by_the_module_and_single_positions_by_the_kernel_share_a_cache(decoder: Llama) -> None:
    x = torch.randn(1, 60, 128)
    step, cache = FusedStep(decoder, bfloat16=False), decoder.empty_cache(1, 60)
    parts = [decoder.extend(x[:, :33], cache)]
    parts += [step(x[:, [position]], cache) for position in range(33, 40)]
    parts += [decoder.extend(x[:, 40:59], cache), step(x[:, 59:], cache)]
    assert relative(torch.cat(parts, dim=1), decoder(x)) < 1e-5
    assert cache.length == 60


def test_extreme_gates_and_scores_stay_numbers() -> None:
    torch.manual_seed(0)
    decoder = Llama(CONFIG).eval().requires_grad_(False)
    for block in decoder.blocks:
        block.gate_up.weight *= 300  # type: ignore[operator, union-attr]
        block.qkv.weight *= 30  # type: ignore[operator, union-attr]
    x = torch.randn(1, 20, 128)
    step, cache = FusedStep(decoder, bfloat16=False), decoder.empty_cache(1, 20)
    found = torch.cat([step(x[:, [position]], cache) for position in range(20)], dim=1)
    assert relative(found, decoder(x)) < 1e-3


def test_two_rows_or_a_full_cache_are_refused(decoder: Llama) -> None:
    step = FusedStep(decoder, bfloat16=False)
    with pytest.raises(ValueError, match="one position of one row"):
        step(torch.randn(2, 1, 128), decoder.empty_cache(2, 4))
    cache = decoder.empty_cache(1, 1)
    step(torch.randn(1, 1, 128), cache)
    with pytest.raises(ValueError, match="after 1 of 1"):
        step(torch.randn(1, 1, 128), cache)


def test_sizes_that_would_need_padding_are_refused() -> None:
    assert can_fuse(256, 4, 768)
    assert can_fuse(2048, 16, 8192)
    assert not can_fuse(32, 2, 64)
    assert not can_fuse(256, 16, 768)  # heads of 16: half a head is half a block
    odd = np.zeros((1, 96, 32), np.float32), np.zeros((1, 32, 32), np.float32)
    narrow = np.zeros((1, 32), np.float32)
    matrices = LlamaMatrices(
        narrow, *odd, narrow, np.zeros((1, 128, 32), np.float32), np.zeros((1, 32, 64), np.float32), narrow[0]
    )
    with pytest.raises(ValueError, match="do not fall into blocks"):
        LlamaKernel(matrices, 2, 10_000.0, 1e-6, bfloat16=False)
