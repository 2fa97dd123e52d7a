"""The LSTM kernel computes what torch.nn.LSTM computes, in blocks of any length, row by row."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from backline.kernels.lstm import lstm_block


def block(layer: nn.LSTM, x: Tensor, hidden: Tensor, cell: Tensor) -> Tensor:
    """One block [row, time, input] through the kernel, advancing `hidden` and `cell`."""
    weights = layer.state_dict()
    projected = x @ weights["weight_ih_l0"].T + weights["bias_ih_l0"] + weights["bias_hh_l0"]
    out = torch.empty(*x.shape[:2], layer.hidden_size)
    gates = torch.empty(x.shape[0], 4 * layer.hidden_size)
    arrays = (projected, weights["weight_hh_l0"], hidden, cell, gates, out)
    lstm_block(*(tensor.numpy() for tensor in arrays))
    return out


@torch.no_grad()
@pytest.mark.parametrize("size", [3, 64, 512])
@pytest.mark.parametrize("split", [[20], [1] * 20, [7, 1, 12]])
def test_blocks_of_any_length_are_torchs_lstm(size: int, split: list[int]) -> None:
    torch.manual_seed(size)
    layer = nn.LSTM(size, size, batch_first=True)
    x = torch.randn(3, 20, size)
    expected, (last_hidden, last_cell) = layer(x)
    hidden, cell = torch.zeros(3, size), torch.zeros(3, size)
    found = torch.cat([block(layer, part, hidden, cell) for part in x.split(split, 1)], 1)
    assert torch.allclose(found, expected, atol=1e-6)
    assert torch.allclose(hidden, last_hidden[0], atol=1e-6)
    assert torch.allclose(cell, last_cell[0], atol=1e-6)


@torch.no_grad()
def test_a_row_does_not_depend_on_the_others() -> None:
    layer = nn.LSTM(32, 32, batch_first=True)
    x = torch.randn(4, 5, 32)
    together = block(layer, x, torch.zeros(4, 32), torch.zeros(4, 32))
    alone = block(layer, x[2:3], torch.zeros(1, 32), torch.zeros(1, 32))
    assert np.allclose(together[2], alone[0], atol=1e-6)


@torch.no_grad()
def test_large_inputs_saturate_instead_of_overflowing() -> None:
    layer = nn.LSTM(8, 8, batch_first=True)
    out = block(layer, 1e4 * torch.randn(1, 50, 8), torch.zeros(1, 8), torch.zeros(1, 8))
    assert torch.isfinite(out).all()
    assert out.abs().max() <= 1
