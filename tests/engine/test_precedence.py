"""An urgent chunk of one model keeps work that has time on another waiting, and not for ever."""

import subprocess
import sys
import threading
from fractions import Fraction

import numpy as np

from backline.engine.precedence import GIVE_WAY_SECONDS, TURN_SECONDS, Precedence
from backline.engine.timeline import sent_ahead
from backline.models.stream import Audio, ChunkInput
from tests.support.clock import TurnedClock
from tests.support.playing import open_session, running, settle, write_blocks
from tests.support.streams import GainStream
from tests.support.wire import eventually

CHUNK = 3_840


def noise(count: int) -> Audio:
    return np.random.default_rng(9).uniform(-0.5, 0.5, (2, count)).astype(np.float32)


def test_work_that_has_time_is_woken_once_when_the_last_urgent_chunk_is_done() -> None:
    precedence, woken = Precedence(), []
    with precedence.urgent():
        with precedence.urgent():
            assert not precedence.free("render", lambda: woken.append("render"))
        assert not precedence.free("flood", lambda: woken.append("flood"))
        assert woken == []
    assert sorted(woken) == ["flood", "render"]
    assert precedence.free("render", lambda: woken.append("again"))
    with precedence.urgent():
        pass
    assert sorted(woken) == ["flood", "render"]


def test_urgent_chunks_never_wait_for_each_other() -> None:
    slow, quick = (GainStream(rate=None, channels=None) for _ in range(2))
    entered, let_go = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        entered.set()
        assert let_go.wait(20)

    slow.before_step = hold
    with running(slow=slow, quick=quick) as engine:
        held, _ = open_session(engine, "slow", offline=False)
        other, heard = open_session(engine, "quick", offline=False)
        held.write(0, noise(CHUNK))
        assert entered.wait(20)
        other.write(0, noise(CHUNK))
        heard.wait(lambda: bool(heard.blocks()))
        assert held.totals.chunks == 0
        let_go.set()


def test_a_flood_on_one_model_leaves_room_for_the_live_chunk_of_another() -> None:
    """Who has sent ahead of time, or renders, steps while the chunk is computed only after waiting for it each time."""
    live_stream, busy_stream = (GainStream(rate=None, channels=None) for _ in range(2))
    entered, let_go = threading.Event(), threading.Event()
    clock = TurnedClock()
    inside: list[float] = []  # when a step of the busy model began while the live one computed

    def hold(_: object) -> None:
        entered.set()
        assert let_go.wait(20)

    def note(_: object) -> None:
        if entered.is_set() and not let_go.is_set():
            inside.append(clock())

    live_stream.before_step, busy_stream.before_step = hold, note
    with running(live=live_stream, busy=busy_stream, clock=clock) as engine:
        live, _ = open_session(engine, "live", offline=False)
        chunk, long = Fraction(2, 5), 19_200  # many times as long as the waits, in which nobody's time comes
        flood, _ = open_session(engine, "busy", long, offline=False, chunk_seconds=chunk, visibility_seconds=0.4)
        render, _ = open_session(engine, "busy", long, offline=True, chunk_seconds=chunk, visibility_seconds=0.4)
        busy = engine.resident("busy")
        live.write(0, noise(CHUNK))
        assert entered.wait(20)
        write_blocks(flood, noise(4 * long), long)
        write_blocks(render, noise(2 * long), long)
        for steps in range(2, 6):  # after two that a client may have on its way: the flood's first are urgent
            assert eventually(lambda n=steps: len(inside) == n and busy._gives_way_since is not None)  # type: ignore[misc]
            clock.turn(GIVE_WAY_SECONDS)
        assert eventually(lambda: len(inside) == 6)
        let_go.set()
        settle(engine)
    np.testing.assert_allclose(np.diff(inside), [0.0, *[GIVE_WAY_SECONDS] * 4], atol=1e-9)
    assert flood.totals.chunks == 4
    assert render.totals.chunks == 2


def test_who_sends_ahead_of_time_waits_for_those_who_are_due_on_their_own_model_too() -> None:
    stream, clock = GainStream(rate=None, channels=None, capacity=8), TurnedClock()
    entered, let_go = threading.Event(), threading.Event()

    def hold(_: list[ChunkInput]) -> None:
        entered.set()
        assert let_go.wait(20)

    stream.before_step = hold
    with running(gain=stream, clock=clock) as engine:
        flood, _ = open_session(engine, "gain", offline=False)
        paced = [open_session(engine, "gain", offline=False)[0] for _ in range(2)]
        write_blocks(flood, noise(2 * CHUNK), CHUNK)
        assert entered.wait(20)
        write_blocks(flood, noise(2 * CHUNK), CHUNK, start=2 * CHUNK)
        for session in paced:
            session.write(0, noise(CHUNK))
        let_go.set()
        settle(engine)
        calls = [sorted(given.row for given in call) for call in stream.calls]
        everyone = sorted([flood.row, *(session.row for session in paced)])
        assert calls == [[flood.row], everyone, [flood.row], [flood.row]]


def test_a_card_that_runs_a_little_fast_is_not_taken_for_somebody_ahead_of_time() -> None:
    hour, chunk = 3_600.0, 0.08
    assert not sent_ahead(hour * (1 + 3e-4), hour, chunk)  # a card 300 ppm fast has sent a second more
    assert sent_ahead(hour + 10.0, hour, chunk)
    assert not sent_ahead(2 * chunk, chunk, chunk)  # a driver that brings two buffers at once
    assert sent_ahead(3 * chunk, chunk, chunk)


def test_a_server_takes_short_turns() -> None:
    asked = (
        "import sys; from backline.engine.precedence import take_short_turns as t; t(); print(sys.getswitchinterval())"
    )
    shown = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout
    assert abs(float(shown) - TURN_SECONDS) < 1e-6
