"""Augmentations change what they say and no more."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backline.training.augmentation import add_noise, vary_bands, vary_equalization, vary_gain, vary_polarity


def test_augmentations_do_what_they_say_and_keep_their_input() -> None:
    generator = np.random.default_rng(0)
    sound = generator.standard_normal(24_000).astype(np.float32)
    kept = sound.copy()
    gains = [float(vary_gain(sound, generator)[0] / sound[0]) for _ in range(200)]
    assert 0.5 <= min(gains) < 0.6
    assert 1.4 < max(gains) <= 1.5
    turned = [vary_polarity(sound, generator)[0] != sound[0] for _ in range(500)]
    assert 0.05 < np.mean(turned) < 0.15
    noisy = add_noise(sound, 0.01, generator)
    assert np.std(noisy - sound) == pytest.approx(0.01, rel=0.05)
    np.testing.assert_array_equal(sound, kept)


@given(st.integers(0, 1000))
def test_the_equalizer_stays_within_its_decibels_and_does_not_delay(seed: int) -> None:
    impulse = np.zeros(4800, np.float32)
    impulse[2400] = 1
    shaped = vary_equalization(impulse, 24_000, np.random.default_rng(seed))
    assert int(np.abs(shaped).argmax()) == 2400
    decibels = 20 * np.log10(np.abs(np.fft.rfft(shaped)))
    assert np.abs(decibels).max() < 6.6
    assert shaped.dtype == np.float32


@pytest.mark.parametrize("seed", range(4))
def test_the_parametric_equalizer_is_the_cookbooks_and_as_loud_as_asked(seed: int) -> None:
    impulse = np.zeros(1 << 16, np.float32)
    impulse[0] = 1
    rate, decibels = 48_000, 4.0
    shaped = vary_bands(impulse, rate, np.random.default_rng(seed), decibels)
    found = 20 * np.log10(np.abs(np.fft.rfft(shaped)))
    # The slow way: analogue peaks, (s^2 + s A/Q + 1) / (s^2 + s/(A Q) + 1), warped as the bilinear transform does.
    draw = np.random.default_rng(seed)
    centres = np.geomspace(80.0, 8_000.0, 7) * 2 ** draw.uniform(-0.5, 0.5, 7)
    widths, gains = draw.uniform(0.7, 1.4, 7), 10 ** (draw.uniform(-decibels, decibels, 7) / 40)
    hertz = np.fft.rfftfreq(len(impulse), 1 / rate)[:-1, np.newaxis]
    s = 1j * np.tan(np.pi * hertz / rate) / np.tan(np.pi * centres / rate)
    wanted = (s**2 + s * gains / widths + 1) / (s**2 + s / (gains * widths) + 1)
    np.testing.assert_allclose(found[:-1], 20 * np.log10(np.abs(wanted)).sum(axis=1), atol=0.02)
    assert np.abs(found).max() > 1
    assert abs(found[0]) < 0.1, "what lies far from the bands stays as it is"
