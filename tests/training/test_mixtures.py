"""What separation is trained on."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from backline.music.seeds import HELD_OUT_SEED
from backline.training.mixtures import PAPER, Augmentation, Feed, Mixtures, Rehearsed

AS_IT_IS = Augmentation(silent=0.0, early=0.0, decibels=(0.0,), levels=(0.0, 0.0))
PLAIN = Feed(4800, 3, AS_IT_IS, songs=4)


def noise(seed: int) -> NDArray[np.float32]:
    """Four tracks of one second whose levels tell them apart."""
    draw = np.random.default_rng(seed).standard_normal((4, 48_000), np.float32)
    return draw * np.array([[1.0], [10.0], [100.0], [1000.0]], np.float32)


def test_the_same_seed_draws_the_same_crops_and_another_seed_others() -> None:
    first, again, other = (Mixtures(Feed(4800, 2), noise, seed).batch() for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_restored_feed_draws_what_comes_next_from_new_songs() -> None:
    feed = Mixtures(PLAIN, noise, 0)
    feed.batch()
    state = feed.state_dict()
    restored = Mixtures(PLAIN, noise, 0)
    restored.load_state_dict(state)
    assert restored.next_seed == feed.next_seed
    assert not np.array_equal(restored.batch(), Mixtures(PLAIN, noise, 0).batch())


def test_no_song_is_a_held_out_one() -> None:
    seeds = []

    def remembered(seed: int) -> NDArray[np.float32]:
        seeds.append(seed)
        return noise(seed)

    feed = Mixtures(replace(PLAIN, batches_per_song=1), remembered, 3)
    for _ in range(6):
        feed.batch()
    assert len(set(seeds)) == len(seeds) > 6
    assert max(seeds) < HELD_OUT_SEED


def test_gains_and_polarity_lie_where_the_paper_has_them() -> None:
    levels = np.concatenate([Mixtures(replace(PLAIN, rows=60), noise, seed).batch() for seed in range(4)])
    deviations = levels.std(axis=2) / [1, 10, 100, 1000]
    assert 0.45 < deviations.min() < 0.6
    assert 1.4 < deviations.max() < 1.65
    stems = [np.ones((4, 4800), np.float32)] * 4
    feed = Mixtures(replace(PLAIN, rows=200), lambda seed: stems[0], 0)
    assert 0.05 < (feed.batch()[:, :, 2000] < 0).mean() < 0.16


def test_tracks_fall_silent_and_crops_begin_late_as_often_as_asked() -> None:
    silent = Mixtures(replace(PLAIN, rows=200, augmentation=replace(AS_IT_IS, silent=0.25)), noise, 0).batch()
    assert 0.18 < (np.abs(silent).max(axis=2) == 0).mean() < 0.32
    early = Mixtures(replace(PLAIN, rows=50, augmentation=replace(AS_IT_IS, early=1.0)), noise, 0).batch()
    assert (np.abs(early[:, :, :10]).max(axis=(1, 2)) < 1).mean() > 0.9  # but for what the equaliser rings


def test_the_papers_equalizer_is_each_tracks_own_and_nothing_else_is_done() -> None:
    batch = Mixtures(Feed(4800, 60, PAPER), noise, 0).batch() / np.array([[1.0], [10.0], [100.0], [1000.0]], np.float32)
    spectra = np.abs(np.fft.rfft(batch, axis=2))
    octave = spectra[:, :, 60:120].mean(axis=2) / spectra[:, :, 240:480].mean(axis=2)  # 600 to 1200 Hz, 2.4 to 4.8 kHz
    spread = np.log(octave).std(axis=0)
    assert (spread[0] < spread[1:]).all(), "a voice is bent less than the others"
    assert np.abs(batch).max(axis=2).min() > 0.5, "nothing is silent, and no crop softer than its gains"


def test_levels_move_all_tracks_of_a_crop_together() -> None:
    feed = Mixtures(replace(PLAIN, augmentation=replace(AS_IT_IS, levels=(-20.0, -20.0))), noise, 0)
    plain = Mixtures(PLAIN, noise, 0)
    assert np.allclose(feed.batch(), 0.1 * plain.batch(), rtol=1e-4)


def test_batches_are_met_about_as_often_as_asked_and_old_ones_forgotten() -> None:
    made = iter(range(10_000))
    rehearsed = Rehearsed(lambda: next(made), passes=4, kept=20, seed=0)
    met = [rehearsed.next() for _ in range(4000)]
    assert len(set(met)) == pytest.approx(1000, rel=0.1)
    assert all(batch > met[place] - 200 for place, batch in enumerate(met[1:]))
    newest = np.maximum.accumulate(met)
    assert (newest - met).max() < 20


def test_who_keeps_one_batch_keeps_one() -> None:
    made = iter(range(100))
    rehearsed = Rehearsed(lambda: next(made), passes=1, kept=1, seed=0)
    assert [rehearsed.next() for _ in range(100)] == list(range(100))
    assert rehearsed.batches == [99]
