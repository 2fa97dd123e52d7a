"""What sounds are embedded as, and that the distance of real songs grows with what is done to them."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.random import default_rng
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from backline.kernels.chroma import BASS, FEATURES, LEVEL, ONSETS, TONALITY, TREBLE
from backline.measures.embeddings import BANDS, GAINS, WINDOW, Embedding, MusicEmbedding, Sound, embedded
from backline.measures.frechet import Statistics, fad
from backline.music import fluidsynth
from backline.music.seeds import HELD_OUT_SEED
from backline.music.songs import song
from backline.music.world import NARROW, WIDE, World

RATE = 24_000
FRAME = 23_040  # samples in 0.96 s

needs_fluidsynth = pytest.mark.skipif(fluidsynth.missing() is not None, reason=str(fluidsynth.missing()))


def sine(hertz: float, samples: int, rate: int = RATE) -> Sound:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(samples) / rate)).astype(np.float32)


def noise(samples: int, seed: int = 0) -> Sound:
    return (0.1 * default_rng(seed).standard_normal(samples)).astype(np.float32)


# ---- our embedding ----


@pytest.mark.parametrize(
    ("samples", "frames"), [(0, 0), (FRAME - 1, 0), (FRAME, 1), (2 * FRAME - 1, 1), (3 * FRAME + 100, 3)]
)
def test_a_frame_is_96_hundredths_of_a_second(samples: int, frames: int) -> None:
    embedding: Embedding = MusicEmbedding()
    found = embedding.frames(noise(samples))
    assert found.shape == (frames, embedding.dimensions)
    assert found.dtype == np.float32


def test_silence_is_known_in_every_dimension() -> None:
    found = MusicEmbedding().frames(np.zeros(2 * FRAME, np.float32))
    expected = np.zeros(2 * (FEATURES + BANDS))
    expected[LEVEL] = 0.25 * np.log(1e-5)
    expected[FEATURES : FEATURES + BANDS] = 0.2 * np.log(1e-3)
    np.testing.assert_allclose(found, np.stack([expected, expected]), atol=1e-5)


def test_a_steady_sine_has_its_pitch_class_its_level_and_no_deviation() -> None:
    steady = MusicEmbedding().frames(sine(440.0, 3 * FRAME))[1]  # away from where it begins and ends
    means, deviations = steady[: FEATURES + BANDS], steady[FEATURES + BANDS :]
    assert means[TREBLE].argmax() == 9
    assert means[TREBLE][9] > 0.9
    assert means[LEVEL] == pytest.approx(0.25 * np.log(0.5 * 0.3**2), abs=0.01)
    np.testing.assert_allclose(deviations, 0.0, atol=0.02)


def test_means_and_deviations_are_of_the_windows_own_frames() -> None:
    """The level of a sound that is loud in every other 20 ms, by hand."""
    loud = np.tile(np.repeat([1.0, 0.1], 480), WINDOW)  # two windows
    tone = (loud * np.sign(np.sin(2 * np.pi * 1000 * np.arange(len(loud)) / RATE + 0.1))).astype(np.float32)
    levels = 0.25 * np.log(np.array([1.0, 0.01]) + 1e-5)  # mean squares of a square wave
    for frame in MusicEmbedding().frames(tone):
        assert frame[LEVEL] == pytest.approx(levels.mean(), abs=1e-4)
        assert frame[FEATURES + BANDS + LEVEL] == pytest.approx(np.ptp(levels) / 2, abs=1e-4)


def test_a_low_and_a_high_noise_differ_in_their_bands() -> None:
    low, high = (
        sosfilt(butter(6, edge, kind, fs=RATE, output="sos"), noise(2 * FRAME)).astype(np.float32)
        for edge, kind in ((2000.0, "low"), (6000.0, "high"))
    )
    difference = MusicEmbedding().frames(low)[1] - MusicEmbedding().frames(high)[1]
    bands = difference[FEATURES : FEATURES + BANDS]
    assert (bands[:5] > 0.1).all()
    assert (bands[-3:] < -0.1).all()


def test_every_dimension_counts() -> None:
    assert (GAINS > 0).all()
    groups = [BASS, TREBLE, ONSETS, slice(TONALITY, TONALITY + 1), slice(LEVEL, LEVEL + 1)]
    assert sum(len(GAINS[group]) for group in groups) == FEATURES


def test_equal_sounds_give_equal_frames() -> None:
    sound = noise(3 * FRAME)
    np.testing.assert_array_equal(MusicEmbedding().frames(sound), MusicEmbedding().frames(sound.copy()))


# ---- sets of sounds ----


def test_a_set_is_its_sounds_each_framed_by_itself() -> None:
    embedding = MusicEmbedding()
    sounds = [noise(2 * FRAME + 500, seed=1), noise(FRAME - 1, seed=2), noise(3 * FRAME, seed=3)]
    found = embedded(embedding, sounds, RATE)
    assert [len(frames) for frames in found] == [2, 0, 3]
    for frames, sound in zip(found, sounds, strict=True):
        np.testing.assert_allclose(frames, embedding.frames(sound))


def test_the_rate_of_the_sounds_does_not_matter() -> None:
    embedding = MusicEmbedding()
    (at_24k,) = embedded(embedding, [sine(440.0, 3 * FRAME)], RATE)
    (at_48k,) = embedded(embedding, [sine(440.0, 6 * FRAME, 48_000)], 48_000)
    assert len(at_48k) == len(at_24k)
    np.testing.assert_allclose(at_48k.mean(axis=0), at_24k.mean(axis=0), atol=0.03)


def test_a_sound_that_is_not_mono_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[2, 48000\]: mix it down"):
        embedded(MusicEmbedding(), [np.zeros((2, 48_000), np.float32)], RATE)


# ---- real songs ----


SONGS = 8  # of about 20 s, in WIDE as short as 10: enough frames for a distance


def accompaniments(world: World, first: int) -> list[NDArray[np.float32]]:
    return [song(HELD_OUT_SEED + first + number, world).accompaniment for number in range(SONGS)]


def measured(sounds: list[Sound]) -> Statistics:
    return Statistics.of(embedded(MusicEmbedding(), sounds, RATE))


@pytest.fixture(scope="module")
def narrow() -> Statistics:
    return measured(accompaniments(NARROW, 0))


@pytest.fixture(scope="module")
def others() -> list[Sound]:
    return accompaniments(NARROW, 100)


def with_noise(sound: Sound, decibels: float) -> Sound:
    return sound + np.float32(10 ** (decibels / 20) / 0.1) * noise(len(sound))


def low_passed(sound: Sound, hertz: float) -> Sound:
    return sosfilt(butter(8, hertz, fs=RATE, output="sos"), sound).astype(np.float32)


@needs_fluidsynth
@pytest.mark.slow
def test_songs_are_nowhere_from_themselves(narrow: Statistics) -> None:
    assert fad(narrow, narrow) == pytest.approx(0.0, abs=1e-6)


@needs_fluidsynth
@pytest.mark.slow
@pytest.mark.parametrize(
    ("distort", "amounts"),
    [(with_noise, (-50.0, -40.0, -30.0, -15.0)), (low_passed, (10_000.0, 6_000.0, 3_000.0, 1_000.0))],
)
def test_the_more_is_done_to_songs_the_farther_they_lie(
    narrow: Statistics,
    others: list[Sound],
    distort: Callable[[Sound, float], Sound],
    amounts: tuple[float, ...],
) -> None:
    distances = [fad(measured([distort(sound, amount) for sound in others]), narrow) for amount in amounts]
    assert fad(measured(others), narrow) < distances[0]
    assert distances == sorted(distances)
    assert distances[-1] > 4 * distances[0]


@needs_fluidsynth
@pytest.mark.slow
def test_other_songs_of_the_world_lie_closer_than_another_world(narrow: Statistics, others: list[Sound]) -> None:
    near = fad(measured(others), narrow)
    assert fad(measured(accompaniments(WIDE, 200)), narrow) > 3 * near
    assert fad(measured([np.zeros_like(sound) for sound in others]), narrow) > 20 * near
