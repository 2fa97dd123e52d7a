"""Rotary positions."""

import torch

from backline.nn.rotary import rotation, turned


def test_turned_products_depend_on_the_distance_alone() -> None:
    q, k = torch.randn(2, 1, 1, 1, 8)
    products = []
    for at in (0, 5, 900):
        turn_q, turn_k = (rotation(torch.tensor([position]), 8) for position in (at + 3, at))
        products.append((turned(q, turn_q) * turned(k, turn_k)).sum())
    assert torch.allclose(torch.stack(products), products[0], atol=1e-4)


def test_attention_turns_as_complex_numbers_do() -> None:
    x = torch.randn(1, 1, 6, 8)
    angles = torch.arange(6)[:, None] * 10_000.0 ** (-torch.arange(4) / 4)
    expected = torch.complex(x[..., :4], x[..., 4:]) * torch.polar(torch.ones(6, 4), angles)
    found = turned(x, rotation(torch.arange(6), 8))
    assert torch.allclose(found, torch.cat([expected.real, expected.imag], dim=-1), atol=1e-5)
