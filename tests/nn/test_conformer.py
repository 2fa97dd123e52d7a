"""The Conformer: what it sees, which heads know positions, its norms."""

from dataclasses import replace

import torch

from backline.nn.conformer import Conformer, ConformerConfig

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
