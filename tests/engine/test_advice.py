"""What the server advises, at the borders between safe, tight and infeasible."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backline.engine.advice import RESERVE, STEADY, Advice, Costs, Verdict, advise
from backline.engine.errors import BadInput, NotFound
from backline.engine.ledger import MARGIN
from tests.support.playing import make_config, running
from tests.support.streams import GainStream

SPEC = replace(
    GainStream().spec,
    chunk_quantum_seconds=Fraction(1, 25),
    default_chunk_seconds=Fraction(4, 5),
    default_visibility_seconds=2.4,
    minimum_visibility_seconds=-2.0,
    lookahead_seconds=1.6,
)
COSTS = Costs(compute=0.4, round_trip=0.02, fixed=0.05)  # 0.71 s with chunks of 0.8 s
DEFAULT = Fraction(4, 5)


def needed(costs: Costs, chunk: Fraction = DEFAULT, reserve: float = 0.0) -> float:
    return (1 + reserve) * costs.latency(chunk)


def test_where_there_is_time_a_session_hears_as_much_as_the_pack_was_made_for() -> None:
    found = advise(SPEC, COSTS, latency=10.0)
    assert (found.verdict, found.chunk_seconds, found.visibility_seconds) == (Verdict.SAFE, DEFAULT, 2.4)
    assert found.latency_seconds == pytest.approx(2.4 + 0.02 + 0.05 + MARGIN * 0.4 * 0.8)


def test_who_plays_along_is_heard_at_once_a_quarter_before_it_must_be() -> None:
    found = advise(SPEC, COSTS, latency=0.0)
    assert found.verdict is Verdict.SAFE
    assert found.latency_seconds == 0.0
    assert found.visibility_seconds == pytest.approx(-needed(COSTS, reserve=RESERVE), abs=0.01)
    assert found.visibility_seconds <= -needed(COSTS, reserve=RESERVE)


@pytest.mark.parametrize(("tempo", "beats"), [(120.0, 2), (60.0, 1), (55.0, 1), (240.0, 4)])
def test_with_a_tempo_it_plays_ahead_by_whole_beats(tempo: float, beats: int) -> None:
    assert advise(SPEC, COSTS, 0.0, tempo).visibility_seconds == pytest.approx(-beats * 60 / tempo)


def test_where_no_whole_beat_fits_the_visibility_is_what_fits() -> None:
    costs = replace(COSTS, fixed=0.9)
    found = advise(SPEC, costs, 0.0, tempo=32.0)  # a beat is 1.875 s, two are too much
    assert found.verdict is Verdict.SAFE
    assert -2.0 <= found.visibility_seconds <= -needed(costs, reserve=RESERVE) + 1e-9


@pytest.mark.parametrize("epsilon", [-1e-6, 1e-6])
def test_the_border_of_safe(epsilon: float) -> None:
    """Chunks of one length only: the reserve fits just so, or not."""
    spec = replace(SPEC, chunk_quantum_seconds=DEFAULT)
    fixed = 2.0 / (1 + RESERVE) - 0.02 - MARGIN * 0.4 * 0.8
    found = advise(spec, replace(COSTS, fixed=fixed + epsilon), 0.0)
    assert found.verdict is (Verdict.SAFE if epsilon < 0 else Verdict.TIGHT)
    assert found.visibility_seconds >= -2.0


@pytest.mark.parametrize("epsilon", [-1e-6, 1e-6])
def test_the_border_of_infeasible(epsilon: float) -> None:
    spec = replace(SPEC, chunk_quantum_seconds=DEFAULT)
    fixed = 2.0 - 0.02 - MARGIN * 0.4 * 0.8
    found = advise(spec, replace(COSTS, fixed=fixed + epsilon), 0.0)
    assert found.verdict is (Verdict.TIGHT if epsilon < 0 else Verdict.INFEASIBLE)
    if epsilon > 0:
        assert "too much, though it plays 2 s ahead: use a nearer server" in found.reason


def test_a_slow_network_gets_shorter_chunks() -> None:
    costs = replace(COSTS, round_trip=1.2)
    found = advise(SPEC, costs, 0.0)
    assert found.verdict is Verdict.SAFE
    assert found.chunk_seconds < DEFAULT
    longer = found.chunk_seconds + Fraction(1, 25)
    assert needed(costs, found.chunk_seconds, RESERVE) <= 2.0 < needed(costs, longer, RESERVE) + 0.01


@pytest.mark.parametrize(
    ("compute", "verdict"),
    [(1 / MARGIN, Verdict.SAFE), (1 / MARGIN + 1e-6, Verdict.TIGHT), (STEADY, Verdict.TIGHT),
     (STEADY + 1e-6, Verdict.INFEASIBLE)],
)  # fmt: skip
def test_a_model_that_is_hardly_fast_enough_is_never_called_safe(compute: float, verdict: Verdict) -> None:
    found = advise(SPEC, replace(COSTS, compute=compute), 10.0)
    assert found.verdict is verdict
    assert ("use a faster machine or a smaller pack" in found.reason) == (verdict is Verdict.INFEASIBLE)


seconds = st.floats(0.0, 3.0)


@given(st.floats(0.0, 1.2), seconds, seconds, seconds, st.floats(0.0, 5.0), st.one_of(st.just(0.0), st.floats(20, 300)))
def test_what_is_advised_can_be_asked_for_and_keeps_its_word(
    compute: float, trip: float, fixed: float, queue: float, latency: float, tempo: float
) -> None:
    costs = Costs(compute, trip, fixed, queue)
    found: Advice = advise(SPEC, costs, latency, tempo)
    assert found.chunk_seconds % SPEC.chunk_quantum_seconds == 0
    assert 0 < found.chunk_seconds <= SPEC.maximum_chunk_seconds
    assert -2.0 <= found.visibility_seconds <= SPEC.latest_visibility(found.chunk_seconds)
    comes_to = found.visibility_seconds + costs.latency(found.chunk_seconds)
    assert found.latency_seconds == pytest.approx(max(0.0, comes_to))
    fits = comes_to <= latency + 1e-6
    if found.verdict is Verdict.INFEASIBLE:
        assert not fits or compute > STEADY
    else:
        reserve = RESERVE if found.verdict is Verdict.SAFE else 0.0
        assert comes_to + reserve * costs.latency(found.chunk_seconds) <= latency + 1e-6


def test_an_engine_advises_by_what_its_model_costs() -> None:
    stream = GainStream(cost=0.3)
    with running(gain=stream) as engine:

        def ask(**changes: float) -> Advice:
            values = {"round_trip_seconds": 0.01, "latency_seconds": 0.0, "tempo": 0.0, **changes}
            return engine.advise("gain", make_config(), block_size=480, **values)

        found = ask()
        assert found.verdict is Verdict.SAFE
        assert -0.2 < found.visibility_seconds < -MARGIN * 0.3 * 0.08
        for wrong in ({"round_trip_seconds": -1.0}, {"latency_seconds": float("nan")}, {"tempo": float("inf")}):
            with pytest.raises(BadInput, match="use "):
                ask(**wrong)
        with pytest.raises(NotFound):
            engine.advise("none", make_config(), block_size=480, round_trip_seconds=0.0, latency_seconds=0.0, tempo=0.0)
