"""Stems that sum to the mixture: in every channel, at any level, and by the shares that the estimates say."""

import numpy as np
import pytest
from numpy.typing import NDArray

from backline.models.windowed.consistency import MASK, OFF, RESIDUAL, consistent
from backline.models.windowed.finish import Finish
from backline.models.windowed.stft import Transform

Audio = NDArray[np.float32]
RATE = 48_000


def tone(hertz: float, samples: int = RATE) -> Audio:
    return np.sin(2 * np.pi * hertz * np.arange(samples) / RATE).astype(np.float32)


def noise(*shape: int) -> Audio:
    return (0.2 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)


@pytest.mark.parametrize("samples", [1, 511, 512, 5_000])
@pytest.mark.parametrize(("size", "step"), [(2_048, 512), (512, 128)])
def test_the_transform_gives_back_what_it_is_given(size: int, step: int, samples: int) -> None:
    audio, transform = noise(3, samples), Transform(size, step)
    assert np.abs(transform.synthesise(transform.analyse(audio), samples) - audio).max() < 1e-6


def test_the_transform_is_the_fourier_transform_of_weighed_frames() -> None:
    audio, transform = noise(1, 1_000), Transform(64, 16)
    window = np.sin(np.pi * np.arange(64) / 64) * np.sqrt(2 * 16 / 64)
    found = transform.analyse(audio)[0, 10]
    assert np.abs(found - np.fft.rfft(window * audio[0, 10 * 16 - 48 :][:64])).max() < 1e-5


@pytest.mark.parametrize("mode", [RESIDUAL, MASK])
@pytest.mark.parametrize("gain", [1.0, 1e-3])
def test_whatever_the_estimates_the_stems_sum_to_the_mixture(mode: int, gain: float) -> None:
    mixture = np.float32(gain) * noise(2, 20_000)
    for estimates in (noise(4, 1, 20_000), noise(4, 2, 20_000), np.zeros((4, 1, 20_000), np.float32)):
        stems = consistent(mixture, estimates, mode, 2.0)
        assert stems.dtype == np.float32
        assert stems.shape == (4, 2, 20_000)
        error = np.sqrt(((stems.sum(axis=0) - mixture) ** 2).mean() / (mixture**2).mean())
        # Rounding is relative to what is summed up: estimates may be far louder than the mixture.
        assert error < 1e-6 * max(1.0, np.abs(estimates).max() / np.abs(mixture).max())


def test_without_consistency_the_estimates_are_what_is_heard_in_every_channel() -> None:
    estimates = noise(4, 1, 3_000)
    stems = consistent(noise(2, 3_000), estimates, OFF, 2.0)
    np.testing.assert_array_equal(stems, np.repeat(estimates, 2, axis=1))


@pytest.mark.parametrize("mode", [OFF, RESIDUAL, MASK])
def test_estimates_of_every_channel_are_those_of_each_by_itself(mode: int) -> None:
    mixture, estimates = noise(3, 5_000), noise(2, 3, 5_000)
    stems = consistent(mixture, estimates, mode, 1.0)
    for channel in range(3):
        own = slice(channel, channel + 1)
        np.testing.assert_array_equal(stems[:, own], consistent(mixture[own], estimates[:, own], mode, 1.0))


@pytest.mark.parametrize("mode", [RESIDUAL, MASK])
def test_silence_stays_silence(mode: int) -> None:
    nothing = np.zeros((4, 1, 4_000), np.float32)
    assert not consistent(nothing[:2, 0], nothing, mode, 2.0).any()


@pytest.mark.parametrize("mode", [RESIDUAL, MASK])
def test_what_is_panned_stays_where_it_is(mode: int) -> None:
    left, right = tone(300), tone(3_000)
    mixture = np.stack([left, right])
    estimates = 0.5 * mixture[:, None]  # what the mean of the channels has of either
    stems = consistent(mixture, estimates, mode, 2.0)
    middle = slice(4_096, -4_096)
    assert np.abs(stems[0] - [left, 0 * left])[:, middle].max() < 1e-3
    assert np.abs(stems[1] - [0 * right, right])[:, middle].max() < 1e-3


def test_a_mask_shares_by_power_and_its_exponent_by_how_much() -> None:
    mixture = tone(1_000)[None]
    estimates = np.stack([0.3 * mixture, 0.1 * mixture])
    middle = slice(4_096, -4_096)
    for exponent, share in [(2.0, 0.9), (1.0, 0.75)]:
        stems = consistent(mixture, estimates, MASK, exponent)
        assert np.abs(stems[0] - np.float32(share) * mixture)[:, middle].max() < 1e-3


def test_the_residual_goes_to_whom_it_is_likeliest_to_belong_to() -> None:
    low, high = tone(200)[None], tone(4_000)[None]
    estimates = np.stack([0.6 * low, 0.8 * high])
    stems = consistent(low + high, estimates, RESIDUAL, 2.0)
    middle = slice(4_096, -4_096)
    assert np.abs(stems[0] - low)[:, middle].max() < 1e-3
    assert np.abs(stems[1] - high)[:, middle].max() < 1e-3


@pytest.mark.parametrize("mode", [OFF, RESIDUAL, MASK])
@pytest.mark.parametrize("transients", [0.0, 1.0])
@pytest.mark.parametrize("kept", [slice(40_001, 50_003), slice(0, 5_000), slice(55_000, 60_000)])
def test_a_part_of_a_window_is_finished_as_it_is_in_the_whole(mode: int, transients: float, kept: slice) -> None:
    mixture, estimates = noise(2, 60_000), noise(4, 1, 60_000)
    estimates[1] += 0.5 * mixture.mean(axis=0)
    finish, tracks = Finish(mode, 2.0, transients), ("vocals", "drums", "bass", "other")
    whole = finish.tracks(mixture, estimates, tracks, slice(0, 60_000))
    assert np.abs(finish.tracks(mixture, estimates, tracks, kept) - whole[..., kept]).max() < 1e-6
