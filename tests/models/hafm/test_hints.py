"""Hints of chords: what the small network says of a frame, however the voice is cut."""

import numpy as np
import pytest

from backline.models.hafm.hints import CERTAIN, CHORDS, HINT_FRAMES_BACK, ChordHints
from backline.models.hafm.score import SUNG_REACH, SUNG_WINDOWS, VOICE_VOCABULARY, sung_counts
from tests.support.hafm import random_hints

TOKENS = np.random.default_rng(1).integers(0, VOICE_VOCABULARY, (1, SUNG_REACH + 60))


def test_a_frames_hints_are_two_softmaxes_of_what_was_sung_up_to_it() -> None:
    hints = random_hints()
    found = hints(TOKENS)
    counts = sung_counts(TOKENS)
    for frame in (0, 30, SUNG_REACH, SUNG_REACH + 59):
        hidden = [
            max(0.0, float(row @ (counts[:, frame] / SUNG_WINDOWS[1])) + b)
            for row, b in zip(hints.inner, hints.inner_bias, strict=True)
        ]
        scores = np.array([float(row @ hidden) + b for row, b in zip(hints.outer, hints.outer_bias, strict=True)])
        for number in range(len(HINT_FRAMES_BACK)):
            part = slice(number * CHORDS, (number + 1) * CHORDS)
            shares = np.exp(scores[part]) / np.exp(scores[part]).sum()
            np.testing.assert_allclose(found[part, frame], CERTAIN * shares, atol=0.5 + 1e-4)


def test_only_what_was_sung_of_late_counts_so_a_cut_makes_no_difference() -> None:
    whole = random_hints()(TOKENS)
    newest = random_hints()(TOKENS[:, 41:])  # the last 19 frames have all that they reach back to
    np.testing.assert_array_equal(newest[:, -19:], whole[:, -19:])
    assert (newest[:, 0] != whole[:, 41]).any()


def test_a_saved_network_is_the_same() -> None:
    hints = random_hints()
    np.testing.assert_array_equal(ChordHints.from_tensors(hints.tensors())(TOKENS), hints(TOKENS))


def test_all_that_is_missing_or_misshapen_is_named() -> None:
    tensors = random_hints().tensors()
    del tensors["semantics.hints.outer"]
    tensors["semantics.hints.inner"] = tensors["semantics.hints.inner"][:, :3]
    with pytest.raises(ValueError, match=r"hints.inner is \[8, 3\], must be.*hints.outer is missing, must be"):
        ChordHints.from_tensors(tensors)
