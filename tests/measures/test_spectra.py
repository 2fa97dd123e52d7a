"""The figures that judge reconstructions do what their names say."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from backline.measures.spectra import log_mel_distance, si_sdr, stft
from backline.nn.mel import mel_filters


def noise(seconds: float = 1.0, seed: int = 0) -> NDArray[np.float32]:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(24_000 * seconds))).astype(np.float32)


def test_si_sdr_ignores_the_level_and_measures_added_noise() -> None:
    wanted = noise()
    assert si_sdr(np.float32(0.3) * wanted, wanted) > 60
    assert si_sdr(wanted + np.float32(0.1) * noise(seed=1), wanted) == pytest.approx(20, abs=0.2)


def test_log_mel_distance_of_a_level_change_is_its_logarithm() -> None:
    wanted = noise()
    assert log_mel_distance(wanted, wanted, 24_000) == 0
    assert log_mel_distance(wanted + wanted, wanted, 24_000) == pytest.approx(np.log(2), abs=1e-3)


def test_a_full_scale_sine_peaks_at_one_half() -> None:
    sine = torch.sin(2 * torch.pi * 32 / 1024 * torch.arange(8192))[None]
    assert stft(sine, 1024, 256).abs()[0, :, 16].max() == pytest.approx(0.5, abs=1e-3)


def test_mel_bands_cover_all_frequencies_between_the_first_and_last_peak() -> None:
    filters = mel_filters(40, 1024, 24_000)
    assert filters.shape == (40, 513)
    first, last = int(filters[0].argmax()) + 1, int(filters[-1].argmax())
    assert torch.allclose(filters[:, first:last].sum(0), torch.ones(last - first), atol=1e-5)
