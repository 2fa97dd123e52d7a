"""A session's takes: each is what a session of its own would play; between them nothing is lost, doubled or late."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backline.engine.engine import Engine
from backline.engine.errors import BadInput, Refused
from backline.engine.events import OutputBlock, TakeBegan
from backline.engine.limits import PENDING_CHANGES, PENDING_JUMPS
from backline.engine.seams import Seam, Seams, loop_end
from backline.engine.session import Session
from backline.models.passthrough import PassthroughConfig, PassthroughStream, Row
from backline.models.stream import Audio, ChunkInput, ChunkOutput, Codebook, Transport
from tests.support.clock import TurnedClock
from tests.support.playing import Listener, make_config, play, running, settle, write_blocks
from tests.support.streams import GainStream

RATE = 8_000
QUARTER = 1_000  # samples: 480 quarters a minute
TEMPO = 60.0 * RATE / QUARTER
CHUNK = 400  # samples
FADE = 80  # 10 ms


class StampedStream(PassthroughStream):
    """Adds to what it hears how long its take has lasted, so that takes can be told apart."""

    def _chunk(self, row: Row, given: ChunkInput) -> ChunkOutput:
        start = row.start(row.chunks)
        output = super()._chunk(row, given)
        stamp = np.arange(start, start + output.audio[0].shape[1], dtype=np.float32) / np.float32(2**14)
        stamped = tuple((audio + stamp).astype(np.float32) for audio in output.audio)
        return ChunkOutput(output.row, output.position, stamped)


def config() -> PassthroughConfig:
    return PassthroughConfig(chunk_quantum=Fraction(1, 100), default_chunk=Fraction(CHUNK, RATE))


def open_takes(
    engine: Engine, block: int = 4096, *, new_takes: bool = True, name: str = "echo", **changes: Any
) -> tuple[Session, Listener]:
    listener = Listener()
    values = {"sample_rate": RATE, "channels": 1, "chunk_seconds": Fraction(CHUNK, RATE), "visibility_seconds": 0.05}
    session = engine.open_session(
        name, make_config(**{**values, **changes}), "test", listener, block_size=block, new_takes=new_takes
    )
    listener.session = session
    return session, listener


def noise(count: int, channels: int = 1, seed: int = 3) -> Audio:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (channels, count)).astype(np.float32)


@dataclass(frozen=True)
class Told:
    """A transport, in samples: of the timeline, and of the song."""

    at: int
    playing: bool
    song: int
    loop: tuple[int, int] | None = None

    def tell(self, session: Session) -> None:
        loop = None if self.loop is None else (self.loop[0] / QUARTER, self.loop[1] / QUARTER)
        session.set_transport(self.at, playing=self.playing, tempo=TEMPO, song_position=self.song / QUARTER, loop=loop)


def slow_seams(told: Sequence[Told], start: int, end: int) -> list[int]:
    """Where takes begin, by walking the song sample by sample."""
    seams: list[int] = []
    here, playing, loop = 0, False, None
    newest = start
    by_position = {each.at: each for each in told}
    for position in range(start, end):
        wraps = playing and loop is not None and here == loop[1]
        if wraps and loop is not None:
            here = loop[0]
        change = by_position.get(position)
        jumps = change is not None and change.playing and (not playing or abs(change.song - here) > 0.1 * QUARTER)
        if change is not None:
            if not jumps and wraps:
                jumps = change.playing
            here, playing, loop = change.song, change.playing, change.loop
        else:
            jumps = wraps
        if jumps and position - newest >= CHUNK:
            seams.append(position)
            newest = position
        here += playing
    return seams


def slow_output(engine: Engine, audio: Audio, seams: Sequence[int], start: int) -> Audio:
    """Every take a session of its own, laid one after the other, each faded into the next."""
    places = [start, *seams]
    out = np.zeros_like(audio)
    for number, place in enumerate(places):
        heard = audio[:, place - start :]
        if number + 1 < len(places):
            heard = heard[:, : places[number + 1] - place + FADE]
        alone = play(
            engine, "echo", heard, 512, sample_rate=RATE, chunk_seconds=Fraction(CHUNK, RATE), visibility_seconds=0.05
        ).audio()
        begin = place - start
        fade = min(FADE, alone.shape[1]) if number else 0
        share = ((1 + np.arange(fade)) / (FADE + 1)).astype(np.float32)
        before = out[:, begin : begin + fade].copy()
        out[:, begin : begin + alone.shape[1]] = alone
        out[:, begin : begin + fade] = before + (alone[:, :fade] - before) * share
    return out


transports = st.lists(
    st.tuples(
        st.integers(0, 9_000),
        st.booleans(),
        st.integers(-2_000, 6_000),
        st.one_of(st.none(), st.tuples(st.integers(0, 3_000), st.integers(100, 3_000))),
    ),
    max_size=5,
    unique_by=lambda each: each[0],
)


@settings(max_examples=40, deadline=None)
@given(
    changes=transports,
    sizes=st.lists(st.integers(1, 2_048), min_size=1, max_size=6),
    start=st.sampled_from([0, -3_000, 12_345]),
    count=st.integers(1, 9_000),
    offline=st.booleans(),
)
def test_takes_are_sessions_of_their_own_whatever_jumps_and_however_it_is_cut(
    changes: list[tuple[int, bool, int, tuple[int, int] | None]],
    sizes: list[int], start: int, count: int, offline: bool,
) -> None:  # fmt: skip
    told = [
        Told(start + at, playing, song, None if loop is None else (loop[0], loop[0] + loop[1]))
        for at, playing, song, loop in sorted(changes, key=lambda each: each[0])
    ]
    audio = noise(count)
    with running(clock=TurnedClock(), echo=StampedStream(config())) as engine:
        session, heard = open_takes(engine, 2_048, offline=offline)
        left, at = list(told), 0
        for size in itertools.cycle(sizes):
            while left and left[0].at < start + at + size:
                left.pop(0).tell(session)
            session.write(start + at, audio[:, at : at + size])
            at += size
            if at >= count:
                break
        session.close_input()
        heard.finished()
        expected = slow_seams(told, start, start + count)
        assert [event.position for event in heard.events if isinstance(event, TakeBegan)] == expected
        assert heard.blocks()[0].position == start
        np.testing.assert_array_equal(heard.audio(), slow_output(engine, audio, expected, start))


@pytest.mark.parametrize("rate", [pytest.param(44_100, marks=pytest.mark.slow), 48_000, 192_000])
def test_a_loop_of_two_bars_gives_back_every_bit_in_time(rate: int) -> None:
    """Ten minutes at 44.1 kHz, where a bar is no whole number of samples; less at the rates that cost more."""
    clock, seconds, tempo = TurnedClock(), {44_100: 600, 48_000: 60, 192_000: 20}[rate], 121.0
    sizes = itertools.cycle([2_048] * 16 + [32, 441, 1_024, 64])
    count = rate * seconds
    audio = np.zeros((1, count), np.float32)
    seam = 8 * 60 * rate / tempo
    places = np.unique(np.concatenate([np.round(np.arange(1, int(count / seam)) * seam) + at for at in range(-3, 4)]))
    audio[0, places.astype(int)] = np.linspace(0.1, 1.0, len(places))
    stream = PassthroughStream(PassthroughConfig(chunk_quantum=Fraction(1, 100), default_chunk=Fraction(2, 5)))
    with running(clock=clock, echo=stream) as engine:
        session, heard = open_takes(
            engine, 2_048, sample_rate=rate, chunk_seconds=Fraction(2, 5), visibility_seconds=0.4, offline=False
        )
        session.set_transport(0, playing=True, tempo=tempo, song_position=8.0, bar_start=8.0, loop=(8.0, 16.0))
        at = 0
        while at < count:
            size = min(next(sizes), count - at)
            clock.turn(size / rate)
            session.write(at, audio[:, at : at + size])
            at += size
            if session.ready():
                settle(engine)
                due = at - session.ledger.latency_samples
                newest = next((each for each in reversed(heard.events) if isinstance(each, OutputBlock)), None)
                assert newest is None or newest.committed >= due, "output that is due has not come"
        session.close_input()
        heard.finished()
        takes = [event for event in heard.events if isinstance(event, TakeBegan)]
    np.testing.assert_array_equal(heard.audio(), audio)
    assert [take.position for take in takes] == [int(np.ceil(round(n * seam, 6))) for n in range(1, len(takes) + 1)]
    assert len(takes) == int((count - 1) / seam)
    assert all(take.heard_from == take.position for take in takes)
    assert not heard.warnings("late_output")


def test_a_take_that_plays_ahead_begins_at_its_loops_seam_before_the_input_comes_there() -> None:
    with running(clock=TurnedClock(), echo=StampedStream(config())) as engine:
        session, heard = open_takes(engine, offline=False, visibility_seconds=-0.2)
        session.set_transport(0, playing=True, tempo=TEMPO, loop=(0.0, 4.0))
        write_blocks(session, noise(2_600), 100)
        settle(engine)
        (take,) = [event for event in heard.events if isinstance(event, TakeBegan)]
        assert (take.position, take.heard_from) == (4_000, 4_000)
        write_blocks(session, noise(6_000), 100, 2_600)
        session.close_input()
        heard.finished()
    stamps = np.arange(8_600) % 4_000 / np.float32(2**14)
    settled = np.ones(8_600, bool)
    settled[4_000 : 4_000 + FADE] = settled[8_000 : 8_000 + FADE] = False
    np.testing.assert_allclose(heard.audio()[0, settled], stamps[settled], atol=1e-6)


def test_a_jump_that_is_told_late_is_heard_once_what_went_out_is_over() -> None:
    with running(clock=TurnedClock(), echo=StampedStream(config())) as engine:
        session, heard = open_takes(engine, offline=False, visibility_seconds=-0.2)
        session.set_transport(0, playing=True, tempo=TEMPO)
        write_blocks(session, noise(2_000), 100)
        settle(engine)
        gone = heard.blocks()[-1].committed
        assert gone > 2_000
        session.set_transport(2_000, playing=True, tempo=TEMPO, song_position=8.0)
        write_blocks(session, noise(4_000), 100, 2_000)
        session.close_input()
        heard.finished()
    (take,) = [event for event in heard.events if isinstance(event, TakeBegan)]
    assert (take.position, take.heard_from) == (2_000, gone)
    places = np.arange(6_000)
    stamps = np.where(places < gone, places, places - 2_000) / np.float32(2**14)
    settled = (places < gone) | (places >= gone + FADE)
    np.testing.assert_allclose(heard.audio()[0, settled], stamps[settled], atol=1e-6)


def test_stopping_begins_no_take_starting_does_and_a_count_in_may_lie_before_the_song() -> None:
    with running(echo=StampedStream(config())) as engine:
        session, heard = open_takes(engine)
        for told in (
            Told(0, True, -4_000), Told(5_000, False, 1_000), Told(7_000, False, 9_000), Told(9_000, True, 9_000),
            Told(12_000, True, -4_000),
        ):  # fmt: skip
            told.tell(session)
        write_blocks(session, noise(14_000), 333)
        session.close_input()
        heard.finished()
    assert [event.position for event in heard.events if isinstance(event, TakeBegan)] == [9_000, 12_000]


def test_without_being_asked_to_a_session_plays_one_take() -> None:
    with running(echo=StampedStream(config())) as engine:
        session, heard = open_takes(engine, new_takes=False)
        session.set_transport(0, playing=True, tempo=TEMPO, loop=(0.0, 2.0))
        session.set_transport(5_000, playing=True, tempo=TEMPO, song_position=99.0)
        write_blocks(session, noise(9_000), 333)
        session.close_input()
        heard.finished()
    assert not [event for event in heard.events if isinstance(event, TakeBegan)]


def test_parameters_transport_and_keys_go_on_in_the_next_take() -> None:
    stream = GainStream(rate=None, channels=None)
    stream.spec = stream.spec.__class__(**{**vars(stream.spec), "takes_notes": True})
    with running(gain=stream) as engine:
        session, heard = open_takes(
            engine, name="gain", sample_rate=48_000, chunk_seconds=Fraction(2, 25), visibility_seconds=0.08
        )
        session.control("gain", 0.25, position=0)
        session.midi(10, bytes([0x90, 60, 100]))
        session.midi(20, bytes([0x90, 64, 90]))
        session.midi(4_000, bytes([0x80, 60, 0]))
        session.set_transport(0, playing=True, tempo=60.0, song_position=4.0, bar_start=4.0)
        session.begin_take(48_000)
        write_blocks(session, noise(96_000), 1_000)
        session.close_input()
        heard.finished()
    first = next(index for index, call in enumerate(stream.calls) if index and call[0].notes[:1] and index > 5)
    given = stream.calls[first][0]
    assert given.parameters["gain"] == 0.25
    assert [(notes.position, notes.data) for notes in given.notes] == [(0, bytes([0x90, 64, 90]))]
    assert given.transport == Transport(0.0, True, 60.0, song_position=5.0, bar_start=4.0)


def test_what_was_skipped_is_silent_and_never_computed() -> None:
    with running(clock=TurnedClock(), echo=StampedStream(config())) as engine:
        session, heard = open_takes(engine, offline=False)
        write_blocks(session, noise(1_000), 100)
        settle(engine)
        session.write(1_000, noise(390))  # less than a chunk more: it waits
        settle(engine)
        assert heard.blocks()[-1].committed == 1_200
        session.begin_take(3_000, skipped=True)
        write_blocks(session, noise(4_000), 100, 1_390)
        session.close_input()
        heard.finished()
        chunks = session.totals.chunks
    (take,) = [event for event in heard.events if isinstance(event, TakeBegan)]
    assert take == TakeBegan(1, 3_000, 1_200, skipped=True)
    output = heard.audio()[0]
    assert output.shape == (5_390,)
    assert not output[1_200:3_000].any()
    assert output[3_000:].any()
    assert chunks == 3 + 6


@pytest.mark.parametrize("loop", [(float("nan"), 4.0), (0.0, float("inf")), (-1e300, 4.0), (0.0, 1e8)], ids=str)
def test_a_loop_that_no_song_has_is_refused(loop: tuple[float, float]) -> None:
    with running(echo=StampedStream(config())) as engine:
        session, _ = open_takes(engine)
        with pytest.raises(BadInput, match="use -1e7 to 1e7 quarter notes"):
            session.set_transport(0, playing=True, tempo=TEMPO, loop=loop)
        session.abort()


@pytest.mark.parametrize("loop", [(0.0, 0.0), (4.0, 0.0), (1.0, 1.001)], ids=str)
def test_an_empty_loop_is_none(loop: tuple[float, float]) -> None:
    with running(echo=StampedStream(config())) as engine:
        session, heard = open_takes(engine)
        session.set_transport(0, playing=True, tempo=TEMPO, loop=loop)
        write_blocks(session, noise(9_000), 500)
        session.close_input()
        heard.finished()
    assert not [event for event in heard.events if isinstance(event, TakeBegan)]


def test_a_client_that_jumps_with_every_block_gets_takes_of_a_chunk_at_least_and_no_more_memory() -> None:
    with running(echo=StampedStream(config())) as engine:
        session, heard = open_takes(engine)
        most = 0
        for at in range(0, 40_000, 50):
            session.set_transport(at, playing=True, tempo=TEMPO, song_position=at % 7 * 9.0)
            session.write(at, noise(50))
            most = max(most, len(session.takes._takes))
        session.close_input()
        heard.finished()
    places = [0, *(event.position for event in heard.events if isinstance(event, TakeBegan)), 40_000]
    assert min(np.diff(places)) >= CHUNK
    assert most <= 9
    assert heard.audio().shape[1] == 40_000


def test_no_more_takes_wait_than_changes_may() -> None:
    with running(echo=StampedStream(config())) as engine:
        session, _ = open_takes(engine)
        session.write(0, noise(100))
        for number in range(PENDING_CHANGES):
            session.takes._seams.add(Seam(10_000 + number))
        with pytest.raises(Refused, match="ask for fewer"):
            session.begin_take(5_000)
        session.abort()


def test_of_many_takes_that_are_asked_for_the_first_that_may_begin_is_found() -> None:
    seams = Seams(RATE, Fraction(CHUNK), on_jump=False)
    for position in (0, 0, CHUNK - 1, CHUNK, CHUNK, 3 * CHUNK):
        seams.add(Seam(position))
    assert seams.after(0, 0) == Seam(CHUNK)
    assert seams.after(CHUNK + 1, 0) == Seam(3 * CHUNK)
    assert seams.after(3 * CHUNK, 0) is None


def test_transports_that_may_begin_takes_wait_within_bounds() -> None:
    """Each is held against all that wait, on the thread that serves everyone."""
    with running(echo=StampedStream(config())) as engine:
        session, _ = open_takes(engine)
        session.write(0, noise(100))
        for index in range(PENDING_JUMPS):
            session.set_transport(10_000 + index, playing=False, tempo=TEMPO, song_position=index * 9.0)
        with pytest.raises(Refused, match="send each with the audio"):
            session.set_transport(5_000, playing=False, tempo=TEMPO)
        session.set_transport(10_000, playing=False, tempo=TEMPO, song_position=1.0)  # in the place of another
        session.abort()


def test_a_block_that_is_overtaken_by_the_end_comes_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else closes the input while its client writes."""
    with running(echo=StampedStream(config())) as engine:
        session, heard = open_takes(engine)
        write_blocks(session, noise(1_000), 100)
        timeline = session.takes.timeline
        gap_before = timeline.gap_before

        def overtaken(position: int) -> int:
            session.takes.close()
            return gap_before(position)

        monkeypatch.setattr(timeline, "gap_before", overtaken)
        session.write(1_000, noise(100))
        session.close_input()
        heard.finished()
    assert heard.audio().shape[1] == timeline.received == session.totals.samples_in == 1_000


def test_a_pack_that_takes_codec_frames_has_one_take() -> None:
    stream = GainStream()
    stream.spec = stream.spec.__class__(
        **{**vars(stream.spec), "takes": (Codebook("a", 4),), "frame_rate": Fraction(25)}
    )
    stream.required_frames = lambda row: 0  # type: ignore[attr-defined]
    with running(gain=stream) as engine:
        with pytest.raises(BadInput, match="ON_JUMP_CONTINUE"):
            open_takes(engine, name="gain", sample_rate=48_000, chunk_seconds=Fraction(2, 25))
        session, _ = open_takes(engine, name="gain", new_takes=False, sample_rate=48_000, chunk_seconds=Fraction(2, 25))
        with pytest.raises(BadInput, match="ON_JUMP_CONTINUE"):
            session.begin_take(0)
        session.abort()


def test_a_row_that_cannot_begin_anew_ends_its_session_and_is_given_back() -> None:
    stream = StampedStream(config())
    with running(echo=stream) as engine:
        session, heard = open_takes(engine)
        session.begin_take(1_000)
        stream.open = lambda config: 1 // 0  # type: ignore[method-assign]
        write_blocks(session, noise(4_000), 500)
        assert isinstance(heard.failed().error, ZeroDivisionError)
        assert session.closed.wait(5)
        assert not stream._rows


@given(
    quarter=st.integers(500, 3_000),
    start=st.integers(0, 20),
    length=st.integers(1, 20),
    earliest=st.integers(0, 90_000),
)
def test_a_loops_end_is_the_first_place_that_counting_finds(
    quarter: int, start: int, length: int, earliest: int
) -> None:
    transport = Transport(
        0.0, True, 60.0 * RATE / quarter, song_position=float(start), loop=(float(start), float(start + length))
    )
    found = loop_end(transport, earliest, RATE)
    assert found == next(place for place in itertools.count(length * quarter, length * quarter) if place >= earliest)


def test_seams_forget_what_lies_behind() -> None:
    seams = Seams(RATE, Fraction(CHUNK), on_jump=True)
    for position in range(0, 100_000, 100):
        seams.add_transport(position, Transport(position / RATE, True, 100.0 + position / 1000))
        seams.forget(position)
    assert len(seams._told) <= 2


@settings(max_examples=12, deadline=None)
@given(
    changes=transports,
    visibility=st.sampled_from([-0.3, -0.1, 0.02]),
    late=st.integers(0, 600),
    sizes=st.lists(st.integers(1, 700), min_size=1, max_size=4),
)
def test_whatever_is_told_when_no_sample_is_lost_or_doubled_and_every_pass_is_a_takes(
    changes: list[tuple[int, bool, int, tuple[int, int] | None]], visibility: float, late: int, sizes: list[int]
) -> None:
    """Live and ahead of what is heard, with transports that come after their place and take back what they foretold."""
    told = [
        Told(at, playing, song, None if loop is None else (loop[0], loop[0] + loop[1]))
        for at, playing, song, loop in sorted(changes, key=lambda each: each[0])
    ]
    count = 9_000
    with running(clock=TurnedClock(), echo=StampedStream(config())) as engine:
        session, heard = open_takes(engine, offline=False, visibility_seconds=visibility)
        at = 0
        for size in itertools.cycle(sizes):
            while told and told[0].at + late < at + size:
                told.pop(0).tell(session)
            if size % 3 == 0:
                settle(engine)
            session.write(at, noise(min(size, count - at)))
            at += size
            if at >= count:
                break
        session.close_input()
        heard.finished()
    takes = [event for event in heard.events if isinstance(event, TakeBegan)]
    assert heard.audio().shape[1] >= count  # more, where it had played ahead of an end that it did not know
    begins = [0, *(take.position for take in takes)]
    hears = [0, *(take.heard_from for take in takes)]
    assert all(np.diff([*begins, max(count, begins[-1] + CHUNK)]) >= CHUNK)
    assert all(hear >= begin for hear, begin in zip(hears, begins, strict=True))
    if visibility < 0:  # it hears nothing that could be told apart from the stamps
        output = heard.audio()[0]
        for number, (begin, hear) in enumerate(zip(begins, hears, strict=True)):
            end = min(hears[number + 1] if number + 1 < len(hears) else count, count)
            places = np.arange(hear + (FADE if number else 0), end)
            np.testing.assert_allclose(output[places], (places - begin) / 2**14, atol=1e-6)
