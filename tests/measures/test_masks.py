"""The ceiling that a codec sets to a separator."""

import numpy as np
import pytest
import torch

from backline.codecs.hcodec.network import HCodec
from backline.measures.masks import ceiling, masked
from tests.training.test_hcodec import TOY_CODEC, tones


class Perfect(HCodec):
    """Its codes hold whatever it is given."""

    def encode(self, audio, features=None):  # type: ignore[no-untyped-def]
        return audio

    def vectors(self, codes):  # type: ignore[no-untyped-def]
        return codes


def perfect() -> HCodec:
    codec = Perfect(TOY_CODEC)
    codec.decoder.spectra = codec.spectra  # type: ignore[method-assign]
    return codec.eval()


def test_codes_that_hold_everything_reach_the_true_mask() -> None:
    stems = tones(3)
    found = ceiling(perfect(), stems[0], stems[1:].sum(0))
    assert found.mask == pytest.approx(found.truth, abs=1e-3)
    assert found.truth > 20  # steady tones far apart
    assert found.magnitudes > 10


def test_codes_that_hold_nothing_reach_less() -> None:
    torch.manual_seed(0)
    stems = tones(3)
    found = ceiling(HCodec(TOY_CODEC).eval(), stems[0], stems[1:].sum(0))
    assert found.mask < found.truth - 10
    assert found.truth == pytest.approx(ceiling(perfect(), stems[0], stems[1:].sum(0)).truth)


def test_gains_are_over_the_mixture_and_the_end_that_makes_no_code_is_left_out() -> None:
    voice, rest = tones(1)[0], 1e-6 * tones(1)[1]
    assert abs(ceiling(perfect(), voice, rest).mask) < 10  # both are as good as perfect
    assert ceiling(perfect(), tones(3)[0][:-1000], tones(3)[1][:-1000]).truth > 20


def test_masks_share_the_mixture() -> None:
    mixed = torch.polar(torch.rand(1, 4, 9) + 0.1, torch.rand(1, 4, 9))
    magnitudes = torch.rand(2, 4, 9)
    both = masked(mixed, magnitudes) + masked(mixed, magnitudes.flip(0))
    assert torch.allclose(both, mixed, atol=1e-5)
    assert np.isfinite(masked(mixed, torch.zeros(2, 4, 9)).abs().numpy()).all()
