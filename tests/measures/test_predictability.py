"""Tokens of known entropy cost the small model what they must, and no token is seen before it is predicted."""

import math
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


def test_codebooks_of_different_sizes_by_hand() -> None:
    """Two codebooks of 4 and 16 entries at 10 Hz: what is uniform costs 2 and 4 bits, 3 on the mean."""
    found = Predictability(bits_per_token=(1.0, 3.5), entropies=(1.5, 3.0), sizes=(4, 16), frame_rate=10.0)
    assert found.bpt == 2.25
    assert found.index_bits == 3.0
    assert found.cnbpt == 0.75
    assert found.enbpt == 1.0
    assert found.tokens_per_second == 20.0
    assert found.bits_per_second == 60.0
    assert found.cnbps == 15.0


def test_equal_codebooks_cost_what_one_size_says() -> None:
    found = Predictability(bits_per_token=(3.0, 5.0), entropies=(8.0, 8.0), sizes=(1024, 1024), frame_rate=75.0)
    assert found.cnbpt == pytest.approx(4 / 10)


@pytest.mark.parametrize(
    ("row", "entropy_share"),
    # Tables 5 and 11: entries, BPT, cnBPT, enBPT; the entropy that the paper gives as a share.
    [
        ((1024, 6.315, 0.632, 0.773), 0.8165),
        ((1024, 6.303, 0.630, 0.735), 0.8579),
        ((16384, 6.793, 0.485, 0.497), 0.9767),
        ((16384, 7.242, 0.517, 0.536), 0.9660),
        ((32768, 6.911, 0.461, 0.501), 0.9188),
        ((32768, 7.586, 0.506, 0.533), 0.9494),
        ((32768, 6.962, 0.464, 0.489), 0.9494),
        ((1024, 5.928, 0.593, 0.691), 0.8579),
    ],
)
def test_the_papers_own_rows(row: tuple[int, float, float, float], entropy_share: float) -> None:
    entries, bpt, cnbpt, enbpt = row
    entropy = entropy_share * math.log2(entries)
    found = Predictability((bpt,), (entropy,), (entries,), 25.0)
    assert found.cnbpt == pytest.approx(cnbpt, abs=1e-3)
    assert found.enbpt == pytest.approx(enbpt, abs=1e-3)


@pytest.mark.parametrize(
    ("rate", "books", "entries", "cnbpt", "per_second", "kbits"),
    # Table 6, of one track: frames a second, codebooks, entries, cnBPT, cnBPS, kbit/s.
    [(75, 8, 1024, 0.76, 456.0, 6.0), (75, 8, 1024, 0.71, 426.0, 6.0), (40, 1, 4096, 0.61, 24.4, 0.48)],
)
def test_the_papers_rates(rate: float, books: int, entries: int, cnbpt: float, per_second: float, kbits: float) -> None:
    bits = math.log2(entries)
    found = Predictability((cnbpt * bits,) * books, (bits,) * books, (entries,) * books, rate)
    assert found.cnbps == pytest.approx(per_second)
    assert found.bits_per_second / 1000 == pytest.approx(kbits)
