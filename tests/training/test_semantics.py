"""The tables of our semantic encoder are fitted reproducibly, use the vocabulary and tell chords and beats."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from backline.codecs.harmony import HOP, SAMPLE_RATE, VOCABULARY, HarmonyEncoder, HarmonyTables
from backline.training.semantics import LabelledSong, kmeans, normalised_information, train_semantics

CHORDS = [(0, 4, 7), (5, 9, 12), (7, 11, 14), (9, 12, 16)]
FRAMES_PER_SIXTEENTH = 6


def band(seed: int, bars: int = 6) -> LabelledSong:
    """A kick on every beat, a bass and a chord a bar, and a voice on a chord note: four chords in random order."""
    random = np.random.default_rng(seed)
    per_bar = 16 * FRAMES_PER_SIXTEENTH
    chords = np.repeat(random.integers(0, len(CHORDS), bars), per_bar)
    beats = np.tile(np.repeat(np.arange(16), FRAMES_PER_SIXTEENTH), bars)
    time = np.arange(len(chords) * HOP) / SAMPLE_RATE
    hertz = 440 * 2 ** ((np.arange(128) - 69) / 12)
    vocal, instrumental = np.zeros_like(time), np.zeros_like(time)
    for bar in range(bars):
        part = slice(bar * per_bar * HOP, (bar + 1) * per_bar * HOP)
        notes = CHORDS[chords[bar * per_bar]]
        for note in notes:
            instrumental[part] += 0.1 * np.sin(2 * np.pi * hertz[60 + note] * time[part])
        instrumental[part] += 0.2 * np.sin(2 * np.pi * hertz[36 + notes[0]] * time[part])
        vocal[part] = 0.2 * np.sin(2 * np.pi * hertz[60 + notes[random.integers(3)]] * time[part])
    since_kick = time % (4 * FRAMES_PER_SIXTEENTH * HOP / SAMPLE_RATE)
    instrumental += 0.5 * np.exp(-since_kick / 0.03) * random.standard_normal(len(time))
    return LabelledSong(vocal.astype(np.float32), instrumental.astype(np.float32), chords, beats)


def test_tokens_tell_chords_and_beats_of_songs_never_heard() -> None:
    semantics = train_semantics(map(band, range(4)), map(band, range(90, 92)), seed=1, iterations=6)
    report = semantics.instrumental_report
    assert report.chord_accuracy > 0.9 > report.chord_chance
    assert report.beat_accuracy > 2 * report.beat_chance
    assert report.perplexity > 30
    assert semantics.vocal_report.chord_accuracy > semantics.vocal_report.chord_chance
    for side in ("vocal", "instrumental"):
        HarmonyEncoder(HarmonyTables.from_tensors(semantics.tensors(), f"semantics.{side}."))


def test_the_same_songs_and_seed_give_the_same_tables() -> None:
    first, second = (train_semantics([band(0)], [band(1)], seed=3, iterations=2) for _ in range(2))
    for a, b in zip(first.tensors().values(), second.tensors().values(), strict=True):
        assert torch.equal(a, b)


def test_kmeans_finds_separate_heaps() -> None:
    generator = torch.Generator().manual_seed(0)
    heaps = torch.randn(7, 3, generator=generator) * 20
    points = (heaps[:, None] + torch.randn(7, 100, 3, generator=generator)).reshape(-1, 3)
    found = kmeans(points, 7, generator, 10)
    assert torch.cdist(heaps, found).min(1).values.max() < 0.5


def test_more_iterations_never_serve_the_points_worse() -> None:
    points = torch.randn(2000, 4, generator=torch.Generator().manual_seed(2))
    errors = []
    for iterations in (0, 1, 3, 10):
        centroids = kmeans(points, 20, torch.Generator().manual_seed(5), iterations)
        errors.append(float(torch.cdist(points, centroids).min(1).values.square().sum()))
    assert all(after <= before for before, after in pairwise(errors))


def test_too_few_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="12 frames cannot make 500 tokens"):
        kmeans(torch.zeros(12, 2), VOCABULARY, torch.Generator(), 1)


def test_information_is_one_for_equal_and_zero_for_unrelated_labels() -> None:
    labels = np.arange(4000) % 4
    assert normalised_information(labels * 3, labels) == pytest.approx(1)
    assert normalised_information(np.arange(4000) // 4 % 5, labels) == pytest.approx(0, abs=1e-9)
