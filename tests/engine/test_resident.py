"""Who is served when; what fails alone; what is late; and how it all ends."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from backline.engine.engine import CLOSING_SECONDS, Engine
from backline.engine.errors import ChunkFailed, NotFound, Refused
from backline.engine.resident import TASKS_SECONDS
from backline.engine.session import Session
from backline.models.stream import Audio, ChunkInput, ChunkOutput, RowFailed
from tests.support.clock import TurnedClock
from tests.support.playing import fill, open_session, play, running, settle, write_blocks
from tests.support.streams import GainStream
from tests.support.wire import eventually

CHUNK = 3_840


def noise(count: int) -> Audio:
    return np.random.default_rng(9).uniform(-0.5, 0.5, (2, count)).astype(np.float32)


def plain(capacity: int = 8) -> GainStream:
    return GainStream(rate=None, channels=None, capacity=capacity)


class Gate:
    """Holds the engine thread inside a model's call until it is opened."""

    def __init__(self, stream: GainStream) -> None:
        self.entered, self._open = threading.Event(), threading.Event()
        stream.before_step = self._wait

    def _wait(self, inputs: Sequence[ChunkInput]) -> None:
        self.entered.set()
        assert self._open.wait(20)

    def open(self) -> None:
        self._open.set()


def test_live_sessions_are_served_before_offline_ones() -> None:
    stream = plain()
    with running(gain=stream) as engine:
        gate = Gate(stream)
        held, _ = open_session(engine, "gain")
        offline, _ = open_session(engine, "gain", offline=True)
        live, _ = open_session(engine, "gain", offline=False)
        held.write(0, noise(CHUNK))
        gate.entered.wait(20)
        write_blocks(offline, noise(3 * CHUNK), CHUNK)
        write_blocks(live, noise(2 * CHUNK), CHUNK)
        gate.open()
        settle(engine)
        calls = [[given.row for given in call] for call in stream.calls]
        assert calls == [[held.row]] + [[live.row]] * 2 + [[offline.row]] * 3


def test_a_model_does_not_wait_for_the_calls_of_another() -> None:
    slow, quick = plain(), plain()
    with running(slow=slow, quick=quick) as engine:
        gate = Gate(slow)
        held, _ = open_session(engine, "slow")
        held.write(0, noise(CHUNK))
        gate.entered.wait(20)
        audio = noise(3 * CHUNK)
        assert np.array_equal(play(engine, "quick", audio, CHUNK).audio(), audio)
        assert held.totals.chunks == 0
        gate.open()


@pytest.mark.parametrize("way", ["whole call", "its row"])
def test_what_goes_wrong_with_one_row_ends_that_session_and_no_other(way: str) -> None:
    stream = plain()
    with running(gain=stream) as engine:
        gate = Gate(stream)
        victim, victim_heard = open_session(engine, "gain")
        bystander, bystander_heard = open_session(engine, "gain")
        audio = noise(3 * CHUNK)
        bystander.write(0, audio[:, :CHUNK])
        gate.entered.wait(20)

        def fail(inputs: Sequence[ChunkInput]) -> None:
            if way == "whole call" and victim.row in [given.row for given in inputs]:
                raise ZeroDivisionError("a weight is zero")

        play_rows, asked = stream.step, []

        def step(inputs: Sequence[ChunkInput]) -> Sequence[ChunkOutput | RowFailed]:
            asked.append([given.row for given in inputs])
            answers = play_rows(inputs)
            wrong = RowFailed(victim.row, ZeroDivisionError("a weight is zero"))
            return [wrong if answer.row == victim.row else answer for answer in answers]

        stream.before_step, stream.step = fail, step  # type: ignore[method-assign, assignment]
        victim.write(0, audio[:, :CHUNK])
        write_blocks(bystander, audio[:, CHUNK:], CHUNK, start=CHUNK)
        bystander.close_input()
        gate.open()
        error = victim_heard.failed().error
        assert isinstance(error, ChunkFailed)
        assert "a weight is zero" in str(error)
        assert "open a new session" in str(error)
        assert "unload" not in str(error)
        bystander_heard.finished()
        assert np.array_equal(bystander_heard.audio(), audio)
        assert {bystander.row, victim.row} in [set(rows) for rows in asked]  # they shared the call
        assert not stream.rows


def test_a_model_that_always_fails_ends_each_of_its_sessions_and_none_of_another_model() -> None:
    broken, sound = plain(), plain()
    with running(broken=broken, sound=sound) as engine:
        players = [open_session(engine, "broken") for _ in range(3)]
        audio = noise(2 * CHUNK)
        other, other_heard = open_session(engine, "sound")
        other.write(0, audio[:, :CHUNK])

        def fail(inputs: Sequence[ChunkInput]) -> None:
            raise ZeroDivisionError

        broken.before_step = fail
        for session, _ in players:
            session.write(0, audio[:, :CHUNK])
        for _, heard in players:
            assert isinstance(heard.failed().error, ChunkFailed)
        other.write(CHUNK, audio[:, CHUNK:])
        other.close_input()
        other_heard.finished()
        assert np.array_equal(other_heard.audio(), audio)
        assert not broken.rows


def test_an_answer_that_no_session_can_use_ends_that_session_alone() -> None:
    stream = plain()
    with running(gain=stream) as engine:
        victim, victim_heard = open_session(engine, "gain")
        play_rows = stream.step

        def step(inputs: Sequence[ChunkInput]) -> Sequence[ChunkOutput | RowFailed]:
            return [
                replace(answer, audio=(np.zeros((5, 3), np.float32),)) if answer.row == victim.row else answer
                for answer in play_rows(inputs)
            ]

        stream.step = step  # type: ignore[method-assign, assignment]
        bystander, heard = open_session(engine, "gain")
        victim.write(0, noise(CHUNK))
        audio = noise(2 * CHUNK)
        write_blocks(bystander, audio, CHUNK)
        bystander.close_input()
        heard.finished()
        assert np.array_equal(heard.audio(), audio)
        assert isinstance(victim_heard.failed().error, ChunkFailed)


def test_a_model_that_forgets_a_row_fails_it() -> None:
    stream = plain()
    with running(gain=stream) as engine:
        session, heard = open_session(engine, "gain")
        stream.step = lambda inputs: []  # type: ignore[method-assign]
        session.write(0, noise(CHUNK))
        assert "gave no answer" in str(heard.failed().error)


def test_chunks_and_tasks_take_turns() -> None:
    stream = plain()
    with running(gain=stream) as engine:
        gate = Gate(stream)
        session, heard = open_session(engine, "gain", offline=False)
        resident = engine.resident("gain")
        session.write(0, noise(CHUNK))
        gate.entered.wait(20)
        order: list[str] = []

        def work() -> None:
            order.append("task")
            begin = time.thread_time()
            while time.thread_time() - begin < 2 * TASKS_SECONDS:
                pass

        stream.before_step = lambda inputs: order.append("chunk")
        write_blocks(session, noise(4 * CHUNK), CHUNK, start=CHUNK)
        for _ in range(30):
            resident.post(work)
        gate.open()
        resident.call(lambda: None)
        assert order[:8] == ["task", "chunk"] * 4
        assert order.count("task") == 30
        assert len(heard.blocks()) == 5


def test_short_tasks_do_not_wait_for_a_chunk_each() -> None:
    stream = plain()
    with running(gain=stream) as engine:
        gate = Gate(stream)
        session, _ = open_session(engine, "gain", offline=False)
        resident = engine.resident("gain")
        session.write(0, noise(CHUNK))
        gate.entered.wait(20)
        order: list[str] = []
        stream.before_step = lambda inputs: order.append("chunk")
        session.write(CHUNK, noise(CHUNK))
        for _ in range(5):
            resident.post(lambda: order.append("task"))
        gate.open()
        settle(engine)
        assert order.index("chunk") >= 2


def test_a_session_is_built_on_the_thread_that_opens_it(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []

    def building(**arguments: Any) -> Session:
        threads.append(threading.current_thread().name)
        return Session(**arguments)

    monkeypatch.setattr("backline.engine.engine.Session", building)
    with running(gain=plain()) as engine:
        open_session(engine, "gain")
    assert threads == [threading.current_thread().name]


def test_offline_rows_come_one_at_a_time_beside_a_live_session() -> None:
    stream = plain()
    with running(gain=stream) as engine:
        gate = Gate(stream)
        held, _ = open_session(engine, "gain")
        renders = [open_session(engine, "gain")[0] for _ in range(3)]
        live, _ = open_session(engine, "gain", offline=False)
        held.write(0, noise(CHUNK))
        gate.entered.wait(20)
        for render in renders:
            render.write(0, noise(CHUNK))
        gate.open()
        settle(engine)
        assert [len(call) for call in stream.calls] == [1, 1, 1, 1]
        live.abort()
        assert live.closed.wait(20)


def test_company_and_its_order_do_not_change_a_session() -> None:
    audio = noise(5 * CHUNK)
    with running(gain=GainStream(capacity=8)) as engine:
        alone = play(engine, "gain", audio, 1_000).audio()
        companions = [open_session(engine, "gain") for _ in range(3)]
        threads = [
            threading.Thread(target=write_blocks, args=(session, noise(6 * CHUNK), 700)) for session, _ in companions
        ]
        for thread in threads:
            thread.start()
        together = play(engine, "gain", audio, 333).audio()
        for thread in threads:
            thread.join(20)
    assert np.array_equal(alone, together)


def test_late_output_is_dropped_and_counted_and_the_rest_is_kept_in_its_place() -> None:
    stream, clock = plain(), TurnedClock()
    with running(clock=clock, gain=stream) as engine:
        session, heard = open_session(engine, "gain", offline=False)
        latency = session.ledger.latency_samples
        audio = noise(4 * CHUNK)
        gate = Gate(stream)
        write_blocks(session, audio[:, :CHUNK], 480)
        gate.entered.wait(20)
        lived = latency + CHUNK // 2  # half of the first chunk should have been played by then
        write_blocks(session, audio[:, CHUNK:lived], 480, start=CHUNK)
        clock.turn((lived - 480 + 0.5) / 48_000)  # real time has come as far as the input
        gate.open()
        write_blocks(session, audio[:, lived:], 480, start=lived)
        session.close_input()
        totals = heard.finished().totals
        stats = engine.stats()
    blocks = heard.blocks()
    assert blocks[0].position == CHUNK // 2
    for block in blocks:
        np.testing.assert_array_equal(block.audio, audio[:, block.position : block.position + block.audio.shape[1]])
    assert totals.late_chunks == stats.late_chunks == 1
    assert totals.samples_out == sum(block.audio.shape[1] for block in blocks)
    assert heard.warnings("late_output")[0].position == 0


def test_a_client_that_sends_ahead_of_real_time_loses_nothing() -> None:
    stream = plain()
    with running(gain=stream) as engine:
        audio = noise(30 * 48_000)
        heard = play(engine, "gain", audio, 4_096, offline=False, jitter_buffer_seconds=10.0)
        assert np.array_equal(heard.audio(), audio)


def test_offline_nothing_is_late() -> None:
    stream = plain()
    clock = TurnedClock()
    stream.before_step = lambda inputs: clock.turn(3_600.0)
    with running(clock=clock, gain=stream) as engine:
        audio = noise(10 * CHUNK)
        heard = play(engine, "gain", audio, 480, chunk_seconds=Fraction(1, 25), visibility_seconds=0.04)
        assert np.array_equal(heard.audio(), audio)
        assert heard.finished().totals.late_chunks == 0


class WaitsNoted(TurnedClock):
    """Notes for how long somebody waits: None is until there is something to do."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float | None] = []

    def wait(self, for_it: Callable[[float | None], bool], seconds: float | None) -> bool:
        self.waits.append(seconds)
        return super().wait(for_it, seconds)


def test_the_thread_sleeps_while_nobody_has_a_chunk() -> None:
    clock = WaitsNoted()
    with running(clock=clock, gain=plain()) as engine:
        resident, woken = engine.resident("gain"), []
        wake = resident.wake
        resident.wake = lambda: woken.append(1) or wake()  # type: ignore[method-assign, func-returns-value]
        session, _ = open_session(engine, "gain")
        for position in range(0, CHUNK - 64, 64):
            session.write(position, noise(64))
        assert not woken
        session.write(CHUNK - 64, noise(64))
        settle(engine)
        assert woken == [1]
        assert set(clock.waits) == {None}


def test_statistics_add_up() -> None:
    with running(gain=plain()) as engine:
        play(engine, "gain", noise(3 * CHUNK), CHUNK)
        open_session(engine, "gain", offline=False)
        settle(engine)
        stats = engine.stats()
        assert (stats.sessions, stats.sessions_total, stats.chunks, stats.device) == (1, 2, 3, "cpu")
        assert 0 < stats.call_seconds_p50 <= stats.call_seconds_p99


def test_times_are_the_clocks() -> None:
    clock = TurnedClock()
    with running(clock=clock, gain=plain()) as engine:
        clock.turn(30.0)
        session, _ = open_session(engine, "gain")
        clock.turn(12.0)
        assert engine.stats().uptime_seconds == 42.0
        assert clock() - session.opened_at == 12.0


def test_shutdown_lets_streams_finish() -> None:
    stream = plain()
    engine = Engine()
    engine.add_stream("gain", stream)
    session, heard = open_session(engine, "gain")
    audio = noise(4 * CHUNK)
    session.write(0, audio[:, :CHUNK])
    closing = threading.Thread(target=engine.shutdown, args=(20.0,))
    closing.start()
    while not engine._closing:
        time.sleep(0.001)
    write_blocks(session, audio[:, CHUNK:], 4_096, start=CHUNK)
    session.close_input()
    heard.finished()
    closing.join(20)
    assert not closing.is_alive()
    assert np.array_equal(heard.audio(), audio)
    assert not stream.rows


def test_shutdown_gives_endless_streams_what_is_due_and_ends_those_who_do_not_read() -> None:
    clock = WaitsNoted()
    engine = Engine(clock=clock)
    engine.add_stream("gain", plain())
    playing, heard = open_session(engine, "gain", offline=False)
    audio = noise(CHUNK + 100)
    write_blocks(playing, audio, 1_000)
    deaf, deaf_heard = open_session(engine, "gain", acknowledges=False)
    fill(engine, deaf, 4_096)
    closing = threading.Thread(target=engine.shutdown, args=(60.0,))
    closing.start()
    assert eventually(lambda: 60.0 in clock.waits)
    clock.turn(60.0)
    heard.finished()
    assert np.array_equal(heard.audio(), audio)
    assert eventually(lambda: CLOSING_SECONDS in clock.waits)
    assert not deaf.closed.is_set()
    clock.turn(CLOSING_SECONDS)
    closing.join(20)
    assert not closing.is_alive()
    assert isinstance(deaf_heard.failed().error, Refused)


def test_many_clients_come_and_go_at_once_and_those_who_stay_are_served_in_full() -> None:
    streams = {"resampled": GainStream(capacity=16), "plain": plain(16)}
    failures: list[BaseException] = []

    def client(number: int, engine: Engine) -> None:
        try:
            rng = np.random.default_rng(number)
            audio = rng.uniform(-0.5, 0.5, (2, 20_000)).astype(np.float32)
            name = ("resampled", "plain")[number % 2]
            for _ in range(3):
                session, heard = open_session(engine, name, offline=number % 3 == 0, jitter_buffer_seconds=30.0)
                at = 0
                while at < audio.shape[1]:
                    count = int(rng.integers(1, 4_096))
                    session.write(at, audio[:, at : at + count])
                    at += audio[:, at : at + count].shape[1]
                    if number % 4 == 0 and at > 9_000:
                        break
                if number % 4 == 0:  # vanishes
                    session.abort()
                    assert session.closed.wait(20)
                else:
                    session.close_input()
                    heard.finished()
                    assert heard.audio().shape[1] == audio.shape[1]
                    assert name == "resampled" or np.array_equal(heard.audio(), audio)
        except BaseException as error:
            failures.append(error)

    with running(**streams) as engine:
        threads = [threading.Thread(target=client, args=(number, engine)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not failures, failures
        assert not engine.list_sessions()
        assert engine.stats().sessions_total == 36
        assert all(not stream.rows for stream in streams.values())


@pytest.mark.parametrize("ending", ["remove", "shutdown"])
def test_a_session_that_opens_while_its_model_goes_is_refused_and_never_left_behind(ending: str) -> None:
    stream = plain()
    engine = Engine()
    engine.add_stream("gain", stream)
    resident = engine.resident("gain")
    held = threading.Event()

    def hold() -> None:
        assert held.wait(20)

    resident.post(hold)
    outcomes: list[object] = []

    def go() -> None:
        if ending == "remove":
            engine.remove_stream("gain")
        else:
            engine.shutdown(0.0)

    def open_one() -> None:
        try:
            outcomes.append(open_session(engine, "gain"))
        except Exception as error:
            outcomes.append(error)

    def waiting(count: int) -> None:
        while len(resident._tasks) < count:
            time.sleep(0.001)

    # Both have begun before either is done: the model's removal first, the shutdown while the opening waits its turn.
    going, opening = threading.Thread(target=go), threading.Thread(target=open_one)
    if ending == "remove":
        going.start()
        waiting(1)
        opening.start()
        waiting(2)
    else:
        opening.start()
        waiting(1)
        going.start()
        while not engine._closing:
            time.sleep(0.001)
    held.set()
    for thread in (going, opening):
        thread.join(20)
        assert not thread.is_alive()
    assert [type(outcome) for outcome in outcomes] == [NotFound if ending == "remove" else Refused]
    assert not stream.rows
    engine.shutdown(0.0)
