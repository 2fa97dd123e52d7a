"""Tokens of known entropy cost the small model what they must, and no token is seen before it is predicted."""

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from backline.measures.predictability import Predictability, measure_predictability

ENTRIES = 16
RATE = Fraction(20)  # frames a second: windows of 40
FRAMES = 400  # of a song


def measure(songs: list[Tensor], steps: int) -> Predictability:
    return measure_predictability(songs[:-8], songs[-8:], ENTRIES, RATE, steps)


def uniform(books: int, songs: int = 48) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(ENTRIES, (books, FRAMES), generator=generator) for _ in range(songs)]


def test_nothing_predicts_independent_uniform_tokens() -> None:
    found = measure(uniform(books=2), steps=30)
    assert found.cnbpt == pytest.approx(1, abs=0.01)
    assert found.enbpt == pytest.approx(1, abs=0.01)
    assert found.cnbps == pytest.approx(2 * 20, rel=0.01)


def test_tokens_that_never_change_cost_nothing() -> None:
    found = measure([torch.full((2, FRAMES), 5)] * 16, steps=5)
    assert found.cnbpt == pytest.approx(0, abs=0.01)
    assert found.entropies == (0, 0)


def test_a_markov_chain_costs_its_entropy_rate() -> None:
    # Three times in four the next token is one up, else two up: 0.8113 bits a token, but 4 for the first of a window.
    steps = [1 + (song.float() / ENTRIES >= 0.75).long() for song in uniform(books=1)]
    found = measure([step.cumsum(1) % ENTRIES for step in steps], steps=70)
    assert found.bpt == pytest.approx((4 + 39 * 0.8113) / 40, abs=0.04)
    assert found.enbpt == pytest.approx(found.bpt / 4, abs=0.01)


def test_a_codebook_is_predicted_from_those_before_it_in_its_frame_and_not_from_those_after() -> None:
    found = measure([song.expand(2, -1) for song in uniform(books=1)], steps=70)
    assert found.bits_per_token[0] == pytest.approx(4, abs=0.05)
    assert found.bits_per_token[1] == pytest.approx(0, abs=0.1)


def test_the_measure_is_the_same_each_time() -> None:
    songs = uniform(books=1, songs=10)
    assert measure(songs, steps=3) == measure(songs, steps=3)


def test_songs_shorter_than_a_window_are_refused() -> None:
    short = [torch.zeros((1, 39), dtype=torch.int64)] * 2
    with pytest.raises(ValueError, match="0 songs to learn from and 0 windows"):
        measure_predictability(short, short, ENTRIES, RATE)
