"""Training songs: new every time, in an order that only the seed decides, and never one that is held out."""

import multiprocessing
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backline.music import fluidsynth
from backline.music.songs import Song, song
from backline.music.world import NARROW
from backline.training.data import (
    HELD_OUT_SEED,
    SongFeed,
    SongFeedError,
    add_noise,
    crop,
    held_out,
    training_seed,
    vary_equalization,
    vary_gain,
    vary_polarity,
)

needs_fluidsynth = pytest.mark.skipif(fluidsynth.missing() is not None, reason=str(fluidsynth.missing()))
SHORT = replace(NARROW, bars=4, tempi=(112, 112))


def assert_same(one: Song, other: Song) -> None:
    assert one.piece == other.piece
    np.testing.assert_array_equal(one.vocal, other.vocal)
    np.testing.assert_array_equal(one.accompaniment, other.accompaniment)


@needs_fluidsynth
def test_the_order_is_that_of_the_seeds_with_several_processes_too_and_a_run_can_go_on() -> None:
    with SongFeed(SHORT, seed=7, processes=2, ahead=2, start=3) as feed:
        for number in (3, 4, 5):
            assert feed.position == number
            assert_same(next(feed), song(training_seed(7, number), SHORT))


@needs_fluidsynth
def test_closing_leaves_no_process_and_a_second_time_does_nothing() -> None:
    before = set(multiprocessing.active_children())
    feed = SongFeed(SHORT, ahead=1)
    next(feed)
    assert set(multiprocessing.active_children()) > before
    feed.close()
    feed.close()
    assert set(multiprocessing.active_children()) == before


def test_what_fails_in_the_side_process_is_raised_with_its_traceback() -> None:
    with SongFeed(replace(NARROW, bars=6)) as feed, pytest.raises(SongFeedError, match=r"(?s)song 0.*6 bars"):
        next(feed)


def test_a_killed_side_process_is_noticed() -> None:
    with SongFeed(SHORT) as feed:
        for process in feed._processes:
            process.kill()
            process.join()
        begun = time.monotonic()
        with pytest.raises(SongFeedError, match="exit code -9"):
            next(feed)
        assert time.monotonic() - begun < 60


@given(st.integers(0, 2**16 - 1), st.integers(0, 2**24 - 1), st.integers(0, 2**16 - 1), st.integers(0, 2**24 - 1))
def test_no_two_songs_share_a_seed_and_none_is_held_out(seed: int, number: int, seed2: int, number2: int) -> None:
    assert training_seed(seed, number) < HELD_OUT_SEED
    assert (training_seed(seed, number) == training_seed(seed2, number2)) == ((seed, number) == (seed2, number2))


def test_a_run_without_songs_is_refused() -> None:
    with pytest.raises(ValueError, match="run 65536"):
        training_seed(2**16, 0)
    with pytest.raises(ValueError, match="no song -1"):
        SongFeed(start=-1)


@needs_fluidsynth
def test_held_out_songs_are_those_of_the_held_out_seeds() -> None:
    made = list(held_out(2, SHORT))
    assert [each.piece.seed for each in made] == [HELD_OUT_SEED, HELD_OUT_SEED + 1]


def test_crops_of_several_sounds_belong_together() -> None:
    ramp = np.arange(1000, dtype=np.float32)
    for seed in range(20):
        first, second = crop([ramp, ramp + 5000], 300, np.random.default_rng(seed))
        np.testing.assert_array_equal(first + 5000, second)
        np.testing.assert_array_equal(np.diff(first), 1)
        assert len(first) == 300


def test_a_crop_longer_than_the_sound_ends_in_silence() -> None:
    (cut,) = crop([np.ones(10, np.float32)], 16, np.random.default_rng(0))
    np.testing.assert_array_equal(cut, [1] * 10 + [0] * 6)


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
