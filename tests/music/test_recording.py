"""What recording does to a voice."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from backline.music.recording import compressed, in_room, noise, recorded, room_response, through_microphone

RATE = 48_000


def level(sound: NDArray[np.float32]) -> float:
    """dBFS"""
    return float(10 * np.log10(np.mean(np.square(sound, dtype=np.float64)) + 1e-20))


@pytest.mark.parametrize("seconds", [0.2, 0.6, 1.5])
def test_a_room_falls_by_sixty_decibels_in_its_time(seconds: float) -> None:
    """By the slope of its energy that is still to come (Schroeder), in the band that dies away last."""
    response = room_response(RATE, seconds, np.random.default_rng(0)).astype(np.float64)
    assert float(np.sum(response**2)) == pytest.approx(1, abs=1e-3)
    low = sosfilt(butter(4, 400, fs=RATE, output="sos"), response)
    left = np.cumsum(low[::-1] ** 2)[::-1]
    decay = 10 * np.log10(left / left[0])
    early, late = int(np.argmax(decay < -8)), int(np.argmax(decay < -28))
    assert (late - early) / RATE * 3 == pytest.approx(seconds, rel=0.35)


def test_a_room_answers_after_the_voice_at_the_level_that_is_asked_for() -> None:
    click = np.zeros(RATE, np.float32)
    click[1000] = 1
    heard = in_room(click, RATE, 0.3, -12, np.random.default_rng(1))
    assert heard[1000] == pytest.approx(1, abs=1e-3)
    assert np.abs(heard[:1000]).max() < 1e-6
    assert 10 * np.log10(np.sum(heard[1001:] ** 2)) == pytest.approx(-12, abs=0.5)


@pytest.mark.parametrize("wanted", [-60.0, -35.0])
def test_noise_has_its_level(wanted: float) -> None:
    for seed in range(6):
        assert level(noise(RATE, RATE, wanted, np.random.default_rng(seed))) == pytest.approx(wanted, abs=1.5)


def test_a_compressor_brings_loud_and_soft_together_and_leaves_the_soft() -> None:
    tone = np.sin(2 * np.pi * 300 * np.arange(RATE) / RATE).astype(np.float32)
    voice = np.concatenate([0.02 * tone, 0.4 * tone])
    heard = compressed(voice, RATE, threshold=-25, ratio=3)
    soft, loud = heard[: RATE // 2], heard[RATE + RATE // 4 :]
    assert level(soft) == pytest.approx(level(voice[: RATE // 2]), abs=0.1)
    assert level(loud) == pytest.approx(-25 + (level(0.4 * tone) + 25) / 3, abs=0.3)


def test_microphones_differ_and_keep_the_middle() -> None:
    click = np.zeros(RATE, np.float32)
    click[RATE // 2] = 1
    highest = []
    for seed in range(40):
        spectrum = np.abs(np.fft.rfft(through_microphone(click, RATE, np.random.default_rng(seed))))
        assert 0.1 < spectrum[1000] < 10
        assert spectrum[5] < 0.3 * spectrum[1000]
        highest.append(int(np.flatnonzero(spectrum > 0.1 * spectrum[1000]).max()))
    assert min(highest) < 7_000
    assert max(highest) > 20_000


def test_recordings_are_as_long_finite_and_none_like_another() -> None:
    voice = 0.1 * np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    heard = [recorded(voice, RATE, np.random.default_rng(seed)) for seed in range(8)]
    for sound in heard:
        assert (sound.shape, sound.dtype) == (voice.shape, np.float32)
        assert np.isfinite(sound).all()
    assert np.array_equal(heard[3], recorded(voice, RATE, np.random.default_rng(3)))
    assert len({sound.tobytes() for sound in heard}) >= 7
    assert np.isfinite(recorded(np.zeros(RATE, np.float32), RATE, np.random.default_rng(0))).all()
