"""A session outlives its call: whoever takes it up again goes on where it was, sample by sample; nobody else does."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import date
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backline.engine.engine import Engine
from backline.engine.errors import BadInput, Idle, NotFound, Refused, TakenOver
from backline.engine.limits import KEPT_BYTES
from backline.models.passthrough import PassthroughConfig, PassthroughStream
from backline.models.stream import Audio
from backline.packs.registry import PackNotFound, PackRegistry
from backline.service.access import Guest, Key
from backline.service.carrier import Gone, Response
from backline.service.desk import Desk
from backline.service.loads import Loads
from backline.service.seat import Kept
from backline_protos.v1 import backline_pb2 as pb
from tests.service.test_idle import TurnedLoop
from tests.support.streams import GainStream
from tests.support.wire import block, blocks, client, noise, opening

SEATS, LEASE, IDLE = 4, 30.0, 10.0
PORTS = ("low", "high", "click")
RATE = 48_000

# ---- a network that can be cut -------------------------------------------------------------------------


class Line:
    """A `Carrier` in memory, which a test cuts wherever it likes: after so many messages either way, or by hand."""

    response: Response = pb.ServerMessage

    def __init__(self, reads: int | None = None, writes: int | None = None) -> None:
        """It breaks once so many messages have been read, or so many written; the last of which may be lost."""
        self._reads, self._writes = reads, writes
        self._requests: asyncio.Queue[Any] = asyncio.Queue()
        self.told: list[Any] = []
        self.error: Exception | None = None
        self.changed = asyncio.Event()
        self._cut = asyncio.Event()

    def send(self, messages: Iterable[Any]) -> None:
        for message in messages:
            self._requests.put_nowait(message)

    def cut(self) -> None:
        self._cut.set()
        self._requests.put_nowait(Gone())

    async def read(self) -> Any | None:
        if self._reads is not None:
            if self._reads == 0:
                raise Gone
            self._reads -= 1
        message = await self._requests.get()
        if isinstance(message, Gone) or self._cut.is_set():
            raise Gone
        return message

    async def write(self, message: Any) -> None:
        if self._writes is not None:
            if self._writes == 0:
                raise Gone
            self._writes -= 1
        if self._cut.is_set():
            raise Gone
        self.told.append(message)
        self.changed.set()

    async def fail(self, error: Exception) -> None:
        self.error = error

    def of(self, kind: str) -> list[Any]:
        return [getattr(message, kind) for message in self.told if message.WhichOneof("message") == kind]

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not holds():
                self.changed.clear()
                await self.changed.wait()

    async def ready(self) -> pb.Ready:
        await self.until(lambda: bool(self.of("ready")))
        ready: pb.Ready = self.of("ready")[0]
        return ready


class Player:
    """What a client has to do, and no more: it counts both ways, and after a cut goes on from what Ready says."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.received: list[Any] = []  # messages of the session
        self.ready: pb.Ready | None = None
        self.calls = 0

    async def play(
        self,
        first: pb.Open,
        script: list[Any],
        cuts: Iterable[tuple[int | None, int | None]],
        lost: random.Random,
        acknowledges: bool = True,
    ) -> None:
        """Plays `script` to its end, over calls that break after (so many read, so many written)."""
        cutting = iter(cuts)
        while not (self.received and self.received[-1].WhichOneof("message") == "closed"):
            line = Line(*next(cutting, (None, None)))
            if self.ready is None:
                line.send(client(first))
            else:
                line.send(client(pb.Resume(token=self.ready.token, received=len(self.received))))
            call = asyncio.create_task(self.serve(line))
            self.calls += 1
            told = asyncio.create_task(line.ready())
            await asyncio.wait({call, told}, return_when=asyncio.FIRST_COMPLETED)
            if line.of("ready"):
                ready = line.of("ready")[0]
                assert self.ready is None or (ready.session, ready.token) == (self.ready.session, self.ready.token)
                assert ready.sent == len(self.received)
                self.ready = ready
                line.send(script[ready.received :])
            told.cancel()
            taken = 1
            while not call.done() or taken < len(line.told):
                if taken == len(line.told):
                    line.changed.clear()
                    waits = asyncio.create_task(line.changed.wait())
                    await asyncio.wait({call, waits}, return_when=asyncio.FIRST_COMPLETED)
                    waits.cancel()
                    continue
                message = line.told[taken]
                taken += 1
                if call.done() and message is line.told[-1] and lost.random() < 0.5:
                    break  # written, and lost on its way
                self.received.append(message)
                if acknowledges and len(self.received) % 3 == 0:
                    line.send([pb.ClientMessage(ack=pb.Ack(received=len(self.received)))])
            assert line.error is None, line.error

    async def serve(self, line: Line) -> None:
        with suppress(asyncio.CancelledError):  # so a call ends whose client has gone
            await self.desk.serve(line)

    def port(self, port: int) -> Audio:
        """One port's output [channel, sample]; its blocks follow each other, and so do their numbers."""
        assert self.ready is not None
        found = [message.audio for message in self.received if message.WhichOneof("message") == "audio"]
        assert [entry.sequence for entry in found] == list(range(len(found)))
        channels, entries = self.ready.ports[port].channels, [entry for entry in found if entry.port == port]
        pieces = [np.frombuffer(entry.pcm, "<f4").reshape(-1, channels).T for entry in entries]
        ends = np.cumsum([piece.shape[1] for piece in pieces])
        assert [entry.position - entries[0].position for entry in entries] == [0, *ends[:-1]]
        return np.concatenate(pieces, axis=1)


def at_a_desk(
    story: Callable[[Desk, Engine], Awaitable[None]], config: PassthroughConfig | None = None, lease: float = LEASE
) -> None:
    """Runs a story at a desk, and sees that it leaves nothing behind."""
    engine = Engine()
    engine.add_stream("passthrough", PassthroughStream(config or PassthroughConfig(ports=PORTS, clicks=True)))
    loads = Loads(engine, PackRegistry())

    async def told() -> None:
        desk = Desk(engine, loads, SEATS, IDLE, lease, lambda: None)
        try:
            await story(desk, engine)
        finally:
            desk.drain()
            desk.close()

    try:
        with asyncio.Runner(loop_factory=TurnedLoop) as runner:
            runner.run(told())
        for session in engine.list_sessions():
            assert session.closed.wait(10)
    finally:
        loads.close()
        engine.shutdown(0.0)


def performance(audio: Audio, sizes: Iterable[int]) -> list[Any]:
    """What a client sends: audio, with gains, notes, a beat and markers among it."""
    script: list[Any] = []
    for index, entry in enumerate(blocks(audio, sizes)):
        if index % 4 == 1:
            script.append(pb.Control(parameter="gain", value=(index % 7) / 8, position=entry.position + 300))
        if index % 5 == 2:
            script.append(pb.Midi(position=entry.position + 17, data=b"\x90\x3c\x40"))
        if index % 6 == 3:
            script.append(pb.Marker(id=index, position=entry.position + 5))
        if index == 4:
            script.append(pb.Transport(position=entry.position, playing=True, tempo=100, numerator=4, denominator=4))
        script.append(entry)
    return list(client(*script, pb.Close()))


# ---- exactness -------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    cuts=st.lists(
        st.one_of(
            st.tuples(st.integers(1, 60), st.none()),
            st.tuples(st.none(), st.integers(0, 80)),
        ),
        max_size=12,
    ),
    sizes=st.lists(st.integers(1, 512), min_size=1, max_size=4),
    seed=st.integers(0, 99),
)
def test_however_often_it_is_cut_a_session_says_what_an_uncut_one_says(
    cuts: list[tuple[int | None, int | None]], sizes: list[int], seed: int
) -> None:
    """All of it: every port's samples, frames of notes, markers, and what is heard of changes, each once."""
    audio = noise(2, 40 * int(np.mean(sizes)) + 7, seed)
    first, script = opening(lease_seconds=LEASE, channels=2), performance(audio, sizes)

    async def story(desk: Desk, engine: Engine) -> None:
        whole, cut = Player(desk), Player(desk)
        await whole.play(first, script, [], random.Random(0))
        await cut.play(first, script, cuts, random.Random(seed))
        assert whole.calls == 1
        for port in range(len(PORTS)):
            np.testing.assert_array_equal(cut.port(port), whole.port(port))
            assert cut.port(port).shape[1] == audio.shape[1]
        assert said(cut) == said(whole)
        assert cut.received[-1].closed.samples_out == audio.shape[1]

    def said(player: Player) -> list[Any]:
        """All but audio and ledgers, which tell of this machine."""
        kinds = {"marker", "warning", "text", "frames", "dry"}
        return [message for message in player.received if message.WhichOneof("message") in kinds]

    at_a_desk(story)


def test_a_client_that_never_acknowledges_resumes_from_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backline.service.seat.KEPT_SECONDS", 0.1)
    audio = noise(2, RATE)

    async def story(desk: Desk, engine: Engine) -> None:
        line = Line()
        ready, call = await called(
            desk, line, opening(lease_seconds=LEASE, mode=pb.MODE_LIVE, jitter_buffer_seconds=60)
        )
        line.send(client(*blocks(audio, [480])))
        await line.until(lambda: len(line.of("audio")) == 3 * 100)
        line.cut()
        await asyncio.wait({call})
        again = Line()
        again.send(client(pb.Resume(token=ready.token, last_sequence=29), pb.Close()))
        await desk.serve(again)
        resumed = again.of("ready")[0]
        assert (resumed.received, resumed.input_position) == (100, RATE)
        assert resumed.sent > 30
        kept = again.of("audio")
        assert kept[-1].sequence == 299
        assert [entry.sequence for entry in kept] == list(range(kept[0].sequence, 300))
        assert 0.05 * RATE <= RATE - kept[0].position <= 0.11 * RATE

    at_a_desk(story)


def test_a_client_that_knows_only_sequences_gets_what_follows_the_last() -> None:
    async def story(desk: Desk, engine: Engine) -> None:
        line = Line()
        _, call = await called(desk, line, opening(lease_seconds=LEASE), *blocks(noise(2, 4_800), [480]))
        await line.until(lambda: len(line.of("audio")) == 30)
        line.cut()
        await asyncio.wait({call})
        again = Line()
        again.send(client(pb.Resume(token=line.of("ready")[0].token, last_sequence=11), pb.Close()))
        await desk.serve(again)
        assert [entry.sequence for entry in again.of("audio")] == list(range(12, 30))

    at_a_desk(story)


def test_what_is_kept_is_bounded_by_bytes_and_by_time() -> None:
    kept = Kept(samples=4_800, limit=100_000)
    for index in range(500):
        pcm = bytes(480 * 8)
        kept.add(pb.ServerMessage(audio=pb.AudioBlock(position=480 * index, committed=480 * (index + 1), pcm=pcm)))
    assert (kept.sent, kept.first) == (500, 489)
    assert kept.bytes < 11 * (480 * 8 + 1_100)
    big = Kept(samples=10**9, limit=100_000)
    for _ in range(500):
        big.add(pb.ServerMessage(warning=pb.Warning(message="x" * 1_000)))
    assert 90_000 < big.bytes <= 100_000
    assert 40 < big.sent - big.first <= 50  # each takes as much again in memory
    big.acknowledge(500)
    assert (big.bytes, big.first) == (0, 500)
    with pytest.raises(BadInput, match="501 messages acknowledged, and 500"):
        big.acknowledge(501)
    assert Kept(1).bytes < KEPT_BYTES


class Stuck(Line):
    """Its client takes nothing but Ready for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.free = asyncio.Event()

    @property
    def unread(self) -> int:
        return self._requests.qsize()

    async def write(self, message: Any) -> None:
        if self.told:
            await self.free.wait()
        await super().write(message)


def _tell(loop: asyncio.AbstractEventLoop, told: asyncio.Event) -> None:
    loop.call_soon_threadsafe(told.set)


def test_whoever_takes_nothing_is_not_read_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backline.service.seat.UNSENT_EVENTS", 64)

    async def story(desk: Desk, engine: Engine) -> None:
        line, turns, each, loop = Stuck(), 20, 50, asyncio.get_running_loop()
        line.send(client(opening(lease_seconds=LEASE), *blocks(noise(2, 960), [480])))
        call = asyncio.create_task(desk.serve(line))
        await line.ready()
        for turn in range(turns):  # markers that come back at once
            line.send(client(*(pb.Marker(id=turn * each + index, position=0) for index in range(each))))
            told = asyncio.Event()
            for _ in range(each):
                await asyncio.sleep(0)
            engine.resident("passthrough").post(partial(_tell, loop, told))
            await told.wait()
        assert line.unread >= (turns - 3) * each
        line.free.set()
        await line.until(lambda: len(line.of("marker")) == turns * each)
        line.send(client(pb.Close()))
        await call
        assert line.error is None

    at_a_desk(story)


def test_a_cut_while_the_last_line_of_a_log_is_written_loses_no_end() -> None:
    async def story(desk: Desk, engine: Engine) -> None:
        line = Line()
        ready, call = await called(desk, line, opening(lease_seconds=LEASE, want_log=True), block(noise(2, 480)))
        (seat,) = desk._seats.values()
        assert seat.log is not None
        waits, goes_on = threading.Event(), threading.Event()
        wait = seat.log.wait

        def slow() -> None:
            waits.set()
            goes_on.wait(10)
            wait()

        seat.log.wait = slow  # type: ignore[method-assign]
        line.send(client(pb.Close()))
        await asyncio.to_thread(waits.wait, 10)
        line.cut()
        goes_on.set()
        await asyncio.wait({call})
        again = await resumed(desk, ready.token)
        assert [message.WhichOneof("message") for message in again.told[-2:]] == ["log", "closed"]
        assert '"end"' in again.of("log")[-1].line

    at_a_desk(story)


# ---- who, and for how long --------------------------------------------------------------------------------


async def called(
    desk: Desk, line: Line, *messages: Any, guest: Guest | None = None
) -> tuple[pb.Ready, asyncio.Task[None]]:
    """A call that goes on after its first messages."""
    line.send(client(*messages))
    call = asyncio.create_task(desk.serve(line) if guest is None else desk.serve(line, guest))
    return await line.ready(), call


async def detached(desk: Desk, guest: Guest | None = None, **fields: Any) -> tuple[pb.Ready, Line]:
    """A session whose call has broken off."""
    line = Line()
    messages = opening(**{"lease_seconds": LEASE, **fields}), block(noise(2, 480))
    ready, call = await called(desk, line, *messages, guest=guest)
    await asyncio.sleep(0)
    line.cut()
    await asyncio.wait({call})
    return ready, line


async def resumed(desk: Desk, token: str, guest: Guest | None = None) -> Line:
    """A call that takes a session up again and closes it."""
    line = Line()
    line.send(client(pb.Resume(token=token, received=0), pb.Close()))
    await (desk.serve(line) if guest is None else desk.serve(line, guest))
    return line


def guests() -> tuple[Guest, Guest]:
    """Two who have a key each."""
    first, second = (Guest(Key(name=name, sha256=name * 64, added=date(2026, 1, 1))) for name in "ab")
    return first, second


async def turn(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, TurnedLoop)
    await loop.turn(seconds)


def phases(engine: Engine) -> list[str]:
    return sorted(session.phase for session in engine.list_sessions())


def test_a_detached_session_is_listed_until_its_lease_runs_out() -> None:
    async def story(desk: Desk, engine: Engine) -> None:
        ready, _ = await detached(desk)
        assert ready.lease_seconds == LEASE
        assert phases(engine) == ["detached"]
        assert (engine.stats().sessions, engine.stats().sessions_detached) == (1, 1)
        await turn(LEASE - 1)
        assert phases(engine) == ["detached"]
        await turn(1.5)
        await asyncio.to_thread(lambda: [session.closed.wait(10) for session in engine.list_sessions()])
        assert phases(engine) == []
        line = await resumed(desk, ready.token)
        assert isinstance(line.error, NotFound)
        assert "its lease of 30 s has run out): open a new one" in str(line.error)

    at_a_desk(story)


def test_a_resumed_session_has_all_of_its_lease_again() -> None:
    async def story(desk: Desk, engine: Engine) -> None:
        ready, _ = await detached(desk)
        for received in range(3):
            await turn(LEASE - 1)
            line = Line()
            _, call = await called(desk, line, pb.Resume(token=ready.token, received=0))
            assert phases(engine) != ["detached"]
            line.cut()
            await asyncio.wait({call})
            assert phases(engine) == ["detached"]
            assert engine.stats().sessions_resumed == received + 1

    at_a_desk(story)


@pytest.mark.parametrize(("asked", "granted"), [(5.0, 5.0), (1e9, LEASE), (0.0, 0.0)])
def test_nobody_is_kept_for_longer_than_it_asks_or_than_the_server_gives(asked: float, granted: float) -> None:
    async def story(desk: Desk, engine: Engine) -> None:
        ready, _ = await detached(desk, lease_seconds=asked)
        assert ready.lease_seconds == granted
        if granted:
            assert phases(engine) == ["detached"]
            await turn(granted + 0.1)
        await asyncio.to_thread(lambda: [session.closed.wait(10) for session in engine.list_sessions()])
        assert phases(engine) == []
        assert isinstance((await resumed(desk, ready.token)).error, NotFound)

    at_a_desk(story)


@pytest.mark.parametrize("lease", [-1.0, float("nan")])
def test_an_impossible_lease_is_refused(lease: float) -> None:
    async def story(desk: Desk, engine: Engine) -> None:
        line = Line()
        line.send(client(opening(lease_seconds=lease)))
        await desk.serve(line)
        assert isinstance(line.error, BadInput)

    at_a_desk(story)


def test_only_whoever_opened_a_session_takes_it_up() -> None:
    async def story(desk: Desk, engine: Engine) -> None:
        mine, other = guests()
        ready, _ = await detached(desk, mine)
        for stranger in (other, None):
            assert isinstance((await resumed(desk, ready.token, stranger)).error, NotFound)
        assert isinstance((await resumed(desk, "0" * 32, mine)).error, NotFound)
        assert phases(engine) == ["detached"]
        line = await resumed(desk, ready.token, mine)
        assert line.error is None
        assert line.told[-1].WhichOneof("message") == "closed"

    at_a_desk(story)


def test_a_call_that_is_half_open_is_taken_over() -> None:
    """The server holds the old call to be alive: it takes nothing, and says nothing."""

    async def story(desk: Desk, engine: Engine) -> None:
        stuck = Line()
        ready, old = await called(desk, stuck, opening(lease_seconds=LEASE), *blocks(noise(2, 960), [480]))
        await stuck.until(lambda: len(stuck.of("audio")) == 6)
        line = await resumed(desk, ready.token)
        await old
        assert isinstance(stuck.error, TakenOver)
        assert len(line.of("audio")) == 6
        assert line.told[-1].WhichOneof("message") == "closed"

    at_a_desk(story)


def test_of_many_who_take_one_session_up_at_once_one_has_it() -> None:
    async def story(desk: Desk, engine: Engine) -> None:
        ready, _ = await detached(desk)
        lines = [Line() for _ in range(8)]
        for line in lines:
            line.send(client(pb.Resume(token=ready.token, received=0)))
        calls = [asyncio.create_task(desk.serve(line)) for line in lines]
        await asyncio.wait(calls[:-1])
        assert all(isinstance(line.error, TakenOver) for line in lines[:-1])
        lines[-1].send(client(pb.Close()))
        await calls[-1]
        assert lines[-1].told[-1].WhichOneof("message") == "closed"

    at_a_desk(story)


def test_what_came_while_nobody_was_there_is_told_on_the_next_call() -> None:
    """The rest of an input that was closed, and an end that others have made."""

    async def story(desk: Desk, engine: Engine) -> None:
        line = Line(writes=1)
        line.send(client(opening(lease_seconds=LEASE), *blocks(noise(2, 960), [480]), pb.Close()))
        with pytest.raises(asyncio.CancelledError):
            await desk.serve(line)
        again = await resumed(desk, line.of("ready")[0].token)
        assert again.error is None
        assert sum(len(entry.pcm) for entry in again.of("audio")) == 3 * 960 * 8
        assert again.told[-1].WhichOneof("message") == "closed"
        lost = await resumed(desk, line.of("ready")[0].token)  # and even then the last of it may have been lost
        assert lost.told[-1].closed == again.told[-1].closed

        ready, _ = await detached(desk)
        (session,) = engine.list_sessions()
        session.abort(Refused("this pack goes"))
        await asyncio.to_thread(session.closed.wait, 10)
        assert isinstance((await resumed(desk, ready.token)).error, Refused)
        assert "this pack goes" in str((await resumed(desk, ready.token)).error)

    at_a_desk(story)


def test_a_client_that_says_more_than_it_can_have_is_told() -> None:
    async def story(desk: Desk, engine: Engine) -> None:
        ready, _ = await detached(desk)
        line = Line()
        line.send(client(pb.Resume(token=ready.token, received=1_000)))
        await desk.serve(line)
        assert isinstance(line.error, BadInput)
        assert phases(engine) == ["detached"]

    at_a_desk(story)


def test_an_idle_session_detaches_then_ends_and_says_so() -> None:
    async def story(desk: Desk, engine: Engine) -> None:
        line = Line()
        ready, call = await called(desk, line, opening(lease_seconds=LEASE, mode=pb.MODE_LIVE))
        await turn(IDLE + 0.1)
        await asyncio.wait_for(call, 10)
        assert isinstance(line.error, Idle)
        assert "The session is kept for 30 s: until then it can be resumed" in str(line.error)
        assert phases(engine) == ["detached"]
        await turn(LEASE + 0.1)
        assert isinstance((await resumed(desk, ready.token)).error, NotFound)

    at_a_desk(story)


@pytest.mark.parametrize("alive", ["stopped", "acknowledges"])
def test_whoever_says_that_it_stands_still_or_is_there_is_not_idle(alive: str) -> None:
    async def story(desk: Desk, engine: Engine) -> None:
        line = Line()
        ready, call = await called(desk, line, opening(lease_seconds=LEASE, mode=pb.MODE_LIVE))
        if alive == "stopped":
            line.send(client(pb.Transport(tempo=120, playing=False)))
        for _ in range(10):
            await turn(IDLE - 1)
            if alive == "acknowledges":
                line.send(client(pb.Ack()))
                await turn(0)
        assert not call.done()
        line.cut()
        await asyncio.wait({call})
        if alive == "stopped":  # it still is, on the next call
            line = Line()
            _, call = await called(desk, line, pb.Resume(token=ready.token, received=0))
            for _ in range(10):
                await turn(IDLE - 1)
            assert not call.done()
            line.cut()
            await asyncio.wait({call})

    at_a_desk(story)


def test_a_lease_is_a_promise_to_close_in_words() -> None:
    """A half-close may be a cut; without a lease it is the end of the input."""

    async def story(desk: Desk, engine: Engine) -> None:
        for lease in (LEASE, 0.0):
            line = Line()
            line.send([*client(opening(lease_seconds=lease), block(noise(2, 480))), None])
            if lease:
                with pytest.raises(asyncio.CancelledError):
                    await desk.serve(line)
                assert phases(engine) == ["detached"]
                await resumed(desk, line.of("ready")[0].token)
            else:
                await desk.serve(line)
                assert line.told[-1].WhichOneof("message") == "closed"

    at_a_desk(story)


def test_a_client_that_discards_ends_its_session_at_once() -> None:
    async def story(desk: Desk, engine: Engine) -> None:
        line = Line()
        line.send(client(opening(lease_seconds=LEASE), block(noise(2, 400)), pb.Close(discard=True)))
        await desk.serve(line)
        assert line.error is None
        assert line.told[-1].WhichOneof("message") == "closed"
        assert line.told[-1].closed.samples_out == 0
        assert phases(engine) == []

    at_a_desk(story)


# ---- places -----------------------------------------------------------------------------------------------


def test_detached_sessions_hold_their_places_and_make_room_for_their_own_client_only() -> None:
    async def story(desk: Desk, engine: Engine) -> None:
        mine, other = guests()
        readies = [(await detached(desk, mine, client_name=str(index)))[0] for index in range(SEATS)]
        assert phases(engine) == ["detached"] * SEATS
        line = Line()
        line.send(client(opening()))
        await desk.serve(line, other)
        assert isinstance(line.error, Refused)  # nobody makes room for others
        await detached(desk, mine, client_name="new")
        assert phases(engine) == ["detached"] * SEATS
        assert [session.client_name for session in engine.list_sessions()] == ["1", "2", "3", "new"]
        gone = await resumed(desk, readies[0].token, mine)
        assert isinstance(gone.error, NotFound)
        assert "its place was wanted" in str(gone.error)
        assert (await resumed(desk, readies[1].token, mine)).error is None

    at_a_desk(story)


def test_what_no_session_may_hold_ends_none_that_waits() -> None:
    async def story(desk: Desk, engine: Engine) -> None:
        await detached(desk)
        line = Line()
        large = {"sample_rate": 192_000, "channels": 64, "block_size": 65_536, "chunk_seconds": 4.0}
        line.send(client(opening(lease_seconds=LEASE, **large)))
        await desk.serve(line)
        assert isinstance(line.error, Refused)
        assert "a session may hold" in str(line.error)
        assert phases(engine) == ["detached"]

    at_a_desk(story)


LIVE = {"mode": pb.MODE_LIVE, "chunk_seconds": 0.08}  # as a GainStream plays


def names(engine: Engine) -> list[str]:
    return sorted(session.client_name for session in engine.list_sessions())


async def asked(desk: Desk, guest: Guest, **fields: Any) -> Line:
    """A call whose Open is refused."""
    line = Line()
    line.send(client(opening(lease_seconds=LEASE, **fields)))
    await desk.serve(line, guest)
    assert line.error is not None
    return line


def test_nobody_is_ended_for_a_session_that_is_refused_even_so() -> None:
    async def story(desk: Desk, engine: Engine) -> None:
        mine, other = guests()
        engine.add_stream("heavy", GainStream(rate=None, channels=None, cost=0.5))
        heavy = {**LIVE, "pack": "heavy"}
        await detached(desk, other, client_name="other", **heavy)
        for index in range(SEATS - 1):
            await detached(desk, mine, client_name=str(index))
        everybody = names(engine)
        too_much = await asked(desk, mine, **heavy)  # two of them are too many, and one of them is another's
        assert isinstance(too_much.error, Refused)
        assert isinstance((await asked(desk, mine, sample_rate=7)).error, BadInput)
        assert isinstance((await asked(desk, mine, pack="nowhere")).error, PackNotFound)
        assert names(engine) == everybody == ["0", "1", "2", "other"]
        assert phases(engine) == ["detached"] * SEATS

    at_a_desk(story)


def test_only_those_are_ended_who_are_in_the_way() -> None:
    async def story(desk: Desk, engine: Engine) -> None:
        mine, other = guests()
        engine.add_stream("heavy", GainStream(rate=None, channels=None, cost=0.5))
        engine.add_stream("one", GainStream(rate=None, channels=None, capacity=1))
        heavy, one = {**LIVE, "pack": "heavy"}, {**LIVE, "pack": "one"}
        await detached(desk, mine, client_name="light")
        await detached(desk, mine, client_name="heavy", **heavy)
        await detached(desk, mine, client_name="one", **one)
        await detached(desk, mine, client_name="heavy again", **heavy)
        assert names(engine) == ["heavy again", "light", "one"]
        await detached(desk, mine, client_name="one again", **one)
        assert names(engine) == ["heavy again", "light", "one again"]
        await detached(desk, other, client_name="other")  # the last place
        await detached(desk, mine, client_name="heavy and a place", **heavy)
        assert names(engine) == ["heavy and a place", "light", "one again", "other"]

    at_a_desk(story)


def test_whoever_detaches_a_hundred_times_holds_no_more_than_the_places() -> None:
    async def story(desk: Desk, engine: Engine) -> None:
        for index in range(100):
            await detached(desk, client_name=str(index))
            assert len(engine.list_sessions()) <= SEATS
        await turn(LEASE + 0.1)
        await asyncio.to_thread(lambda: [session.closed.wait(10) for session in engine.list_sessions()])
        for _ in range(SEATS + 1):  # and every place is free again
            line = Line()
            line.send(client(opening(lease_seconds=LEASE), pb.Close()))
            await desk.serve(line)
            assert line.error is None

    at_a_desk(story)


def test_sessions_that_end_in_order_hold_no_place_however_many() -> None:
    async def story(desk: Desk, engine: Engine) -> None:
        for _ in range(5 * SEATS):
            line = Line()
            line.send(client(opening(lease_seconds=LEASE), block(noise(2, 480)), pb.Close()))
            await desk.serve(line)
            assert line.error is None
        assert len(desk._seats) <= 8

    at_a_desk(story)
