"""Which metres a pack knows is told: by the pack, and by the session that hears of another one."""

from dataclasses import replace

import pytest

from backline.models.stream import StreamSpec
from backline.packs.registry import PackRegistry
from tests.support.playing import open_session, running, settle
from tests.support.streams import GainStream

FOUR, THREE = (4, 4), (3, 4)


def spec(*metres: tuple[int, int]) -> StreamSpec:
    return StreamSpec(None, None, None, (), metres=metres)


@pytest.mark.parametrize("metre", [(4, 4), (2, 4), (1, 4), (8, 4), (2, 2), (8, 8), (4, 8)])
def test_bars_that_make_learnt_bars_or_are_made_of_them_are_known(metre: tuple[int, int]) -> None:
    assert spec(FOUR).knows_metre(*metre)


@pytest.mark.parametrize("metre", [(3, 4), (6, 8), (5, 4), (7, 8), (12, 8)])
def test_other_bars_are_not(metre: tuple[int, int]) -> None:
    assert not spec(FOUR).knows_metre(*metre)
    assert spec().knows_metre(*metre), "who plays by no bar has none to learn"


def test_six_eighths_are_as_long_as_three_quarters() -> None:
    assert spec(FOUR, THREE).knows_metre(6, 8)


def test_a_foreign_metre_is_warned_of_once_while_it_lasts() -> None:
    stream = GainStream()
    stream.spec = replace(stream.spec, metres=(FOUR,))
    with running(gain=stream) as engine:
        session, heard = open_session(engine, "gain")
        for position, (numerator, denominator) in enumerate([FOUR, (6, 8), (6, 8), FOUR, (5, 4)]):
            session.set_transport(
                position, playing=True, tempo=100.0 + position, numerator=numerator, denominator=denominator
            )
        settle(engine)
        told = heard.warnings("foreign_metre")
        assert [warning.count for warning in told] == [1, 2]
        assert told[0].position == 1
        assert "'gain' has learnt 4/4: in 6/8 it keeps your beats" in told[0].message
        assert "in 5/4" in told[1].message


def test_the_band_that_ships_says_what_it_knows() -> None:
    band = PackRegistry([]).entry("default").spec
    assert band is not None
    assert band.metre_names == ["4/4"]
