"""Tokens so many semitones higher: pitches turn, all else stays. What was sung, as pitches and as counts of them."""

import numpy as np
import pytest

from backline.models.hafm.score import (
    BAND_TURNS,
    CODEBOOKS,
    VOCABULARY,
    VOICE_TURNS,
    VOICE_VOCABULARY,
    pitch_and_colour,
    transposed,
)

EVERY_BAND = np.tile(np.arange(VOCABULARY), (len(CODEBOOKS), 1))
EVERY_VOICE = np.arange(VOICE_VOCABULARY)[None]


def test_a_semitone_higher_by_hand() -> None:
    """C and B major, C and B minor, B diminished, and what is no chord; bass and drums likewise."""
    chord, bass, drums = [0, 11, 12, 23, 35, 36], [0, 11, 12, 23, 24, 25], [0, 1, 2, 3, 4, 5]
    higher = transposed(np.array([chord, bass, [0] * 6, drums, drums]), BAND_TURNS, 1)
    assert higher.tolist() == [[1, 0, 13, 12, 24, 36], [1, 0, 13, 12, 24, 25], [0] * 6, drums, drums]


@pytest.mark.parametrize("semitones", [-12, 0, 12, 24])
def test_an_octave_is_the_same(semitones: int) -> None:
    np.testing.assert_array_equal(transposed(EVERY_BAND, BAND_TURNS, semitones), EVERY_BAND)
    np.testing.assert_array_equal(transposed(EVERY_VOICE, VOICE_TURNS, semitones), EVERY_VOICE)


@pytest.mark.parametrize("semitones", [1, 5, 11, -7])
def test_there_and_back_again(semitones: int) -> None:
    for tokens, turns in ((EVERY_BAND, BAND_TURNS), (EVERY_VOICE, VOICE_TURNS)):
        back = transposed(transposed(tokens, turns, semitones), turns, -semitones)
        np.testing.assert_array_equal(back, tokens)


def test_what_has_no_pitch_stays() -> None:
    higher = transposed(EVERY_BAND, BAND_TURNS, 5)
    for codebook, turns in enumerate(BAND_TURNS):
        assert (higher[codebook, :turns] != EVERY_BAND[codebook, :turns]).all()
        np.testing.assert_array_equal(higher[codebook, turns:], EVERY_BAND[codebook, turns:])
    assert transposed(EVERY_VOICE, VOICE_TURNS, 5)[0, -1] == VOICE_VOCABULARY - 1


def test_a_voices_token_is_a_pitch_class_and_a_colour() -> None:
    tokens = np.array([[0, 11, 12, 239, 240]])
    assert pitch_and_colour(tokens).tolist() == [[0, 11, 0, 11, 12], [0, 0, 1, 19, 20]]
