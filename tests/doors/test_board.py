"""What the board does with messages: a real engine, a clock that the test turns, peers that remember; no sockets."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from backline.doors import board
from backline.doors.board import WAITING, Board, matcher
from backline.doors.live import LiveSessions, as_arguments, explained
from backline.doors.peers import BURST, LEASE_SECONDS, LISTENED, SUBSCRIBERS
from backline.engine.engine import Engine
from backline.engine.errors import BadInput, Refused
from backline.engine.session import Session
from backline.models.stream import ChunkInput, ChunkOutput, Heard, Stream, Transport
from backline.packs.registry import PackRegistry
from backline.service.desk import Desk
from backline.service.loads import Loads
from backline.service.server import House
from tests.support.clock import TurnedClock
from tests.support.everything import EverythingStream
from tests.support.osc import bundle, fuzzed, message, tag_at, unpacked
from tests.support.playing import open_session, running, settle
from tests.support.streams import GainStream

RATE, BLOCK = 48_000, 480
WALL = 1_900_000_000.0  # seconds since 1970 at the clock's 0


@dataclass
class Remembering:
    """A peer that remembers what it is sent."""

    key: str
    heard: list[tuple[str, list[Any]]] = field(default_factory=list)

    def send(self, packet: bytes) -> bool:
        self.heard += [(each.address, list(each.params)) for each in unpacked(packet)]
        return True

    def taken(self) -> list[tuple[str, list[Any]]]:
        heard, self.heard = self.heard, []
        return heard


class Stage:
    """A board, and a session that is played by turning the clock."""

    def __init__(self, engine: Engine, board: Board, clock: TurnedClock) -> None:
        self.engine, self.board, self.clock = engine, board, clock
        self.peer = Remembering("peer")
        self.position = 0

    def play(self, session: Session, seconds: float) -> None:
        """A constant, block by block as they are captured."""
        for _ in range(round(seconds * RATE / BLOCK)):
            self.clock.turn(BLOCK / RATE)
            session.write(self.position, np.full((2, BLOCK), 0.25, np.float32))
            self.position += BLOCK
            settle(self.engine)
            self.board.look()

    async def send(self, packet: bytes, peer: Remembering | None = None) -> list[tuple[str, list[Any]]]:
        """Sends it, and returns what has come back when all of it is done."""
        peer = peer or self.peer
        self.board.receive(packet, peer)
        while self.board._tasks:
            await asyncio.gather(*self.board._tasks)
        return peer.taken()

    async def begin(self, packet: bytes, peer: Remembering) -> list[tuple[str, list[Any]]]:
        """Sends it, and returns what comes back at once, whoever else waits."""
        self.board.receive(packet, peer)
        for _ in range(8):
            await asyncio.sleep(0)
        return peer.taken()

    async def say(self, address: str, *values: Any) -> list[tuple[str, list[Any]]]:
        return await self.send(message(address, *values))


@asynccontextmanager
async def staged(**streams: Stream) -> AsyncIterator[Stage]:
    clock = TurnedClock()
    with running(clock=clock, **streams) as engine:
        loads = Loads(engine, PackRegistry([], "cpu"))
        desk = Desk(engine, loads, 8, 30.0, 30.0, lambda: None)
        house = House(engine, loads, desk, asyncio.get_running_loop(), "127.0.0.1:1")
        live = LiveSessions(["false"], house.address, lambda name, error: None)
        its_board = Board(house, live, clock, lambda: WALL + clock())
        its_board._looked_at_packs = float("inf")  # those that ship are not what is tested here
        try:
            yield Stage(engine, its_board, clock)
        finally:
            await its_board.stop()


def scene(test: Callable[[Stage], Awaitable[None]], **streams: Stream) -> None:
    async def run() -> None:
        async with staged(**(streams or {"gain": GainStream()})) as stage:
            await test(stage)

    asyncio.run(run())


def live(stage: Stage, name: str = "gain") -> Session:
    session, _ = open_session(stage.engine, name, BLOCK, offline=False)
    return session


def error(said: list[tuple[str, list[Any]]]) -> list[Any]:
    [(address, values)] = said
    assert address == "/error"
    return values


# ---- time ----------------------------------------------------------------------------------------------------


def test_a_bundle_with_a_time_tag_lands_on_its_sample() -> None:
    async def test(stage: Stage) -> None:
        session = live(stage)
        stage.play(session, 1.0)
        at = WALL + stage.clock() + 0.123
        changes = [message("/session/1/transport/tempo", 90.0), message("/session/1/transport/play")]
        changes.append(message("/session/1/parameter/gain", 2.0))
        assert await stage.send(bundle(tag_at(at), *changes)) == []
        stage.play(session, 1.0)
        sample = round(1.123 * RATE)
        log = {type(each.change): each for each in session.take.changes.log}
        transport = log[Transport]
        assert transport.at == sample
        assert isinstance(transport.change, Transport)
        assert (transport.change.tempo, transport.change.playing) == (90.0, True)
        chunk = int(session.config.chunk_seconds * RATE)
        assert log[tuple].at == -(-sample // chunk) * chunk  # the first chunk that starts at it or after it
        assert log[tuple].change == ("gain", 2.0)
        assert session.totals.late_chunks == 0

    scene(test)


class Hearing(GainStream):
    """Claims to hear another chord in every chunk, and a beat of 120 a minute from the start on."""

    def _chunk(self, given: ChunkInput) -> ChunkOutput:
        number, output = self.rows[given.row].chunks, super()._chunk(given)
        beat = Transport(0.0, True, 120.0)
        return replace(output, heard=(Heard(number * 0.08, f"chord {number}", beat),))


def test_chord_and_beat_that_a_pack_hears_are_told_as_they_sound() -> None:
    async def test(stage: Stage) -> None:
        session = live(stage)
        await stage.say("/subscribe", "/session/1/{chord,beat}", 20)
        stage.play(session, 1.0)
        told = [values for address, values in stage.peer.taken() if address == "/session/1/chord"]
        assert told == [[f"chord {number}"] for number in range(len(told))]
        heard = (session.takes.timeline.end - session.ledger.latency_samples) / RATE
        assert await stage.say("/session/1/chord") == [("/session/1/chord", [f"chord {int(heard / 0.08 + 1e-9)}"])]
        assert await stage.say("/session/1/beat") == [("/session/1/beat", [3, pytest.approx(0.0, abs=0.02)])]
        await stage.say("/unsubscribe")
        await stage.say("/session/1/transport/tempo", 60)
        await stage.say("/session/1/transport/play")
        stage.play(session, 1.5)  # what is told goes before what is heard
        assert await stage.say("/session/1/beat") == [("/session/1/beat", [2, pytest.approx(0.5, abs=0.03)])]

    scene(test, gain=Hearing())


def test_a_time_tag_that_nobody_means_is_refused() -> None:
    async def test(stage: Stage) -> None:
        session = live(stage)
        stage.board.look()
        tempo = message("/session/1/transport/tempo", 90.0)
        assert "has no time" in error(await stage.send(bundle(tag_at(WALL + stage.clock() + 1), tempo)))[1]
        stage.play(session, 0.1)
        assert "3600 s ahead" in error(await stage.send(bundle(tag_at(WALL + stage.clock() + 3_600), tempo)))[1]
        assert session.take.changes.transport is None

    scene(test)


def test_taps_make_the_tempo_and_the_beat() -> None:
    async def test(stage: Stage) -> None:
        session = live(stage)
        stage.play(session, 0.1)
        for _ in range(5):
            assert await stage.say("/session/1/transport/tap", 1.0) == []
            assert await stage.say("/session/1/transport/tap", 0.0) == []  # a button that is let go
            stage.play(session, 0.6)
        assert await stage.say("/session/1/transport/tempo") == [("/session/1/transport/tempo", [pytest.approx(100.0)])]
        [(_, [_, phase])] = await stage.say("/session/1/beat")
        assert phase == pytest.approx(0.0, abs=0.02) or phase == pytest.approx(1.0, abs=0.02)  # a beat after the last

    scene(test)


def test_transport_changes_follow_one_another() -> None:
    async def test(stage: Stage) -> None:
        session = live(stage)
        stage.play(session, 0.5)
        await stage.say("/session/1/transport/tempo", 120)
        await stage.say("/session/1/transport/position", 8.0)
        await stage.say("/session/1/transport/play")
        stage.play(session, 1.0)  # two quarters
        await stage.say("/session/1/transport/tempo", 60)
        stage.play(session, 1.0)  # one
        await stage.say("/session/1/transport/stop", 1)
        stage.play(session, 1.0)
        assert await stage.say("/session/1/transport/position") == [
            ("/session/1/transport/position", [pytest.approx(11.0, abs=1e-6)])
        ]
        assert await stage.say("/session/1/transport/playing") == [("/session/1/transport/playing", [False])]
        assert "no transport plays" in error(await stage.say("/session/1/beat"))[1]
        assert "tempo" in error(await stage.say("/session/1/transport/tempo", -3.0))[1]
        assert "signature" in error(await stage.say("/session/1/transport/signature", 7, 9))[1]

    scene(test)


# ---- parameters and texts ------------------------------------------------------------------------------------


def test_parameters_are_set_by_value_by_share_and_by_what_a_value_is_called() -> None:
    async def test(stage: Stage) -> None:
        session, _ = open_session(
            stage.engine, "everything", BLOCK, channels=3, chunk_seconds=Fraction(2, 25), offline=False
        )
        stage.board.look()

        async def to(address: str, value: Any) -> dict[str, float]:
            assert await stage.say(f"/session/1/{address}", value) == []
            session.take.changes.apply(0, Fraction(0), None, 0)  # as the next chunk does
            return dict(session.take.changes.parameters)

        assert (await to("parameter/style", "swing"))["style"] == 1.0
        assert (await to("parameter/style", 2.0))["style"] == 2.0
        assert (await to("normalised/style", 0.4))["style"] == 1.0
        assert (await to("parameter/depth", 0.1))["depth"] == 0.1  # not the float32 next to it
        assert (await to("normalised/depth", 0.75))["depth"] == 0.75
        assert await stage.say("/session/1/normalised/style") == [("/session/1/normalised/style", [0.5])]
        for address, value, words in [
            ("parameter/style", "funk", "use plain, swing, wild"),
            ("parameter/style", 3, "use 0 to 2"),
            ("parameter/style", 0.5, "whole"),
            ("normalised/depth", 1.5, "use 0 to 1"),
            ("parameter/depth", float("nan"), "finite"),
            ("parameter/gain", 1.0, "no such address"),
            ("text/prompt", 5, "send a string"),
        ]:
            assert words in error(await stage.say(f"/session/1/{address}", value))[1]
        session.abort()

    scene(test, everything=EverythingStream())


def test_a_text_is_in_force_once_it_is_prepared() -> None:
    async def test(stage: Stage) -> None:
        session, listener = open_session(
            stage.engine, "everything", 3_840, channels=3, chunk_seconds=Fraction(2, 25), offline=False
        )
        stage.board.look()
        assert await stage.say("/session/1/text/prompt") == [("/session/1/text/prompt", ["a rhodes"])]
        assert await stage.say("/session/1/text/prompt", "a cello, slowly") == []
        while session._texts is not None and session._texts.busy:
            await asyncio.sleep(0.001)
        session.write_frames(0, np.zeros((2, 2), np.int32))
        session.write(0, np.zeros((3, 3_840), np.float32))
        session.write(3_840, np.zeros((3, 3_840), np.float32))  # the resampler holds some back
        listener.wait(lambda: bool(listener.blocks()))
        assert await stage.say("/session/1/text/prompt") == [("/session/1/text/prompt", ["a cello, slowly"])]
        assert "at most 512" in error(await stage.say("/session/1/text/prompt", "x" * 600))[1]

    scene(test, everything=EverythingStream())


def test_a_parameter_that_is_fixed_and_a_render_are_not_steered() -> None:
    async def test(stage: Stage) -> None:
        live(stage)
        open_session(stage.engine, "gain", BLOCK)  # offline
        stage.board.look()
        assert "read only" in error(await stage.say("/session/1/parameter/fixed", 1.0))[1]
        assert "a render" in error(await stage.say("/session/2/parameter/gain", 1.0))[1]
        assert "its client has opened it" in error(await stage.say("/session/1/seed", "7"))[1]
        assert "its client has opened it" in error(await stage.say("/session/1/pack", "gain"))[1]

    scene(test)


# ---- addresses -----------------------------------------------------------------------------------------------


def test_sessions_have_short_names_and_ids() -> None:
    async def test(stage: Stage) -> None:
        session = live(stage)
        live(stage)
        stage.board.look()
        assert await stage.say(f"/session/{session.id}/name") == [(f"/session/{session.id}/name", ["1"])]
        assert await stage.say("/session/1/name", "singer") == []
        assert await stage.say("/sessions") == [("/sessions", ["singer", "2"])]
        assert "called '2' already" in error(await stage.say("/session/singer/name", "2"))[1]
        assert "no short name" in error(await stage.say("/session/singer/name", "a/b"))[1]
        assert "use singer, 2" in error(await stage.say("/session/1/name"))[1]

    scene(test)


def test_a_pattern_reads_all_that_it_means_and_closes_nothing() -> None:
    async def test(stage: Stage) -> None:
        sessions = [live(stage), live(stage)]
        stage.board.look()
        said = await stage.say("/session/*/pack")
        assert said == [("/session/1/pack", ["gain"]), ("/session/2/pack", ["gain"])]
        assert "/session/1/parameter/gain" in dict(await stage.say("/session/1/*"))
        assert "asks, and sets nothing" in error(await stage.say("/session/1/*", 1.0))[1]
        stage.board.look()
        assert list(stage.board.sessions) == ["1", "2"]
        assert await stage.say("/session/{1,2}/parameter/gain", 0.5) == []
        for session in sessions:
            session.take.changes.apply(0, Fraction(0), None, 0)
            assert session.take.changes.parameters["gain"] == 0.5
        said = await stage.say("/session/[12]/close")
        assert said == [("/session/1/close", ["closed"]), ("/session/2/close", ["closed"])]
        settle(stage.engine)
        stage.board.look()
        assert not stage.board.sessions

    scene(test)


@pytest.mark.parametrize(
    ("pattern", "address", "meant"),
    [
        ("/a/*", "/a/b", True),
        ("/a/*", "/a/b/c", True),  # all below
        ("/a/*/c", "/a/b/d/c", False),
        ("/a?/c", "/ab/c", True),
        ("/a?/c", "/a/c", False),
        ("/[!ab]x", "/cx", True),
        ("/{in,out}put", "/output", True),
        ("/{in,out}put", "/put", False),
        ("/a.c", "/abc", False),
    ],
)
def test_patterns_mean_what_osc_says(pattern: str, address: str, meant: bool) -> None:
    assert matcher(pattern)(address) is meant


def test_a_pattern_of_too_many_alternatives_is_refused_at_once() -> None:
    with pytest.raises(BadInput, match="alternatives"):
        matcher("/" + "{a,b}" * 40)
    assert not matcher("/" + "*a" * 60 + "b")("/" + "a" * 200)  # no backtracking without end


# ---- order, and how much at once -----------------------------------------------------------------------------


def test_messages_of_one_sender_begin_in_their_order_while_the_packs_are_looked_at() -> None:
    async def test(stage: Stage) -> None:
        session, looked, entries = live(stage), threading.Event(), stage.board.house.loads.entries
        stage.board.look()

        def slow() -> Any:
            assert looked.wait(20)
            return entries()

        stage.board.house.loads.entries = slow  # type: ignore[method-assign]
        stage.board._looked_at_packs = float("-inf")
        other = Remembering("other")
        for packet in (
            message("/packs"),
            message("/session/*/name", "singer"),
            message("/session/singer/parameter/gain", 0.25),
            message("/{session,pack}/*/parameter/gain", 0.5),
            message("/session/singer/parameter/gain", 0.75),
        ):
            stage.board.receive(packet, stage.peer)
        assert await stage.begin(message("/session/1/name"), other) == [("/session/1/name", ["1"])]  # nobody else waits
        looked.set()
        said = await stage.say("/session/singer/name")
        assert [address for address, _ in said] == ["/packs", "/session/singer/name"]
        session.take.changes.apply(0, Fraction(0), None, 0)
        assert session.take.changes.parameters["gain"] == 0.75

    scene(test)


def test_whose_messages_wait_keeps_nobody_else_waiting() -> None:
    async def test(stage: Stage) -> None:
        session = live(stage)
        stage.play(session, 0.1)
        late = bundle(tag_at(WALL + stage.clock() + 30), message("/session/1/name", "late"))
        for _ in range(WAITING):
            stage.board.receive(late, stage.peer)
        asked = message("/server/device")
        assert "too many messages wait already" in error(await stage.begin(asked, stage.peer))[1]
        assert await stage.begin(asked, Remembering("other")) == [("/server/device", ["cpu"])]
        await stage.board.stop()

    scene(test)


def test_one_message_is_answered_only_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "TELLING_BYTES", 2_000)

    async def test(stage: Stage) -> None:
        for _ in range(3):
            live(stage)
        stage.board.look()
        *told, (address, values) = await stage.say("/*")
        assert sum(len(message(*told)) for told in ((name, *given) for name, given in told)) < 2_000 + 200
        assert len(told) > 10
        assert (address, values[0]) == ("/error", "/*")
        assert "more than 2000 bytes: the rest is left out" in values[1]
        assert len(await stage.say("/session/1/parameter/*")) == 2
        said = await stage.say("/session/{1,2,3}/[a-z]*", 1.0)  # most can be read only
        assert 2 < len(said) < 40
        assert sum(len(message(address, *values)) for address, values in said) <= 2_000

    scene(test)


def test_an_error_is_told_in_so_many_words(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(stage: Stage) -> None:
        stage.board.tell_error(stage.peer, "/open", BadInput("x" * 60_000))
        assert len(error(stage.peer.taken())[1]) == 1_000

    scene(test)


# ---- subscribers ---------------------------------------------------------------------------------------------


def test_each_subscriber_is_told_what_it_asked_for_until_its_lease_ends() -> None:
    async def test(stage: Stage) -> None:
        session = live(stage)
        stage.board.look()
        one, other = Remembering("one"), Remembering("other")
        assert await stage.send(message("/subscribe", "/session/1/parameter/*"), one) == [
            ("/subscribe", ["/session/1/parameter/*", LEASE_SECONDS])
        ]
        await stage.send(message("/subscribe", "/session/*/late_chunks"), other)
        stage.board.look()
        assert one.taken() == [("/session/1/parameter/gain", [1.0]), ("/session/1/parameter/fixed", [0.0])]
        assert other.taken() == [("/session/1/late_chunks", [0])]
        await stage.say("/session/1/parameter/gain", 3.0)
        stage.play(session, 0.2)
        assert one.taken() == [("/session/1/parameter/gain", [3.0])]  # what has changed, once
        assert other.taken() == []
        stage.clock.turn(LEASE_SECONDS - 1)
        assert await stage.send(message("/ping"), other) == [("/ping", [LEASE_SECONDS])]
        stage.clock.turn(2.0)
        stage.board.look()
        assert set(stage.board._subscribers) == {"other"}
        assert await stage.send(message("/ping"), one) == [("/ping", [0.0])]
        assert await stage.send(message("/unsubscribe"), other) == [("/unsubscribe", [0])]
        assert not stage.board._subscribers

    scene(test)


def test_a_rate_is_kept_and_the_newest_value_told() -> None:
    async def test(stage: Stage) -> None:
        session = live(stage)
        stage.board.look()
        await stage.say("/subscribe", "/session/1/position", 2.0)
        stage.play(session, 3.0)
        positions = [values[0] for _, values in stage.peer.taken()]
        assert 5 <= len(positions) <= 7
        assert positions == sorted(positions)

    scene(test)


def test_the_end_of_a_session_is_told_with_its_reason() -> None:
    async def test(stage: Stage) -> None:
        session = live(stage)
        stage.board.look()
        await stage.say("/subscribe", "/session/*")
        stage.board.look()
        stage.peer.taken()
        session.abort(BadInput("the client has gone mad"))
        settle(stage.engine)
        stage.board.look()
        said = stage.peer.taken()
        assert ("/session/1/state", ["closed"]) in said
        assert ("/error", ["/session/1", "the client has gone mad", "INVALID_ARGUMENT"]) in said

    scene(test)


def test_subscribers_are_as_many_as_may() -> None:
    async def test(stage: Stage) -> None:
        for number in range(SUBSCRIBERS):
            await stage.send(message("/subscribe"), Remembering(str(number)))
        assert "try again later" in error(await stage.say("/subscribe"))[1]
        assert len(stage.board._subscribers) == SUBSCRIBERS

    scene(test)


# ---- too much, and what is no OSC ----------------------------------------------------------------------------


def test_who_sends_too_much_is_passed_over_and_told_once_and_nobody_else() -> None:
    async def test(stage: Stage) -> None:
        loud, quiet = Remembering("loud"), Remembering("quiet")
        packet = message("/server/version")
        for _ in range(int(BURST)):
            stage.board.receive(packet, loud)
            await asyncio.sleep(0)
        said = [address for address, _ in await stage.send(packet, loud)]
        assert said.count("/error") == 1
        assert said.count("/server/version") < BURST
        assert [address for address, _ in await stage.send(packet, quiet)] == ["/server/version"]
        stage.clock.turn(1.0)
        assert [address for address, _ in await stage.send(packet, loud)] == ["/server/version"]

    scene(test)


def test_fuzz_harms_nothing_and_a_session_plays_on() -> None:
    async def test(stage: Stage) -> None:
        session = live(stage)
        stage.play(session, 0.1)
        addresses = [leaf.address for leaf in stage.board.leaves() if not leaf.address.endswith("/close")]
        for number, packet in enumerate(fuzzed(10_000, 2, addresses)):
            stage.board.receive(packet, Remembering(str(number % 7)))
            if number % 50 == 0:
                stage.board._allowances = type(stage.board._allowances)(stage.clock)  # all of it is heard
                await asyncio.sleep(0)
                stage.play(session, BLOCK / RATE)
        assert max(stage.board._waiting.values(), default=0) <= 256  # those that wait for a time tag
        stage.play(session, 1.0)
        assert session.totals.chunks > 30
        assert session.totals.late_chunks == 0
        [(_, said)] = await stage.send(message("/sessions"), Remembering("sane"))
        assert len(said) == 1

    scene(test)


def test_what_a_peer_could_not_take_it_is_told_once_it_can() -> None:
    class Full(Remembering):
        def send(self, packet: bytes) -> bool:
            return not full and super().send(packet)

    full = False

    async def test(stage: Stage) -> None:
        nonlocal full
        session, peer = live(stage), Full("socket")
        stage.board.look()
        stage.board.listen(peer, "/session/1/parameter/gain")
        stage.board.look()
        assert [values for _, values in peer.taken()] == [[1.0]]
        full = True
        stage.play(session, 0.1)
        await stage.say("/session/1/parameter/gain", 0.5)
        stage.play(session, 0.5)
        full = False
        stage.play(session, 0.1)
        assert [values for _, values in peer.taken()] == [[0.5]]

    scene(test)


def test_who_listens_is_told_as_long_as_it_is_there_and_only_so_much() -> None:
    async def test(stage: Stage) -> None:
        session, peer = live(stage), Remembering("socket")
        stage.board.look()
        stage.board.listen(peer, "/session/1/parameter/gain")
        stage.board.look()
        assert peer.taken() == [("/session/1/parameter/gain", [1.0])]
        await stage.send(message("/ping"), peer)
        stage.clock.turn(100 * LEASE_SECONDS)
        await stage.say("/session/1/parameter/gain", 2.0)
        stage.play(session, 0.5)
        assert peer.taken() == [("/session/1/parameter/gain", [2.0])]
        stage.board._subscribers["socket"].listened |= {f"/nothing/{number}" for number in range(LISTENED - 1)}
        with pytest.raises(Refused, match="ignore some"):
            stage.board.listen(peer, "/session/1/parameter/fixed")
        await stage.send(message("/unsubscribe"), peer)
        assert "socket" in stage.board._subscribers
        for address in list(stage.board._subscribers["socket"].listened):
            stage.board.ignore(peer, address)
        assert "socket" not in stage.board._subscribers
        stage.board.listen(peer, "/session/1/parameter/gain")
        stage.board.lost("socket")
        assert "socket" not in stage.board._subscribers
        assert stage.engine.figures.errors["osc", "Refused"] == 0  # raised, and told by whoever has asked

    scene(test)


# ---- what is not served, and what `backline live` is told ----------------------------------------------------


@pytest.mark.parametrize("address", ["/session/1/chord", "/session/1/beat"])
def test_what_is_not_served_says_so(address: str) -> None:
    async def test(stage: Stage) -> None:
        live(stage)
        stage.board.look()
        asked, words, status = error(await stage.say(address))
        assert (asked, status) == (address, "UNIMPLEMENTED")
        assert "yet" in words

    scene(test)


@pytest.mark.parametrize(
    ("address", "values", "words"),
    [
        ("/scene", ["verse"], "no set list plays here"),
        ("/scene", [1.5, 2], "send the name of a scene"),
        ("/scene/next", [], "no set list plays here"),
        ("/session/1/seed", [7], "its client has opened it"),
        ("/session/1/learn", ["gain"], "its client has opened it"),
        ("/session/1/learn", [], "send a parameter"),
        ("/session/1/seed", ["-7"], "use 0 to 2^64 - 1"),
        ("/session/1/seed", [True], "use 0 to 2^64 - 1"),
        ("/session/1/next_take", [], "its client has opened it"),
        ("/session/1/pack", ["other"], "its client has opened it"),
    ],
)
def test_only_what_was_opened_here_begins_anew(address: str, values: list[Any], words: str) -> None:
    async def test(stage: Stage) -> None:
        live(stage)
        stage.board.look()
        assert words in error(await stage.say(address, *values))[1]
        assert await stage.say("/scene") == [("/scene", [])]

    scene(test)


def test_a_process_is_heard_after_a_line_without_an_end_and_told_only_so_much_that_it_does_not_read() -> None:
    code = (
        "import sys, time; print('x' * 200_000, file=sys.stderr); print('scene: loud', file=sys.stderr); time.sleep(60)"
    )

    async def test() -> None:
        live = LiveSessions([sys.executable, "-c", code], "127.0.0.1:1", lambda name, error: None)
        opening = asyncio.create_task(live.open("band", "gain", []))
        async with asyncio.timeout(20):
            while not (live.knows("band") and live._playing.get("band") and live._playing["band"].scene == "loud"):
                await asyncio.sleep(0.01)

        def tell() -> None:
            for _ in range(100_000):
                live.transport("band", Transport(0.0, True, 120.0), 0)

        with pytest.raises(Refused, match="reads nothing that it is told"):
            tell()
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        assert not live.knows("band")

    asyncio.run(test())


def test_options_of_open_are_those_of_live() -> None:
    given: list[Any] = ["tempo", 96, "set/guidance", 1.5, "text/prompt", "a rhodes", "input_device", "USB"]
    assert as_arguments(given) == ["--tempo=96", "--set=guidance=1.5", "--text=prompt=a rhodes", "--input-device=USB"]
    for wrong in (["tempo"], ["output", "/etc/passwd"], ["input", "a.wav"], ["text/prompt", "a\nb"], [7, 7]):
        with pytest.raises(BadInput):
            as_arguments(wrong)


def test_the_reason_of_a_process_is_its_own_last_word() -> None:
    assert explained(["warm", "error: no card", ""], 1) == "no card"
    assert explained([], 3) == "`backline live` has ended with code 3"
