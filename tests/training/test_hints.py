"""Hints of chords are learned: from a voice, from the beat, and from how a song goes on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from backline.codecs.harmony import HarmonyEncoder, HarmonyTables
from backline.kernels.chroma import FEATURES
from backline.models.hafm.listening.hints import HINT_LAGS
from backline.models.hafm.score import VOICE_VOCABULARY
from backline.music.composer import compose
from backline.music.world import TRIO
from backline.training.hints import HintSong, hinted, train_hints
from backline.training.score import score_tokens

SHORT = dataclasses.replace(TRIO, bars=4)


def held_notes(seed: int) -> HintSong:
    """One of three pitch classes after the other, for 0.8 s each, and major chords on them."""
    roots = np.random.default_rng(seed).choice([0, 5, 7], 8).repeat(40)
    return HintSong(roots.astype(np.int16), roots.astype(np.int8), bars_per_second=0.5)


def round_and_round(seed: int) -> HintSong:
    """Silence over four chords, a bar each, always the same: only the number of the bar tells which it is."""
    voice = np.full(400, VOICE_VOCABULARY - 1, np.int16)
    return HintSong(voice, np.array([0, 21, 5, 7] * 2, np.int8).repeat(50), bars_per_second=1.0)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many steps learn as much from batches of six songs, in a third of the time."""
    monkeypatch.setattr("backline.training.hints.SONGS", 6)


@pytest.mark.slow
def test_the_chord_that_goes_with_what_is_sung_is_learned(small_batches: None) -> None:
    songs = [held_notes(seed) for seed in range(48)]
    hints = train_hints(songs, epochs=25)
    told = hinted([held_notes(seed) for seed in range(100, 108)], hints)
    assert list(told) == [float(lag) for lag in HINT_LAGS]
    assert told[0.0] > 0.8  # by chance a third
    assert told[2.4] < 0.6  # nobody knows what comes


@pytest.mark.slow
def test_where_the_voice_says_nothing_the_number_of_the_bar_does(small_batches: None) -> None:
    hints = train_hints([round_and_round(0)] * 48, epochs=25)
    told, untold = (hinted([round_and_round(0)], hints, counted)[2.4] for counted in (True, None))
    assert told > 0.65  # by chance a quarter
    assert untold < 0.5


def test_equal_songs_and_seed_give_equal_weights_and_another_seed_others() -> None:
    def weights(seed: int) -> dict[str, torch.Tensor]:
        return train_hints([held_notes(0), held_notes(1)], 72, seed).tensors()

    first, again, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert not torch.equal(first["semantics.hints.entry"], other["semantics.hints.entry"])


def test_a_song_is_sung_and_told_in_c() -> None:
    generator = torch.Generator().manual_seed(0)
    centroids = torch.randn(VOICE_VOCABULARY, FEATURES, generator=generator)
    encoder = HarmonyEncoder(HarmonyTables(torch.zeros(FEATURES), torch.ones(FEATURES), centroids))
    seed = next(seed for seed in range(400) if compose(seed, SHORT).key.name == "D major")
    piece = compose(seed, SHORT)
    song = HintSong.sung(seed, SHORT, encoder)
    chords = score_tokens(piece, len(song.vocal))[0]
    in_c = chords // 12 * 12 + (chords - 2) % 12
    np.testing.assert_array_equal(song.chords, in_c)
    assert song.bars_per_second == pytest.approx(piece.tempo / 240)
    plain, varied = HintSong.sung(seed, SHORT, encoder, varied=False), HintSong.sung(seed, SHORT, encoder)
    assert (plain.vocal != varied.vocal).any()
    np.testing.assert_array_equal(varied.vocal, song.vocal)


def test_without_songs_there_is_nothing_to_learn_from() -> None:
    with pytest.raises(ValueError, match="give at least one"):
        train_hints([], 1)
