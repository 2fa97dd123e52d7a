"""The Conformer: what it sees, which heads know positions, its norms; the one that streams."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from backline.nn import conformer
from backline.nn.composite import Sequential, Swapped
from backline.nn.conformer import Attention, BandedAttention, Conformer, ConformerConfig, streaming_conformer
from backline.nn.conv import CausalConv1d
from backline.nn.rotary import rotation
from tests.support.contract import verify_streaming_contract

CONFIG = ConformerConfig(layers=2, width=32, heads=4, kernel=5, norm="layer")


@torch.no_grad()
def test_every_step_sees_all_others() -> None:
    torch.manual_seed(0)
    encoder = Conformer(CONFIG).eval()
    x = torch.randn(1, 30, 32)
    for place in (0, 29):
        changed = x.clone()
        changed[:, place] += 1
        assert ((encoder(x) - encoder(changed)).abs().amax(dim=(0, 2)) > 0).all()


@torch.no_grad()
def test_without_rotary_heads_and_convolution_order_means_nothing() -> None:
    torch.manual_seed(0)
    encoder = Conformer(replace(CONFIG, rotary_heads=0, kernel=1)).eval()
    x = torch.randn(1, 12, 32)
    order = torch.randperm(12)
    assert torch.allclose(encoder(x)[:, order], encoder(x[:, order]), atol=1e-5)
    turning = Conformer(replace(CONFIG, rotary_heads=1, kernel=1)).eval()
    assert not torch.allclose(turning(x)[:, order], turning(x[:, order]), atol=1e-3)


@torch.no_grad()
def test_rows_of_a_batch_do_not_meet_when_it_has_been_trained() -> None:
    torch.manual_seed(0)
    encoder = Conformer(replace(CONFIG, norm="batch")).eval()
    x = torch.randn(3, 12, 32)
    assert torch.allclose(encoder(x)[1:2], encoder(x[1:2]), atol=1e-5)


def signal(rows: int, steps: int) -> Tensor:
    return torch.randn(rows, steps, 16)


def shaken(layer: Sequential) -> Sequential:
    """`layer` with all its weights random: the sum over a plain layer norm's channels tells nothing."""
    with torch.no_grad():
        for weight in layer.parameters():
            weight.add_(0.3 * torch.randn(weight.shape))
    return layer.eval()


SMALL = ConformerConfig(layers=2, width=16, heads=2, kernel=3, expansion=2, norm="layer")


@pytest.mark.parametrize(("context", "ahead"), [(4, (0, 0)), (3, (2, 1)), (0, (1, 0)), (6, (0, 3))])
@pytest.mark.parametrize("rotary", [0, 1, 2])
def test_the_streaming_one_holds_the_contract(context: int, ahead: tuple[int, int], rotary: int) -> None:
    torch.manual_seed(0)
    layer = shaken(streaming_conformer(replace(SMALL, rotary_heads=rotary), context, ahead))
    assert layer.input_latency == sum(ahead)
    assert layer.receptive_field == 2 * (context + 2) + sum(ahead) + 1  # a kernel of 3 looks back by 2
    verify_streaming_contract(layer, signal, blocks=30)


def test_behind_a_late_layer_it_does_not_see_what_was_before_the_signal() -> None:
    torch.manual_seed(0)
    late = CausalConv1d(16, 16, 5, stride=2, lookahead=2)
    layer = shaken(Sequential(late, Swapped(streaming_conformer(SMALL, 4, (1, 2)))))

    def make_input(rows: int, steps: int) -> Tensor:
        return signal(rows, steps).transpose(1, 2)

    verify_streaming_contract(layer, make_input, blocks=20)


@torch.no_grad()
def test_attention_that_sees_everything_is_the_whole_ones() -> None:
    torch.manual_seed(0)
    banded, full = BandedAttention(SMALL, 40, 40).eval(), Attention(SMALL).eval()
    full.load_state_dict(banded.state_dict())
    x = signal(2, 30)
    assert torch.allclose(banded(x), full(x, rotation(torch.arange(30), 8)), atol=1e-5)


@torch.no_grad()
def test_blocks_of_queries_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    attention = BandedAttention(SMALL, 6, 3).eval()
    x = signal(2, 50)
    expected = attention(x)
    monkeypatch.setattr(conformer, "QUERY_BLOCK", 7)
    assert torch.allclose(attention(x), expected, atol=1e-5)


def test_what_cannot_stream_is_refused() -> None:
    with pytest.raises(ValueError, match="ahead lists 1 layers, there are 2"):
        streaming_conformer(SMALL, 4, (1,))
    with pytest.raises(ValueError, match="'batch': use \"layer\""):
        streaming_conformer(replace(SMALL, norm="batch"), 4, (0, 0))
