"""Who may play, and what those are told who may not."""

from fractions import Fraction
from typing import Any

import pytest

from backline.engine.admission import Cost, admit
from backline.engine.engine import Engine
from backline.engine.errors import BadInput, NotFound, Refused
from backline.engine.events import LedgerChanged
from backline.models.stream import ChannelLayout
from tests.support.playing import Listener, make_config, open_session, running
from tests.support.streams import GainStream


def test_a_full_engine_refuses_with_the_numbers_and_the_remedy() -> None:
    admit("a", 0.4, 0.44)
    with pytest.raises(
        Refused, match=r"'a' needs 0.40 of a core and open sessions hold 0.50 of the 0.85.*render offline"
    ):
        admit("a", 0.4, 0.5)


def test_measurement_takes_over_from_the_warm_up() -> None:
    cost = Cost(0.5)
    for _ in range(7):
        cost.observe(0.08, 0.8)
    assert cost.value == 0.5
    cost.observe(0.08, 0.8)
    assert cost.value == pytest.approx(0.1)


def test_live_sessions_claim_load_and_offline_ones_take_what_is_left() -> None:
    with running(big=GainStream(cost=0.4)) as engine:
        open_session(engine, "big", offline=False)
        second, listener = open_session(engine, "big", offline=False)
        assert engine.load() == pytest.approx(0.8)
        with pytest.raises(Refused, match="close a session"):
            open_session(engine, "big", offline=False)
        open_session(engine, "big", offline=True)
        second.abort()
        assert second.closed.wait(10)
        open_session(engine, "big", offline=False)
        assert engine.stats().sessions_refused == 1
        assert not listener.events or isinstance(listener.events[-1], LedgerChanged)


def test_no_free_row_is_refused() -> None:
    with running(small=GainStream(capacity=1)) as engine:
        session, _ = open_session(engine, "small")
        with pytest.raises(Refused, match="all 1 rows of 'small' are taken"):
            open_session(engine, "small")
        session.abort()
        assert session.closed.wait(10)
        open_session(engine, "small")


def test_a_session_learns_what_a_newcomer_may_cost_it() -> None:
    with running(heavy=GainStream(cost=0.4)) as engine:
        session, heard = open_session(engine, "heavy", offline=False)
        before = session.ledger.latency_samples
        open_session(engine, "heavy", offline=False)
        heard.wait(lambda: bool(heard.events))
        change = heard.events[0]
        assert isinstance(change, LedgerChanged)
        assert change.ledger == session.ledger
        assert session.ledger.latency_samples - before == pytest.approx(0.4 * 0.08 * 48_000, abs=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample_rate": 7_999}, "sample rate is 7999 Hz: use 8000 to 192000"),
        ({"sample_rate": 0}, "use 8000"),
        ({"sample_rate": 192_001}, "use 8000"),
        ({"channels": 0}, "use 1 to 64"),
        ({"channels": 65}, "use 1 to 64"),
        ({"chunk_seconds": Fraction(1, 30)}, "multiple of 0.04 s up to 3.2 s"),
        ({"chunk_seconds": Fraction(4)}, "multiple of 0.04 s up to 3.2 s"),
        ({"chunk_seconds": Fraction(0)}, "multiple of 0.04 s"),
        ({"visibility_seconds": 0.09}, "use -2 to 0.08 s"),
        ({"visibility_seconds": -2.5}, "use -2 to 0.08 s"),
        ({"visibility_seconds": float("nan")}, "use -2 to 0.08 s"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**64}, "use 0 to 2"),
        ({"parameters": {"gain": 4.5}}, "use 0 to 4"),
        ({"parameters": {"gain": float("nan")}}, "use 0 to 4"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with running(gain=GainStream()) as engine, pytest.raises(BadInput, match=message):
        open_session(engine, "gain", **changes)


@pytest.mark.parametrize(("block", "jitter"), [(0, 0.0), (65_537, 0.0), (64, -1.0), (64, float("nan"))])
def test_impossible_blocks_and_buffers_are_refused(block: int, jitter: float) -> None:
    with running(gain=GainStream()) as engine, pytest.raises(BadInput, match=r"use \d"):
        engine.open_session("gain", make_config(), "test", Listener(), block_size=block, jitter_buffer_seconds=jitter)


def test_channels_that_do_not_fit_the_model_are_refused_and_its_row_stays_free() -> None:
    stream = GainStream(channels=4)
    with running(gain=stream) as engine:
        with pytest.raises(BadInput, match="the model takes 4 channels and the session has 3"):
            open_session(engine, "gain", channels=3)
        with pytest.raises(BadInput, match=r"layout 5\.1 has 6 channels and the session has 4"):
            open_session(engine, "gain", channels=4, channel_layout=ChannelLayout.SURROUND_5_1)
        assert not stream.rows


def test_unknown_names_are_not_found() -> None:
    with running(gain=GainStream()) as engine:
        with pytest.raises(NotFound, match=r"'other' is not resident: load it first \(resident: gain\)"):
            open_session(engine, "other")
        with pytest.raises(NotFound, match="no parameter 'speed' in 'gain': use gain, fixed"):
            open_session(engine, "gain", parameters={"speed": 1.0})
        with pytest.raises(NotFound, match="no session 'x'"):
            engine.close_session("x")
        with pytest.raises(NotFound):
            engine.remove_stream("other")
        with pytest.raises(BadInput, match="resident already"):
            engine.add_stream("gain", GainStream())


def test_a_model_with_sessions_is_removed_only_if_asked_to() -> None:
    with running(gain=GainStream()) as engine:
        _, heard = open_session(engine, "gain")
        with pytest.raises(BadInput, match="1 sessions are open on 'gain'"):
            engine.remove_stream("gain")
        assert engine.session_count("gain") == 1
        engine.remove_stream("gain", close_sessions=True)
        assert isinstance(heard.failed().error, NotFound)
        assert not engine.streams()


def test_a_stopped_engine_says_so() -> None:
    engine = Engine()
    engine.shutdown(0.0)
    with pytest.raises(Refused, match="stopped"):
        engine.add_stream("gain", GainStream())
