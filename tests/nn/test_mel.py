"""Log-mel spectrograms of windows."""

import numpy as np
import pytest
import torch

from backline.codecs.torchaudio_import import import_torchaudio
from backline.nn.mel import LogMel, mel_filters, slaney_filters


def test_a_window_of_n_hops_has_n_frames() -> None:
    mel = LogMel(48_000, 120, 2048, 960, 1e-10)
    assert mel(torch.zeros(2, 1, 200 * 960)).shape == (2, 120, 200)


def test_silence_is_the_floor() -> None:
    assert torch.allclose(LogMel(48_000, 8, 2048, 960, 1e-4)(torch.zeros(1, 1, 1920)), torch.tensor(1e-4).log())


@pytest.mark.parametrize("hertz", [200.0, 1000.0, 9000.0])
def test_a_sine_is_loudest_in_the_band_that_it_lies_in(hertz: float) -> None:
    mel = LogMel(48_000, 64, 2048, 960, 1e-10)
    tone = torch.sin(2 * torch.pi * hertz * torch.arange(48_000) / 48_000)[None, None]
    loudest = int(mel(tone)[0, :, 25].argmax())
    top = 2595 * np.log10(1 + 24_000 / 700)
    expected = 2595 * np.log10(1 + hertz / 700) / top * 65 - 1
    assert abs(loudest - expected) <= 1


def test_a_frame_hears_what_lies_around_its_hop() -> None:
    mel = LogMel(48_000, 8, 2048, 960, 1e-10)
    click = torch.zeros(1, 1, 20 * 960)
    click[..., 10 * 960 + 480] = 1
    heard = mel(click)[0].amax(0)
    assert int(heard.argmax()) == 10
    assert heard[8] == heard[12] == pytest.approx(np.log(1e-10), rel=1e-5)


def test_the_triangles_meet_at_one() -> None:
    filters = mel_filters(40, 8192, 48_000)
    inside = filters[:, 100:3500].sum(0)
    assert torch.allclose(inside, torch.ones_like(inside), atol=1e-4)


def test_a_window_that_cannot_be_centred_is_refused() -> None:
    with pytest.raises(ValueError, match="longer by an even number"):
        LogMel(48_000, 8, 2047, 960, 1e-10)


@pytest.mark.parametrize(("bands", "window", "rate", "highest"), [(80, 400, 16_000, None), (48, 4096, 48_000, 20e3)])
def test_the_filters_are_slaneys(bands: int, window: int, rate: int, highest: float | None) -> None:
    top = highest or rate / 2
    filters = import_torchaudio().functional.melscale_fbanks
    theirs = filters(window // 2 + 1, 0, top, bands, rate, norm="slaney", mel_scale="slaney")
    assert torch.allclose(slaney_filters(bands, window, rate, highest), theirs.T, atol=1e-6)
