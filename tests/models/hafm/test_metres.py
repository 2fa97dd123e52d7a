"""Any metre: the band keeps the host's beats and bar lines, and its quarters stay quarters."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backline.evaluation.accompaniment import ONSETS, Sung, figures_of
from backline.evaluation.live import default_setting, piece_take, play, song_rate
from backline.models.hafm.listening.hints import HINT_RATE, BarCount
from backline.models.hafm.listening.leading import ChordLeader
from backline.models.hafm.transport import bars_before, bars_since, transport_tokens
from backline.models.stream import Transport
from backline.music.songs import song
from backline.music.world import TRIO
from backline.packs.registry import PackRegistry


def at(numerator: int, denominator: int, bar_start: float = 0.0) -> Transport:
    """60 beats a minute, so that a quarter is a second."""
    return Transport(0.0, True, 60.0, numerator, denominator, song_position=bar_start, bar_start=bar_start)


@pytest.mark.parametrize(
    ("metre", "quarters", "expected"),
    [
        ((4, 4), [0, 1, 3.5, 4, 9], [0, 1, 3.5, 4, 9]),
        ((3, 4), [0, 1, 2, 3, 4, 6], [0, 1, 2, 4, 5, 8]),  # cut after three
        ((6, 8), [0, 0.5, 2.5, 3, 3.5], [0, 0.5, 2.5, 4, 4.5]),  # an eighth stays an eighth
        ((7, 8), [0, 3, 3.25, 3.5, 4], [0, 3, 3.25, 4, 4.5]),
        ((5, 4), [0, 3, 4, 4.5, 5, 6], [0, 3, 0, 0.5, 4, 5]),  # the fifth is the first again
        ((6, 4), [3, 4, 5, 6, 7], [3, 0, 1, 4, 5]),
        ((2, 4), [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]),  # two bars make one
        ((2, 2), [0, 3, 5], [0, 3, 5]),
    ],
)
def test_a_bar_is_cut_or_begins_again_on_the_beat(
    metre: tuple[int, int], quarters: Sequence[float], expected: Sequence[float]
) -> None:
    """`expected`: quarters of the band's bars, four to each."""
    np.testing.assert_allclose(4 * bars_since(at(*metre), np.array(quarters, np.float64)), expected, atol=1e-12)


@pytest.mark.parametrize("metre", [(2, 4), (3, 4), (4, 4), (5, 4), (6, 8), (7, 8), (12, 8)])
def test_it_does_not_matter_which_bar_the_host_tells_of(metre: tuple[int, int]) -> None:
    """A transport told at one bar and one told at a later bar place every later moment alike."""
    first = at(*metre)
    bar = 4 * metre[0] / metre[1]
    later = Transport(5 * bar, True, 60.0, *metre, song_position=5 * bar, bar_start=5 * bar)
    seconds = np.arange(5 * bar, 12 * bar, 0.37)
    np.testing.assert_allclose(
        bars_before(first) + bars_since(first, seconds), bars_before(later) + bars_since(later, seconds), atol=1e-9
    )


def test_in_four_four_nothing_has_changed() -> None:
    transport = Transport(0.3, True, 97.3, song_position=17.123, bar_start=16.0)
    seconds = (31 + np.arange(500)) / 75
    phases = np.array([transport.bar_phase_at(second) for second in seconds])
    np.testing.assert_array_equal(transport_tokens(transport, 31, 500, 75, 192), (phases * 192).astype(np.int64))


def test_chords_change_on_beats_and_bar_lines_only() -> None:
    told = np.zeros((24, 6 * HINT_RATE), np.int64)
    told[np.arange(6 * HINT_RATE) % 24, np.arange(6 * HINT_RATE)] = 40  # likeliest is another chord at every step
    chords = ChordLeader().lead(told, 0, at(7, 8))
    changes = np.flatnonzero(np.diff(chords)) + 1
    np.testing.assert_array_equal(changes / HINT_RATE, [1, 2, 3, 3.52, 4.52, 5.52])  # the first step past 3.5


def test_tempo_is_counted_in_quarters_in_any_metre() -> None:
    for metre in ((4, 4), (3, 4), (6, 8)):
        count = BarCount.told(at(*metre), 0, 3, counted=True)
        assert count is not None
        assert count.bars_per_second == pytest.approx(1 / 4)


@pytest.mark.slow
@pytest.mark.parametrize("signature", [(3, 4), (6, 8)])
def test_the_band_that_ships_plays_on_the_hosts_eighths(signature: tuple[int, int]) -> None:
    """Songs in bars of three quarters, by the composer; squeezed bars reached an onset F of .39 and .35."""
    stream = PackRegistry().load("default")
    rate = song_rate(stream.spec)
    songs = [song(77_000 + number, replace(TRIO, beats_per_bar=(3,)), rate) for number in range(2)]
    takes = []
    for number, one in enumerate(songs):
        take = piece_take(one.piece, one.vocal, seed=number)
        (transport,) = take.transports
        told = replace(transport, numerator=signature[0], denominator=signature[1])
        takes.append(replace(take, transports=(told,)))
    sounds = play(stream, takes, rate, default_setting(stream.spec))
    onsets = [
        figures_of(sound, Sung(one.vocal, one.accompaniment, rate, one))[ONSETS]
        for sound, one in zip(sounds, songs, strict=True)
    ]
    assert np.mean(onsets) >= 0.8


@settings(max_examples=20, deadline=None)
@given(
    start=st.integers(0, 12),
    length=st.integers(1, 9),
    metre=st.sampled_from([(4, 4), (3, 4), (2, 4), (6, 8)]),
    into=st.floats(0.0, 1.0),
)
def test_a_loop_is_gone_through_again_and_again(start: int, length: int, metre: tuple[int, int], into: float) -> None:
    """At every moment the phase is that of the place where the song is, and bars are only counted on."""
    loop = (float(start), float(start + length))
    straight = Transport(1.0, True, 60.0, *metre, song_position=start + into * length * 0.999, bar_start=0.0)
    looping = replace(straight, loop=loop)
    seconds = 1.0 + np.arange(0, 25, 0.25)
    bars = bars_since(looping, seconds)
    assert (np.diff(bars) >= -1e-9).all()
    for second, bar in zip(seconds, bars, strict=True):
        place = straight.song_position + second - 1.0
        while place >= loop[1] - 1e-9:
            place -= length
        (expected,) = bars_since(replace(straight, song_position=place, at_seconds=float(second)), np.array([second]))
        apart = (bar - expected) % 1.0
        assert min(apart, 1.0 - apart) < 1e-6
        if (place - start) % 1 > 1e-6:
            assert looping.song_position_at(float(second)) == pytest.approx(place)


def test_a_song_beyond_the_loop_goes_on() -> None:
    told = Transport(0.0, True, 60.0, song_position=9.0, loop=(0.0, 8.0))
    assert told.song_position_at(3.0) == 12.0
    np.testing.assert_allclose(bars_since(told, np.array([3.0])), [3.0])


def test_what_a_transport_has_become_means_the_same() -> None:
    told = Transport(0.0, True, 60.0, 3, 4, song_position=7.5, bar_start=6.0, loop=(6.0, 12.0))
    moved = told.moved_to(7.0, zero=7.0)
    assert (moved.at_seconds, moved.song_position, moved.bar_start) == (0.0, 8.5, 6.0)
    for later in (0.25, 3.0, 3.75, 11.0):
        assert moved.song_position_at(later) == told.song_position_at(7.0 + later)
        assert moved.bar_phase_at(later) == pytest.approx(told.bar_phase_at(7.0 + later))
