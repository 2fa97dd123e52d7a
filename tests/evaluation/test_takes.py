"""Takes of one song that begin elsewhere: they are laid under each other in the song, and what differs is found."""

from fractions import Fraction

import numpy as np
import pytest

from backline.corpus.songs import Composer
from backline.evaluation.live import Setting
from backline.evaluation.plan import Plan
from backline.evaluation.takes import (
    CHORDS,
    CHROMA,
    FROM_THE_BEGINNING,
    ONSETS,
    STARTS,
    bar_seconds,
    compare,
    evaluate_takes,
    in_song,
    take_from,
)
from backline.models.passthrough import PassthroughConfig, PassthroughStream
from backline.music import fluidsynth
from backline.music.seeds import TEST_SEED
from backline.music.songs import Song, song
from backline.music.world import NARROW

RATE = 8_000
pytestmark = pytest.mark.skipif(fluidsynth.missing() is not None, reason=str(fluidsynth.missing()))


@pytest.fixture(scope="module")
def piece() -> Song:
    return song(TEST_SEED, NARROW, RATE)


@pytest.mark.parametrize("name", STARTS)
def test_a_take_begins_where_it_says_and_lies_where_it_belongs(piece: Song, name: str) -> None:
    start = STARTS[name](piece)
    take = take_from(piece, start, seed=3)
    (told,) = take.transports
    assert told.song_position == pytest.approx(start * piece.piece.tempo / 60)
    assert told.bar_start <= told.song_position + 1e-9 < told.bar_start + told.quarters_per_bar
    laid = in_song(take.voice, piece, start)
    assert len(laid) == len(piece.vocal)
    after = round(max(0.0, start) * RATE)
    np.testing.assert_array_equal(laid[after:], piece.vocal[after:])


def test_a_band_without_a_past_plays_the_same_wherever_it_begins() -> None:
    rows = evaluate_takes(
        PassthroughStream(PassthroughConfig()),
        Plan(Composer(NARROW, RATE), pieces=1),
        Setting(Fraction(1, 2), 0.5),
        lambda doing, share: None,
    )
    assert set(rows) == {FROM_THE_BEGINNING, "another seed", *STARTS}
    for row in rows.values():
        assert row[CHORDS].mean == 1
        assert row[ONSETS].mean > 0.99
        assert row[CHROMA].mean > 0.99


def test_other_chords_and_other_onsets_are_found(piece: Song) -> None:
    band = piece.accompaniment
    same = compare(band, band, piece, after=bar_seconds(piece))
    late = compare(np.roll(band, round(1.5 * bar_seconds(piece) * RATE)), band, piece, after=bar_seconds(piece))
    assert same[CHORDS] == 1
    assert late[CHORDS] < 0.7
    assert late[CHROMA] < 0.9 * same[CHROMA]
