"""The singer sings what is written: pitch, time, loudness, at every rate, the same for the same seed."""

import numpy as np
import pytest
from numpy.typing import NDArray

from backline.music.composer import compose
from backline.music.piece import Note
from backline.music.singer import BURSTS, CEILING, CONSONANTS, LOUDNESS, VOWELS, control_curves, sing
from backline.music.world import TENOR, WIDE

rates = pytest.mark.parametrize("sample_rate", [24_000, 48_000])


def track_pitch(sound: NDArray[np.float32], sample_rate: int, centre: float, expected: float) -> float:
    """MIDI pitch around a time, by autocorrelation within a fifth of what is expected."""
    width = int(0.06 * sample_rate)
    begin = max(0, int(centre * sample_rate) - width)
    frame = sound[begin : begin + 2 * width].astype(np.float64) * np.hanning(len(sound[begin : begin + 2 * width]))
    spectrum = np.abs(np.fft.rfft(frame, 4 * len(frame))) ** 2
    correlation = np.fft.irfft(spectrum)
    period = sample_rate / (440 * 2 ** ((expected - 69) / 12))
    lags = np.arange(int(period / 1.5), int(period * 1.5) + 1)
    best = lags[correlation[lags].argmax()]
    before, at, after = correlation[best - 1 : best + 2]
    refined = best + 0.5 * (before - after) / (before - 2 * at + after)
    return float(69 + 12 * np.log2(sample_rate / refined / 440))


@rates
def test_the_pitch_is_the_written_one(sample_rate: int) -> None:
    errors = []
    for seed in range(3):
        piece = compose(seed)
        sound = sing(piece.melody, piece.tempo, piece.seconds, sample_rate, seed, piece.voice)
        for note in piece.melody:
            middle = (note.start + note.length / 2) * piece.seconds_per_beat
            errors.append(track_pitch(sound, sample_rate, middle, note.pitch) - note.pitch)
    assert np.median(np.abs(errors)) < 0.15
    assert np.percentile(np.abs(errors), 95) < 0.5


@rates
def test_it_sings_in_its_notes_and_rests_in_its_rests(sample_rate: int) -> None:
    melody = [Note(1, 1, 64, 90, "la"), Note(4, 2, 67, 90, "mi")]
    sound = sing(melody, 120, 4.0, sample_rate, 0)
    assert len(sound) == 4 * sample_rate

    def level(begin: float, end: float) -> float:
        return float(np.sqrt(np.mean(sound[int(begin * sample_rate) : int(end * sample_rate)] ** 2)))

    assert level(0.55, 0.95) > 0.5 * LOUDNESS
    assert level(2.05, 2.95) > 0.5 * LOUDNESS
    assert level(0, 0.05) < 0.02 * LOUDNESS
    assert level(1.2, 1.4) < 0.02 * LOUDNESS
    assert level(3.2, 4.0) < 0.02 * LOUDNESS


def test_every_syllable_is_finite_loud_and_clear_of_full_scale() -> None:
    for consonant in ("", *CONSONANTS):
        melody = [Note(index, 1, 62, 90, consonant + vowel) for index, vowel in enumerate(VOWELS)]
        sound = sing(melody, 120, 3.0, 24_000, 1)
        assert np.isfinite(sound).all()
        assert 0.1 < np.abs(sound).max() <= CEILING + 1e-6


def test_vowels_differ_where_their_formants_do() -> None:
    def energy(vowel: str, low: float, high: float) -> float:
        sound = sing([Note(0, 2, 57, 90, "l" + vowel)], 60, 2.0, 24_000, 0)
        power = np.abs(np.fft.rfft(sound)) ** 2
        hertz = np.fft.rfftfreq(len(sound), 1 / 24_000)
        return float(power[(hertz > low) & (hertz < high)].sum() / power.sum())

    assert energy("i", 2200, 3500) > 5 * energy("u", 2200, 3500)
    assert energy("a", 700, 1500) > 3 * energy("i", 700, 1500)


def test_equal_arguments_give_equal_samples_and_another_seed_does_not() -> None:
    piece = compose(5, WIDE)
    first, again, other = (
        sing(piece.melody, piece.tempo, piece.seconds, 24_000, seed, TENOR) for seed in (5, 5, 6)
    )  # fmt: skip
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_both_rates_sing_the_same() -> None:
    melody = [Note(0, 4, 60, 90, "la")]
    low, high = (sing(melody, 60, 4.0, rate, 3) for rate in (24_000, 48_000))
    spectra = [np.abs(np.fft.rfft(sound * np.hanning(len(sound))))[: 4 * 4000] for sound in (low, high)]
    bands = [np.log(spectrum.reshape(-1, 4 * 250).mean(1) / spectrum.mean()) for spectrum in spectra]
    assert np.abs(bands[0] - bands[1]).max() < 0.35  # 3 dB, up to 4 kHz


def test_no_melody_is_silence() -> None:
    assert not sing([], 100, 1.0, 24_000, 0).any()


def test_control_curves_hold_the_pitch_and_plosives_open_with_a_burst() -> None:
    melody = [Note(1, 2, 64, 90, "ta")]
    controls = control_curves(melody, 60, 4.0, 0, TENOR)
    assert abs(controls[300, 0] - 64) < 0.6
    assert controls[190:200, 3].max() == pytest.approx(BURSTS["t"])
    assert controls[205:, 3].max() == 0
