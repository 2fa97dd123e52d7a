"""Hints of chords: what the network hears and says, however the voice is cut, and what of it a chunk gets."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
import torch

from backline.models.hafm.aligned.config import LONGEST_LAG, LOOKAHEAD
from backline.models.hafm.listening.hints import (
    CERTAIN,
    CHORDS,
    HINT_LAGS,
    INPUTS,
    PITCHES,
    BarCount,
    ChordHints,
    HintListener,
    beat_inputs,
    hint_inputs,
    lag_number,
)
from backline.models.hafm.score import (
    VOICE_TURNS,
    VOICE_VOCABULARY,
    transposed,
)
from backline.models.stream import Transport
from tests.support.hafm import random_hints

VOICE = np.random.default_rng(1).integers(0, VOICE_VOCABULARY, (1, 240))
WALTZ = Transport(at_seconds=0.5, playing=True, tempo=90.0, numerator=3, song_position=8.0, bar_start=6.0)


def test_the_network_is_torchs_gated_recurrent_unit() -> None:
    hints = random_hints()
    unit = torch.nn.GRU(8, 8, batch_first=True)
    names = ("gates_input", "gates_hidden", "gates_input_bias", "gates_hidden_bias")
    with torch.no_grad():
        for parameter, name in zip(unit.parameters(), names, strict=True):
            parameter.copy_(torch.from_numpy(getattr(hints, name)))
        inputs = torch.from_numpy(hint_inputs(VOICE, None))
        entered = torch.relu(inputs @ torch.from_numpy(hints.entry).T + torch.from_numpy(hints.entry_bias))
        states = unit(entered[None])[0][0].numpy()
    np.testing.assert_allclose(hints.states(VOICE, None), states, atol=1e-5)
    for lag in range(len(HINT_LAGS)):
        part = slice(lag * CHORDS, (lag + 1) * CHORDS)
        scores = states @ hints.outer[part].T + hints.outer_bias[part]
        shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(hints.told(states, lag), CERTAIN * shares.T, atol=0.5 + 1e-3)


def test_a_step_takes_in_two_frames_of_the_voice() -> None:
    silence = VOICE_VOCABULARY - 1
    found = hint_inputs(np.array([[12 * 3 + 4, 12 * 5 + 4, silence, 7, silence, silence, 9]]), None)
    assert found.shape == (3, INPUTS)
    shares = [{int(i): float(row[i]) for i in np.flatnonzero(row)} for row in found]
    assert shares == [{4: 1.0, PITCHES + 3: 0.5, PITCHES + 5: 0.5}, {7: 0.5, 12: 0.5, PITCHES: 0.5}, {12: 1.0}]


def test_a_step_knows_where_in_the_bar_and_in_four_bars_it_ends() -> None:
    count = BarCount(np.array([0.25, 5.5, 7.0]), 0.5, counted=True)
    found = beat_inputs(count, 3)
    np.testing.assert_allclose(found[0, :6], [1, 0, 0, -1, 0, 1], atol=1e-6)  # sine, cosine of 1, 2 and 4 turns
    np.testing.assert_allclose(found[1, :6], [0, -1, 0, 1, 0, 1], atol=1e-6)
    assert found[:, 6:10].argmax(axis=1).tolist() == [0, 1, 3]
    assert found[:, 10:].tolist() == [[1, 1]] * 3  # there is a beat, at 120 a minute
    assert not beat_inputs(dataclasses.replace(count, counted=False), 3)[:, 6:10].any()
    assert not beat_inputs(None, 3).any()


def test_a_transport_tells_bars_of_its_own_metre() -> None:
    count = BarCount.told(WALTZ, first=24, steps=3, counted=True)
    assert count is not None
    # At 1 s the song stands at 8.75 quarters; bars of three, which the band cuts, began at 6 and begin at 9.
    np.testing.assert_allclose(count.bars, [2 + 2.75 / 4, 2 + 2.81 / 4, 2 + 2.87 / 4])
    assert count.bars_per_second == pytest.approx(0.375)
    assert BarCount.told(None, 0, 3, counted=True) is None
    assert BarCount.told(Transport(0.0, False, 90.0), 0, 3, counted=True) is None


@pytest.mark.parametrize("cuts", [(2, 50), (1, 3, 64), (33,), (7, 8, 9, 10)])
def test_however_the_voice_is_cut_it_is_heard_alike(cuts: tuple[int, ...]) -> None:
    whole, cut = HintListener(random_hints()), HintListener(random_hints())
    whole.hear(VOICE, WALTZ)
    for part in np.split(VOICE, cuts, axis=1):
        cut.hear(part, WALTZ)
    assert cut.steps == whole.steps == 120
    np.testing.assert_array_equal(cut.told(0, 120, 3, Fraction(0)), whole.told(0, 120, 3, Fraction(0)))


def test_every_key_is_heard_as_if_it_were_c() -> None:
    listener, in_c = HintListener(random_hints()), HintListener(random_hints(), keys=(0,))
    listener.hear(transposed(VOICE, VOICE_TURNS, 5), None)
    in_c.hear(VOICE, None)
    np.testing.assert_array_equal(listener.told(0, 120, 5, Fraction(0)), in_c.told(0, 120, 0, Fraction(0)))
    assert (listener.told(0, 120, 4, Fraction(0)) != in_c.told(0, 120, 0, Fraction(0))).any()


def test_a_step_is_told_by_the_newest_that_was_heard_by_then_and_nothing_where_nothing_was() -> None:
    hints = random_hints()
    listener = HintListener(hints, keys=(0,))
    listener.hear(VOICE, None)
    states = hints.states(VOICE, None)
    ahead = listener.told(0, 100, 0, -LOOKAHEAD)  # the voice is 1.6 s, or 40 steps, early
    np.testing.assert_array_equal(ahead[:, :80], hints.told(states[40:], 0))
    assert (ahead[:, 80:] == CERTAIN + 1).all()
    late = listener.told(0, 140, 0, Fraction(3, 5))  # served by the outputs for 0.8 s
    assert (late[:, :20] == CERTAIN + 1).all()
    np.testing.assert_array_equal(late[:, 20:], hints.told(states, HINT_LAGS.index(Fraction(4, 5))))


def test_every_lag_of_a_session_is_served_by_one_no_shorter() -> None:
    assert (HINT_LAGS[0], HINT_LAGS[-1]) == (-LOOKAHEAD, LONGEST_LAG)
    for lag in HINT_LAGS:
        assert HINT_LAGS[lag_number(lag)] == lag
        assert lag_number(lag - Fraction(1, 25)) <= lag_number(lag)
    assert HINT_LAGS[lag_number(Fraction(1, 25))] == Fraction(4, 5)


def test_a_saved_network_is_the_same() -> None:
    hints = random_hints()
    again = ChordHints.from_tensors(hints.tensors())
    np.testing.assert_array_equal(again.states(VOICE, None), hints.states(VOICE, None))


def test_all_that_is_missing_or_misshapen_is_named() -> None:
    tensors = random_hints().tensors()
    del tensors["semantics.hints.outer"]
    tensors["semantics.hints.entry"] = tensors["semantics.hints.entry"][:, :3]
    with pytest.raises(ValueError, match=r"hints.entry is \[8, 3\], must be.*hints.outer is missing, must be"):
        ChordHints.from_tensors(tensors)
