"""Who may play, and what those are told who may not."""

import threading
import time
from dataclasses import replace
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
import pytest

from backline.engine.admission import Claim, Cost, Machine, admit
from backline.engine.engine import Engine
from backline.engine.errors import BadInput, NotFound, Refused
from backline.engine.events import LedgerChanged
from backline.engine.ledger import MARGIN
from backline.engine.session import Session
from backline.models.stream import ChannelLayout, SessionConfig, Task
from tests.support.playing import Listener, make_config, open_session, running, settle, write_blocks
from tests.support.streams import GainStream


def live(pack: str = "a", chunk: float = 0.8, load: float = 0.4, messages: float = 0.0) -> Claim:
    return Claim(pack, chunk, load * chunk, offline=False, messages=messages)


def offline(pack: str = "a", chunk: float = 0.8, load: float = 0.4) -> Claim:
    return Claim(pack, chunk, load * chunk, offline=True)


ONE_CORE, TWO_CORES = Machine(cores=1), Machine(cores=2)


@pytest.mark.parametrize(
    ("newcomer", "others", "machine"),
    [
        (live(load=4.29), [], ONE_CORE),  # whoever is alone, however slow: what it costs is measured then
        (live(), [live()], ONE_CORE),
        (live("b", load=0.8), [live("a", load=0.8)], TWO_CORES),  # each on a core of its own
        (offline(load=9.0), [offline(), offline("b")], ONE_CORE),  # nobody has a deadline
        (offline(load=0.2), [live()], TWO_CORES),
        (live("b", load=0.1), [live("a", load=1.2)], TWO_CORES),  # that one was too slow before, and is none the slower
        (live(messages=200), [live(load=0.1, messages=200)] * 2, ONE_CORE),
    ],
)
def test_who_breaks_no_deadline_may_play(newcomer: Claim, others: list[Claim], machine: Machine) -> None:
    admit(newcomer, others, machine)


@pytest.mark.parametrize(
    ("newcomer", "others", "machine", "reason"),
    [
        (live(load=0.5), [live()], ONE_CORE, r"2 live sessions of 'a' need 0.90 s for every second.*and 0.85 keep"),
        # A long chunk keeps a short one waiting, though there is time enough on average.
        (live(chunk=0.04, load=0.01), [live(chunk=3.2, load=0.2)], ONE_CORE, r"chunks of 0.04 s and would wait 0.64 s"),
        (live(chunk=3.2, load=0.2), [live(chunk=0.04, load=0.01)], ONE_CORE, r"chunks of 0.04 s and would wait 0.64 s"),
        (
            offline(chunk=3.2, load=0.3),
            [live()],
            TWO_CORES,
            r"wait 1.28 s for one at worst, of which offline work .*0.96",
        ),
        (live(), [offline(chunk=3.2, load=0.3)], TWO_CORES, r"of which offline work takes 0.96 s"),
        # Another model takes the time where there is one core for both.
        (
            live("b", load=0.5),
            [live("a", load=0.6)],
            ONE_CORE,
            r"'a' need 1.20 s for every second that they play \(2.0 times as long",
        ),
        (offline("b"), [live("a", load=0.6)], ONE_CORE, r"sessions of 'a' need 1.20 s"),
        (live(messages=3_000), [live(load=0.1, messages=3_000)], ONE_CORE, r"0.90 of a core busy with 6000 messages"),
        # What Python does for short chunks adds to that.
        (
            replace(live(chunk=0.01, load=0.1), delivery_seconds=0.5e-3),
            [replace(live(chunk=0.01, load=0.01), messages=200, delivery_seconds=0.5e-3)] * 17,
            TWO_CORES,
            r"18 live sessions would keep 1.41 of a core busy with 3400 messages and 1800 chunks",
        ),
    ],
)
def test_who_would_break_a_deadline_is_told_which_and_why(
    newcomer: Claim, others: list[Claim], machine: Machine, reason: str
) -> None:
    with pytest.raises(Refused, match=reason):
        admit(newcomer, others, machine)


def test_measurement_takes_over_from_the_warm_up() -> None:
    cost = Cost(0.5)
    for _ in range(7):
        cost.observe(0.08, 0.8)
    assert cost.value == 0.5
    cost.observe(0.08, 0.8)
    assert cost.value == pytest.approx(0.1)


def test_a_pack_that_seemed_too_slow_is_measured_by_its_first_session_and_then_admits_more() -> None:
    audio = np.zeros((2, 10 * 3_840), np.float32)
    with running(cores=1, busy=GainStream(rate=None, channels=None, cost=1.18)) as engine:
        first, _ = open_session(engine, "busy", offline=False)
        with pytest.raises(Refused, match=r"need 2\.36 s"):
            open_session(engine, "busy", offline=False)
        write_blocks(first, audio, 4_096)
        settle(engine)
        open_session(engine, "busy", offline=False)


class TwoTasks(GainStream):
    """One quick task, and one that is slow."""

    COSTS: ClassVar = {"quick": 0.1, "slow": 0.5}

    def __init__(self) -> None:
        super().__init__(rate=None, channels=None)
        self.spec = replace(self.spec, tasks=tuple(Task(name, ports=("out0",), parameters=("gain",)) for name in self.COSTS))

    def warm_up(self, config: SessionConfig) -> float:
        return self.COSTS[config.task]


def test_what_a_session_costs_is_what_its_task_costs() -> None:
    def computes(session: Session) -> float:
        return sum(item.seconds for item in session.ledger.items if item.name == "compute")

    audio = np.zeros((2, 10 * 3_840), np.float32)
    with running(cores=4, band=TwoTasks()) as engine:
        quick, slow, first = (
            open_session(engine, "band", offline=False, task=task)[0] for task in ("quick", "slow", "")
        )
        assert computes(slow) == pytest.approx(5 * computes(quick))
        assert computes(first) == computes(quick)
        assert engine.load() == pytest.approx(0.7)
        write_blocks(quick, audio, 4_096)  # measured, and no news of the other task
        settle(engine)
        assert engine.resident("band").cost(slow.config).value == 0.5
        assert engine.resident("band").cost(quick.config).value < 0.1


def test_what_the_service_takes_for_a_message_limits_who_may_play() -> None:
    with running(gain=GainStream()) as engine:
        engine.observe_handling(2e-3)
        open_session(engine, "gain", offline=False, block_size=128)
        with pytest.raises(Refused, match="with 775 messages"):
            open_session(engine, "gain", offline=False, block_size=128)
        open_session(engine, "gain", offline=True, block_size=128)


def test_live_sessions_claim_load_and_offline_ones_take_what_is_left() -> None:
    with running(cores=2, big=GainStream(cost=0.25)) as engine:
        open_session(engine, "big", offline=False)
        second, _ = open_session(engine, "big", offline=False)
        assert engine.load() == pytest.approx(0.5)
        third, _ = open_session(engine, "big", offline=True)
        with pytest.raises(Refused, match=r"of which offline work takes 0.02 s.*close a session"):
            open_session(engine, "big", offline=False)
        third.abort()
        assert third.closed.wait(10)
        open_session(engine, "big", offline=False)
        with pytest.raises(Refused, match="offline work"):
            open_session(engine, "big", offline=True)
        second.abort()
        assert second.closed.wait(10)
        open_session(engine, "big", offline=True)
        assert engine.stats().sessions_refused == 2


def test_sessions_that_open_at_the_same_time_see_each_others_claims() -> None:
    with running(cores=2, big=GainStream(cost=0.4, capacity=8)) as engine:
        resident = engine.resident("big")
        held = threading.Event()
        resident.post(lambda: held.wait(20) and None)
        outcomes: list[object] = []

        def open_one() -> None:
            try:
                outcomes.append(open_session(engine, "big", offline=False))
            except Refused as error:
                outcomes.append(error)

        threads = [threading.Thread(target=open_one) for _ in range(6)]
        for thread in threads:
            thread.start()
        while len(resident._tasks) + len(outcomes) < 6:
            time.sleep(0.001)
        held.set()
        for thread in threads:
            thread.join(20)
        assert sum(isinstance(outcome, Refused) for outcome in outcomes) == 4
        assert len(engine.list_sessions()) == 2
        assert not engine._claimed


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
        assert session.ledger.latency_samples - before == pytest.approx(MARGIN * 0.4 * 0.08 * 48_000, abs=1)


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
        assert len(engine.resident("gain").open_sessions()) == 1
        engine.remove_stream("gain", close_sessions=True)
        assert isinstance(heard.failed().error, NotFound)
        assert not engine.residents


def test_a_stopped_engine_says_so() -> None:
    engine = Engine()
    engine.shutdown(0.0)
    with pytest.raises(Refused, match="shutting down"):
        engine.add_stream("gain", GainStream())
