"""Sampling in torch follows the kernel's rule."""

import numpy as np
import pytest
import torch

from backline.kernels.choose import choose as kernel_choose
from backline.nn.sampling import choose, guide


@pytest.mark.parametrize("top_p", [1.0, 0.6])
def test_tokens_are_those_of_the_kernel(top_p: float) -> None:
    generator = torch.Generator().manual_seed(0)
    rows, vocabulary = 400, 512
    logits = torch.randn(rows, vocabulary, generator=generator) * 3
    logits[::7] = logits[::7].round()  # equals
    u = torch.rand(rows, generator=generator)
    temperature = torch.tensor([0.0, 0.5, 0.9, 2.0]).repeat(rows // 4)
    top_k = torch.tensor([0, 1, 5, 250, 512]).repeat(rows // 5)
    tokens = choose(logits, temperature, top_k, u, torch.full((rows,), top_p))
    scratch = np.zeros(vocabulary, np.float32)
    expected = [
        kernel_choose(
            logits[row].numpy().copy(),
            np.zeros(vocabulary, np.int32),
            scratch,
            vocabulary,
            float(temperature[row]),
            int(top_k[row]),
            float(u[row]),
            top_p,
        )
        for row in range(rows)
    ]
    assert tokens.tolist() == expected


def test_tokens_come_as_often_as_their_probability_says() -> None:
    logits = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()
    u = (torch.arange(8000) + 0.5) / 8000
    ones = torch.ones(8000)
    tokens = choose(logits.expand(8000, -1), ones, torch.zeros(8000, dtype=torch.int64), u)
    assert (torch.bincount(tokens) - torch.tensor([4000, 2000, 1000, 1000])).abs().max() <= 1


def test_guidance_goes_from_unconditioned_through_conditioned() -> None:
    conditioned, unconditioned = torch.randn(3, 5), torch.randn(3, 5)
    mixed = guide(conditioned, unconditioned, torch.tensor([0.0, 1.0, 3.0]))
    torch.testing.assert_close(mixed[0], unconditioned[0])
    torch.testing.assert_close(mixed[1], conditioned[1])
    torch.testing.assert_close(mixed[2], 3 * conditioned[2] - 2 * unconditioned[2])
