"""Log-mel spectrograms of windows."""

import numpy as np
import pytest
import torch

from backline.codecs.torchaudio_import import import_torchaudio
from backline.nn.mel import QUIETEST, DecibelMel, LogMel, mel_filters, slaney_filters
from tests.support.contract import verify_streaming_contract


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


def test_decibels_are_torchaudios() -> None:
    torch.manual_seed(0)
    audio = 0.1 * torch.randn(2, 1, 40 * 240)
    ours = DecibelMel(24_000, 80, 1024, 240, block=960).decibels(audio)
    # Theirs are centred on samples k * hop: moved by half a hop, they are centred on the hops, as ours are.
    theirs = import_torchaudio().transforms.MelSpectrogram(24_000, 1024, hop_length=240, n_mels=80, center=False)
    power = theirs(torch.nn.functional.pad(audio[:, 0], (392, 392)))
    assert torch.allclose(ours, 10 * power.clamp(min=QUIETEST).log10(), atol=1e-3)


def test_decibels_are_scored_by_band_and_silence_has_a_floor() -> None:
    mel = DecibelMel(24_000, 8, 1024, 240, block=960)
    mel.mean.copy_(torch.arange(8.0))
    mel.deviation.copy_(torch.arange(1.0, 9.0))
    scored = mel(torch.zeros(1, 1, 960))
    assert torch.allclose(scored[0, :, 0], (-100 - torch.arange(8.0)) / torch.arange(1.0, 9.0))


@pytest.mark.parametrize(("window", "block", "late"), [(32, 8, 16), (32, 24, 24), (8, 8, 0), (20, 16, 16)])
def test_decibels_stream_late_by_whole_blocks(window: int, block: int, late: int) -> None:
    mel = DecibelMel(1000, 4, window, 8, block)
    assert mel.input_latency == late
    mel.receptive_field = 0  # a Hann window begins with a zero: the gradient does not see that sample
    verify_streaming_contract(mel, lambda rows, steps: torch.randn(rows, 1, steps), blocks=20)


def test_a_block_that_is_no_multiple_of_the_hop_is_refused() -> None:
    with pytest.raises(ValueError, match="a block of 900 samples is not a multiple of the hop, 240"):
        DecibelMel(24_000, 8, 1024, 240, block=900)
    with pytest.raises(ValueError, match="longer by an even number"):
        DecibelMel(24_000, 8, 1023, 240, block=960)
