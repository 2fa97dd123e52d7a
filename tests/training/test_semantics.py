"""The voice's tokens are closed under transposition, fitted reproducibly, and tell the key."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from backline.codecs.harmony import SAMPLE_RATE, HarmonyEncoder, HarmonyFeatures, HarmonyTables
from backline.kernels.chroma import FEATURES
from backline.models.hafm.score import VOICE_PROTOTYPES, VOICE_TURNS, VOICE_VOCABULARY, transposed
from backline.training.semantics import (
    VOCAL_NOISE,
    Semantics,
    SungSong,
    all_transpositions,
    fit_tables,
    key_profile,
    train_semantics,
    transpose,
    turning_means,
)

SILENCE = VOICE_VOCABULARY - 1
SCALE = (55, 57, 59, 60, 62, 64, 65, 67, 69, 71, 72)  # of C major and A minor


def scale_song(seed: int, semitones: int, notes: int = 24) -> SungSong:
    """Tones of six partials, 0.4 s each, out of the scale that lies so far above C; every sixth rests. One chord."""
    random = np.random.default_rng(seed)
    time = np.arange(round(0.4 * SAMPLE_RATE)) / SAMPLE_RATE
    swell = np.minimum(1, np.minimum(time, time[::-1]) / 0.02)
    sound = []
    for number in range(notes):
        hertz = 440 * 2 ** ((random.choice(SCALE) + semitones - 69) / 12)
        tone = sum(np.sin(2 * np.pi * n * hertz * time) / n for n in range(1, 7))
        sound.append(0.15 * swell * tone * (number % 6 != 5))
    return SungSong(np.concatenate(sound).astype(np.float32), semitones)


@pytest.fixture(scope="module")
def fitted() -> Semantics:
    songs = [scale_song(seed, semitones) for seed, semitones in enumerate((0, 2, 5, 7))]
    held_out = [scale_song(100 + semitones, semitones) for semitones in (0, 3, 8, 11)]
    return train_semantics(songs, held_out, seed=1, iterations=8)


@pytest.fixture(scope="module")
def heard() -> torch.Tensor:
    """Features [frame, FEATURES] of a song that the tables were not fitted on."""
    noise = np.random.default_rng(0).standard_normal
    vocal = scale_song(50, 4, notes=12).vocal
    noisy = vocal + VOCAL_NOISE * noise(len(vocal), np.float32)
    return HarmonyFeatures()(torch.from_numpy(noisy)[None, None])[0]


@pytest.mark.parametrize("semitones", [1, 6, 11])
def test_a_transposed_frame_has_the_transposed_token(fitted: Semantics, heard: torch.Tensor, semitones: int) -> None:
    encoder = HarmonyEncoder(fitted.tables)
    turned = transpose(heard, torch.full((len(heard),), semitones))
    low, high = (encoder.tokens(features[None]).numpy() for features in (heard, turned))
    np.testing.assert_array_equal(high, transposed(low, VOICE_TURNS, semitones))
    voiced = low[low < SILENCE]
    assert len(np.unique(voiced % 12)) >= 6


def test_a_note_transposed_by_an_octave_is_the_same_frame(heard: torch.Tensor) -> None:
    assert torch.equal(transpose(heard, torch.full((len(heard),), 12)), heard)


def test_the_last_token_is_silence(fitted: Semantics) -> None:
    encoder = HarmonyEncoder(fitted.tables)
    assert len(fitted.tables.centroids) == VOICE_VOCABULARY == 12 * VOICE_PROTOTYPES + 1
    silence = encoder.encode(torch.zeros(1, 1, SAMPLE_RATE))[0]
    assert (silence == SILENCE).all()
    song = torch.from_numpy(scale_song(60, 0).vocal)
    tokens = encoder.encode(song[None, None])[0].numpy().reshape(24, 20)  # 20 frames a note
    assert (tokens[np.arange(24) % 6 != 5][:, 4:-4] != SILENCE).all()


def test_songs_without_a_silent_frame_still_have_a_token_for_it() -> None:
    features = HarmonyFeatures()(torch.from_numpy(scale_song(2, 0, notes=4).vocal)[None, None])[0]
    tables = fit_tables(features, torch.Generator().manual_seed(0), 3)
    assert (HarmonyEncoder(tables).encode(torch.zeros(1, 1, 9600)) == SILENCE).all()


def test_the_key_of_songs_never_heard_is_heard(fitted: Semantics) -> None:
    assert list(fitted.report.key_heard) == [2, 4, 8, 16]
    assert fitted.report.key_heard[8] == 1.0
    assert "key heard: " in str(fitted.report)


def test_the_profile_counts_songs_as_if_they_were_in_c() -> None:
    counts = np.ones(VOICE_VOCABULARY)  # none is impossible
    counts[[0, 12 * 3 + 11, SILENCE]] += (2, 1, 3)
    found = key_profile([np.array([2, 2, SILENCE]), np.array([12 * 3 + 4, SILENCE, SILENCE])], [2, 5])
    torch.testing.assert_close(found, torch.from_numpy(np.log(counts / counts.sum())).float())


def test_the_same_songs_and_seed_give_the_same_tables_and_others_others() -> None:
    def tensors(seed: int) -> dict[str, torch.Tensor]:
        return train_semantics([scale_song(0, 0)], [scale_song(1, 0)], seed, iterations=2).tensors()

    first, again, other = tensors(3), tensors(3), tensors(4)
    for name, tensor in first.items():
        assert torch.equal(tensor, again[name]), name
    assert not torch.equal(first["semantics.vocal.centroids"], other["semantics.vocal.centroids"])


def test_a_packs_tensors_are_the_tables_and_the_profile(fitted: Semantics) -> None:
    tensors = fitted.tensors()
    read = HarmonyTables.from_tensors(tensors, "semantics.vocal.")
    assert torch.equal(read.centroids, fitted.tables.centroids)
    assert tensors["semantics.key"].shape == (VOICE_VOCABULARY,)
    assert float(tensors["semantics.key"].exp().sum()) == pytest.approx(1, abs=1e-5)


# ---- clustering up to transposition ----


def heaps(seed: int, each: int = 100) -> tuple[torch.Tensor, torch.Tensor]:
    """Four places far apart [place, FEATURES], and points around them, every one transposed by any number."""
    generator = torch.Generator().manual_seed(seed)
    places = 20 * torch.randn(4, FEATURES, generator=generator)
    points = places.repeat_interleave(each, dim=0) + torch.randn(4 * each, FEATURES, generator=generator)
    return places, transpose(points, torch.randint(12, (4 * each,), generator=generator))


def test_heaps_are_found_whatever_their_transposition() -> None:
    places, points = heaps(0)
    found = turning_means(points, 12, torch.Generator().manual_seed(0), 10)
    distance = torch.cdist(places, all_transpositions(found)).min(1).values
    assert distance.max() < 5.0  # a point's own distance from its place; another transposition is 100 off


def test_more_iterations_never_serve_the_points_worse() -> None:
    points = torch.randn(600, FEATURES, generator=torch.Generator().manual_seed(2))
    errors = []
    for iterations in (0, 1, 3, 10):
        found = turning_means(points, 5, torch.Generator().manual_seed(5), iterations)
        errors.append(float(torch.cdist(points, all_transpositions(found)).min(1).values.square().sum()))
    assert all(after <= before for before, after in pairwise(errors))
    assert errors[-1] < errors[0]


def test_a_transposition_turns_both_chromas_upwards_and_nothing_else() -> None:
    point = torch.arange(FEATURES, dtype=torch.float32)[None]
    turned = transpose(point, torch.tensor([2]))[0]
    expected: NDArray[np.int64] = np.concatenate([np.roll(np.arange(12), 2), 12 + np.roll(np.arange(12), 2)])
    np.testing.assert_array_equal(turned[:24].numpy(), expected)
    assert torch.equal(turned[24:], point[0, 24:])
    np.testing.assert_array_equal(all_transpositions(point)[2], turned)


def test_too_few_frames_are_refused() -> None:
    with pytest.raises(ValueError, match=r"12 frames with a pitch cannot make 20 prototypes: fit on more songs"):
        turning_means(torch.zeros(12, FEATURES), VOICE_PROTOTYPES, torch.Generator(), 1)
