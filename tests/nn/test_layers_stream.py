"""Every streaming layer holds the contract, alone and composed."""

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from backline.nn.composite import Part, Pointwise, Residual, Sequential, convnext_block
from backline.nn.conv import CausalConv1d, CausalConvTranspose1d
from backline.nn.stft import InverseStft, Stft
from tests.support.contract import verify_streaming_contract

LAYERS: dict[str, tuple[int, Callable[[], Part]]] = {  # input channels, layer
    "conv": (3, lambda: CausalConv1d(3, 4, 5)),
    "conv kernel 1": (3, lambda: CausalConv1d(3, 4, 1)),
    "conv dilated": (3, lambda: CausalConv1d(3, 4, 3, dilation=4)),
    "conv depthwise": (4, lambda: CausalConv1d(4, 4, 7, groups=4)),
    "conv strided": (2, lambda: CausalConv1d(2, 3, 8, stride=4)),
    "conv strided, no memory": (2, lambda: CausalConv1d(2, 3, 4, stride=4)),
    "conv looking ahead": (2, lambda: CausalConv1d(2, 3, 7, lookahead=3)),
    "conv strided, looking ahead": (2, lambda: CausalConv1d(2, 3, 9, stride=2, lookahead=4)),
    "transposed": (3, lambda: CausalConvTranspose1d(3, 2, 8, stride=4)),
    "transposed, uneven": (3, lambda: CausalConvTranspose1d(3, 2, 7, stride=3)),
    "transposed, no overlap": (3, lambda: CausalConvTranspose1d(3, 2, 4, stride=4)),
    "transposed, long": (4, lambda: CausalConvTranspose1d(4, 4, 13, stride=3, groups=4)),
    "pointwise": (3, lambda: Pointwise(nn.Conv1d(3, 5, 1))),
    "convnext block": (6, lambda: convnext_block(6, 12)),
    "stft": (1, lambda: Stft(16, 4)),
    "inverse stft": (18, lambda: InverseStft(16, 4)),
    "sequence down and up": (
        2,
        lambda: Sequential(
            CausalConv1d(2, 3, 8, stride=4), CausalConvTranspose1d(3, 3, 4, stride=2), CausalConv1d(3, 2, 3, dilation=2)
        ),
    ),
    "sequence up 3, down 2": (
        2,
        lambda: Sequential(CausalConvTranspose1d(2, 2, 5, stride=3), CausalConv1d(2, 2, 4, stride=2)),
    ),
    "late layers in the middle": (
        2,
        lambda: Sequential(
            CausalConv1d(2, 3, 5, lookahead=2),
            Residual(Sequential(CausalConv1d(3, 3, 3), CausalConv1d(3, 3, 5, lookahead=1)), 3),
            CausalConvTranspose1d(3, 2, 6, stride=2),
            Sequential(CausalConv1d(2, 2, 3), CausalConv1d(2, 2, 3, lookahead=2)),
            CausalConv1d(2, 2, 4),
        ),
    ),
    "late layer before a stride": (
        2,
        lambda: Sequential(CausalConv1d(2, 2, 9, lookahead=8), CausalConv1d(2, 2, 8, stride=4), convnext_block(2, 4)),
    ),
    "synthesis behind a late layer": (
        3,
        lambda: Sequential(CausalConv1d(3, 18, 3, lookahead=1), CausalConv1d(18, 18, 3), InverseStft(16, 4)),
    ),
    "late layer before an analysis": (1, lambda: Sequential(CausalConv1d(1, 1, 9, lookahead=8), Stft(16, 4))),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer_holds_the_streaming_contract(name: str) -> None:
    torch.manual_seed(1)
    channels, make = LAYERS[name]
    layer = make()

    def make_input(rows: int, steps: int) -> Tensor:
        return torch.randn(rows, channels, steps)

    verify_streaming_contract(layer, make_input, blocks=14)


def test_composites_compute_their_costs_from_their_parts() -> None:
    layer = Sequential(CausalConv1d(1, 1, 8, stride=4), CausalConv1d(1, 1, 5, lookahead=2), InverseStftOfOne())
    assert layer.output_ratio == Fraction(1)
    assert layer.input_latency == (2 + 3) * 4  # both look ahead at a quarter of the rate
    assert layer.min_block == 4
    assert layer.receptive_field == (4 + 5 - 1 - 1) * 4 + 8


class InverseStftOfOne(Sequential):
    """From one channel to audio, so that it fits behind a plain convolution."""

    def __init__(self) -> None:
        super().__init__(CausalConv1d(1, 18, 1), InverseStft(16, 4))


def test_a_fractional_latency_is_refused() -> None:
    with pytest.raises(ValueError, match="1/2"):
        Sequential(CausalConvTranspose1d(1, 1, 2, stride=2), CausalConv1d(1, 1, 3, lookahead=1))


def test_a_block_that_is_no_multiple_of_the_stride_is_refused() -> None:
    layer = CausalConv1d(1, 1, 4, stride=4)
    with pytest.raises(ValueError, match="6 steps is not a multiple of 4"):
        layer.step(torch.zeros(1, 1, 6), layer.init_state(1))


def test_a_residual_branch_must_keep_the_rate() -> None:
    with pytest.raises(ValueError, match="1/2"):
        Residual(CausalConv1d(1, 1, 2, stride=2), 1)


def test_the_inverse_spectrum_undoes_the_spectrum() -> None:
    layer = Sequential(Stft(64, 16), InverseStft(64, 16))
    x = torch.randn(2, 1, 160)
    assert torch.allclose(layer(x)[..., :-48], x[..., :-48], atol=1e-5)
