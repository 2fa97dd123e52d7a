"""Measures of separated stems have known answers: noise at a level, filters, silence, equals."""

import numpy as np
import pytest

from backline.evaluation.live import Sound
from backline.measures import spectra
from backline.measures.separation import (
    LIMIT_DB,
    LOG_MEL,
    SDR,
    SECONDS_SDR,
    SI_SDR,
    VISQOL,
    WORST_VISQOL,
    check_packages,
    measure,
    sdr,
    seconds_sdr,
    si_sdr,
    sum_error,
    visqol,
)
from backline.music.stems import SAMPLE_RATE

pytest.importorskip("fast_bss_eval")


def noise(seed: int, seconds: float = 1.0) -> Sound:
    return 0.1 * np.random.default_rng(seed).standard_normal(int(seconds * SAMPLE_RATE)).astype(np.float32)


def chord(seconds: float = 2.0) -> Sound:
    """Something that ViSQOL takes for music."""
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tones = [np.sin(2 * np.pi * hertz * time) * np.exp(-2 * (time % 0.5)) for hertz in (220, 277, 330, 1320, 5280)]
    return (0.1 * np.sum(tones, axis=0)).astype(np.float32)


@pytest.mark.parametrize("decibels", [-10.0, 0.0, 20.0, 60.0])
@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_si_sdr_is_the_level_of_independent_noise_whatever_the_scale(decibels: float, scale: float) -> None:
    wanted, other = noise(0).astype(np.float64), noise(1).astype(np.float64)
    other -= wanted * (other @ wanted) / (wanted @ wanted)
    other *= np.linalg.norm(wanted) / np.linalg.norm(other) * 10 ** (-decibels / 20)
    found = (scale * (wanted + other)).astype(np.float32)
    assert si_sdr(found, wanted.astype(np.float32)) == pytest.approx(decibels, abs=0.01)


def test_si_sdr_is_that_of_training() -> None:
    found, wanted = noise(0) + noise(1), noise(0) + 0.3 * noise(2)
    assert si_sdr(found, wanted) == pytest.approx(spectra.si_sdr(found, wanted), abs=1e-3)


def test_sdr_forgives_a_filter_and_si_sdr_does_not() -> None:
    wanted = noise(0)
    late = np.concatenate([np.zeros(5, np.float32), wanted[:-5]])
    assert sdr(late, wanted) > 30
    assert si_sdr(late, wanted) < -30


def test_what_is_perfect_or_silent_stays_a_number() -> None:
    wanted = noise(0)
    assert si_sdr(wanted, wanted) == sdr(wanted, wanted) == pytest.approx(LIMIT_DB)
    assert si_sdr(np.zeros_like(wanted), wanted) == sdr(np.zeros_like(wanted), wanted) == pytest.approx(-LIMIT_DB)


def test_stems_that_miss_half_of_the_mixture_are_six_decibels_from_it() -> None:
    mixed = noise(0)
    assert sum_error(np.stack([mixed / 4, mixed / 4]), mixed) == pytest.approx(-6.02, abs=0.01)
    assert sum_error(np.stack([mixed, mixed]), mixed) == pytest.approx(0, abs=0.01)
    assert sum_error(np.stack([2 * mixed, -mixed]), mixed) < -90


def test_without_visqol_there_is_no_such_figure() -> None:
    assert measure(noise(0), noise(1), with_visqol=False).keys() == {SI_SDR, SDR, SECONDS_SDR, LOG_MEL}


@pytest.mark.slow
def test_visqol_of_equals_is_at_the_ceiling_and_falls_with_noise() -> None:
    pytest.importorskip("visqol")
    wanted = chord()
    equal, little, much = (visqol(wanted + level * noise(1, 2.0), wanted) for level in (0, 0.05, 1))
    assert equal == pytest.approx(4.73, abs=0.01)
    assert equal > little > much >= WORST_VISQOL
    assert visqol(0.5 * wanted, wanted) == pytest.approx(equal, abs=0.01)  # it scales to equal loudness
    assert visqol(np.zeros_like(wanted), wanted) == WORST_VISQOL
    assert measure(wanted, wanted, with_visqol=True)[VISQOL] == pytest.approx(equal)


def test_a_missing_package_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backline.measures.separation.find_spec", lambda module: None)
    with pytest.raises(ValueError, match=r"fast-bss-eval and visqol-python not installed: pip install 'backline\["):
        check_packages(with_visqol=True)
    monkeypatch.setattr("backline.measures.separation.find_spec", lambda module: module != "visqol" or None)
    with pytest.raises(ValueError, match=r"visqol-python not installed: .*--no-visqol"):
        check_packages(with_visqol=True)
    check_packages(with_visqol=False)


def test_the_sdr_by_the_second_is_musevals_median_of_seconds_that_sound() -> None:
    rng = np.random.default_rng(0)
    wanted, error = (rng.standard_normal(4 * 48_000).astype(np.float32) for _ in range(2))
    error[:48_000] *= 1.0  # 0 dB in the first second, 20 in the second, 40 in the third
    error[48_000:96_000] *= 0.1
    error[96_000:144_000] *= 0.01
    wanted[144_000:] = 0  # which does not count
    assert seconds_sdr(wanted + error, wanted) == pytest.approx(20, abs=0.1)
    assert seconds_sdr(wanted / 2, wanted) == pytest.approx(6.02, abs=0.01)  # a scale is an error
    assert seconds_sdr(wanted[:100] + error[:100], wanted[:100]) == pytest.approx(0, abs=2)
