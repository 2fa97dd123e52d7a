"""What a session sends: markers where their position is played, no more than its client wants, and what it left out."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from backline.engine.errors import BadInput, Refused
from backline.engine.events import Marked, OutputBlock, Skipped
from backline.engine.limits import PENDING_MARKERS
from backline.models.passthrough import PassthroughConfig, PassthroughStream
from backline.models.stream import Audio
from tests.support.clock import TurnedClock
from tests.support.playing import Listener, open_session, running, settle, write_blocks

RATE, CHUNK = 48_000, 480
LIVE: dict[str, Any] = {
    "chunk_seconds": Fraction(CHUNK, RATE), "visibility_seconds": CHUNK / RATE, "offline": False,
}  # fmt: skip


def silence(samples: int) -> Audio:
    return np.zeros((2, samples), np.float32)


def echo(*ports: str) -> PassthroughStream:
    return PassthroughStream(PassthroughConfig(ports=ports or ("main",)))


def of(listener: Listener, kind: type[Any]) -> list[Any]:
    return [event for event in listener.events if isinstance(event, kind)]


def test_a_marker_comes_back_right_after_the_output_at_its_position() -> None:
    with running(echo=echo("left", "right")) as engine:
        session, listener = open_session(engine, "echo", **LIVE)
        positions = [0, 1, CHUNK - 1, CHUNK, 3 * CHUNK + 7]
        for number, position in enumerate(reversed(positions)):
            session.mark(number, 1_000 + position)
        write_blocks(session, silence(6 * CHUNK), 160, start=1_000)
        session.close_input()
        listener.finished()
        marked = of(listener, Marked)
        assert [each.position for each in marked] == [1_000 + position for position in positions]
        assert [each.id for each in marked] == [4, 3, 2, 1, 0]
        sent: dict[int, int] = {}
        for event in listener.events:
            if isinstance(event, OutputBlock):
                sent[event.port] = event.committed
            elif isinstance(event, Marked):
                assert all(0 < end - event.position <= CHUNK for end in (sent[0], sent[1]))


def test_a_marker_at_what_has_been_played_comes_at_once() -> None:
    with running(echo=echo()) as engine:
        session, listener = open_session(engine, "echo", **LIVE)
        write_blocks(session, silence(2 * CHUNK), 160)
        settle(engine)
        session.mark(7, 5)
        listener.wait(lambda: of(listener, Marked) == [Marked(7, 5)])
        session.abort()


def test_markers_are_bounded() -> None:
    with running(echo=echo()) as engine:
        session, _ = open_session(engine, "echo", **LIVE)
        for number in range(PENDING_MARKERS):
            session.mark(number, number)
        with pytest.raises(Refused, match="1024 markers wait"):
            session.mark(0, 0)
        with pytest.raises(BadInput, match="marker at position"):
            session.mark(0, 2**60)
        session.abort()


def test_nothing_is_computed_that_the_client_does_not_want_yet() -> None:
    with running(echo=echo("left", "right")) as engine:
        session, listener = open_session(engine, "echo", **LIVE)
        session.grant(0)
        write_blocks(session, silence(4 * CHUNK), 160)
        settle(engine)
        assert not listener.blocks()
        assert session.waits_for_client
        session.grant(CHUNK - 1)
        settle(engine)
        assert not listener.blocks()
        session.grant(1)
        listener.wait(lambda: len(listener.blocks(1)) == 1)
        session.grant(2 * CHUNK)
        listener.wait(lambda: len(listener.blocks(1)) == 3)
        settle(engine)
        assert len(listener.blocks(0)) == 3
        session.close_input()  # what is due then comes
        listener.finished()
        assert listener.audio(1).shape[1] == 4 * CHUNK


def test_a_take_that_ends_gives_no_more_than_is_wanted_either() -> None:
    with running(echo=echo()) as engine:
        session, listener = open_session(engine, "echo", **LIVE)
        session.grant(0)
        session.begin_take(2 * CHUNK)
        write_blocks(session, silence(6 * CHUNK), 160)
        settle(engine)
        assert not listener.blocks()
        session.grant(6 * CHUNK)
        listener.wait(lambda: bool(listener.blocks()) and listener.blocks()[-1].committed >= 4 * CHUNK)
        session.close_input()
        listener.finished()
        assert listener.audio().shape[1] == 6 * CHUNK


def test_a_change_is_heard_right_after_what_was_wanted_before_it() -> None:
    """Whatever the input is ahead: what the credit does not cover has not been computed with the old value."""
    with running(echo=echo()) as engine:
        session, listener = open_session(engine, "echo", **LIVE)
        session.grant(3 * CHUNK)
        write_blocks(session, silence(10 * CHUNK) + np.float32(1.0), 160)
        listener.wait(lambda: len(listener.blocks()) == 3)
        settle(engine)
        session.control("gain", 0.5)
        session.grant(10 * CHUNK)
        listener.wait(lambda: len(listener.blocks()) == 10)
        np.testing.assert_array_equal(listener.audio()[0], np.repeat([1.0, 0.5], [3 * CHUNK, 7 * CHUNK]))
        session.abort()


def test_what_is_dropped_is_told_and_output_and_gaps_are_contiguous() -> None:
    clock = TurnedClock()
    with running(clock=clock, echo=echo("left", "right")) as engine:
        session, listener = open_session(engine, "echo", block_size=160, **LIVE)
        session.mark(1, 10)
        latency = session.ledger.latency_samples
        session.grant(0)
        write_blocks(session, silence(20 * CHUNK), 160)
        clock.turn(10.0)  # all of it is played by now
        session.grant(100 * CHUNK)
        listener.wait(lambda: len(of(listener, Marked)) == 1)
        settle(engine)
        session.abort()
        covered = np.zeros((2, 20 * CHUNK), int)
        for skipped in of(listener, Skipped):
            covered[:, skipped.position : skipped.position + skipped.samples] += 1
        for port in (0, 1):
            for sent in listener.blocks(port):
                covered[port, sent.position : sent.position + sent.audio.shape[1]] += 1
        assert of(listener, Skipped)[0].position == 0
        assert sum(skipped.samples for skipped in of(listener, Skipped)) == 20 * CHUNK - latency > 0
        assert (covered == 1).all()
