"""What a session does with odd input, with controls and transports, and with clients that stall or vanish."""

import threading
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backline.engine.errors import BadInput, EngineError, NotFound
from backline.engine.events import Failed, Finished, Totals
from backline.engine.session import State
from backline.models.passthrough import PassthroughConfig, PassthroughStream
from backline.models.stream import Audio, Transport
from tests.support.playing import fill, make_config, open_session, play, running, settle, write_blocks
from tests.support.streams import GainStream

CHUNK = 3_840  # samples of 80 ms at 48 kHz


def noise(count: int, channels: int = 2) -> Audio:
    return np.random.default_rng(5).uniform(-0.5, 0.5, (channels, count)).astype(np.float32)


def plain() -> GainStream:
    """At the session's rate and channels: its output is its input."""
    return GainStream(rate=None, channels=None, capacity=8)


def test_missing_input_becomes_silence_and_is_warned_of() -> None:
    audio = noise(10_000)
    with running(gain=plain()) as engine:
        session, heard = open_session(engine, "gain", 10_000)
        session.write(500, audio[:, :4_000])
        session.write(500 + 5_000, audio[:, 5_000:])
        session.close_input()
        heard.finished()
    expected = audio.copy()
    expected[:, 4_000:5_000] = 0.0
    assert np.array_equal(heard.audio(), expected)
    (warning,) = heard.warnings("input_gap")
    assert (warning.count, warning.position) == (1_000, 5_500)


def test_a_gap_longer_than_the_ring_is_filled_piece_by_piece() -> None:
    with running(gain=plain()) as engine:
        session, heard = open_session(engine, "gain")
        session.write(0, noise(100))
        session.write(48_000 * 10, noise(100))
        assert session.takes.timeline.received == 48_000 * 10 + 100
        session.close_input()
        assert heard.finished().totals.samples_out == 48_000 * 10 + 100
    assert sum(warning.count for warning in heard.warnings("input_gap")[-1:]) <= 48_000 * 10
    assert session.warnings.counts["input_gap"] == 48_000 * 10 - 100


def test_samples_that_are_not_finite_become_zero_and_the_show_goes_on() -> None:
    audio = noise(8_000)
    bad = audio.copy()
    bad[0, 100], bad[1, 200], bad[:, 5_000] = np.nan, np.inf, -np.inf
    with running(gain=plain()) as engine:
        heard = play(engine, "gain", bad, 1_000)
    audio[0, 100] = audio[1, 200] = audio[0, 5_000] = audio[1, 5_000] = 0.0
    assert np.array_equal(heard.audio(), audio)
    assert [(warning.count, warning.position) for warning in heard.warnings("non_finite_input")] == [(2, 0), (4, 5_000)]


def test_a_model_that_gives_nan_is_silenced_and_warned_of() -> None:
    stream = plain()
    with running(gain=stream) as engine:
        session, heard = open_session(engine, "gain", 10_000)
        stream.before_step = lambda inputs: inputs[0].audio.__setitem__((0, 7), np.nan)
        session.write(0, noise(CHUNK))
        session.close_input()
        heard.finished()
    assert heard.audio()[0, 7] == 0.0
    assert heard.warnings("non_finite_output")[0].count == 1


def test_input_that_goes_back_is_refused_and_the_session_can_go_on() -> None:
    with running(gain=plain()) as engine:
        session, heard = open_session(engine, "gain")
        session.write(100, noise(50))
        with pytest.raises(BadInput, match="goes back: input up to 150"):
            session.write(149, noise(50))
        session.write(150, noise(50))
        session.close_input()
        assert heard.finished().totals.samples_in == 100


def test_blocks_of_the_wrong_shape_or_size_or_after_the_end_are_refused() -> None:
    with running(gain=plain()) as engine:
        session, _ = open_session(engine, "gain", block_size=512)
        with pytest.raises(BadInput, match="513 samples: this session takes at most 512"):
            session.write(0, noise(513))
        with pytest.raises(BadInput, match="with 2 channels"):
            session.write(0, noise(5, channels=3))
        session.close_input()
        with pytest.raises(BadInput, match="after the end of the input"):
            session.write(0, noise(5))


def test_midi_is_logged_at_its_place_in_the_session() -> None:
    origin = 1_000
    with running(gain=plain()) as engine:
        session, heard = open_session(engine, "gain")
        session.midi(origin + CHUNK + 3, b"\x80<\0")
        session.midi(origin, b"\x90<d\x90@d")
        write_blocks(session, np.ones((2, 4 * CHUNK), np.float32), 1_000, start=origin)
        with pytest.raises(BadInput, match="position 999 is outside of the session"):
            session.midi(origin - 1, b"\x80<\0")
        session.close_input()
        heard.finished()
    assert [(event.at, event.change) for event in session.take.changes.log] == [
        (0, b"\x90<d\x90@d"),
        (CHUNK + 3, b"\x80<\0"),
    ]


def test_a_control_holds_from_the_first_chunk_at_or_after_its_position() -> None:
    origin = 1_000
    with running(gain=plain()) as engine:
        session, heard = open_session(engine, "gain")
        session.control("gain", 0.5, position=origin + CHUNK)  # exactly a chunk's start
        session.control("gain", 0.25, position=origin + 2 * CHUNK + 1)  # one sample after one
        write_blocks(session, np.ones((2, 4 * CHUNK), np.float32), 1_000, start=origin)
        session.close_input()
        heard.finished()
    levels = heard.audio()[0, CHUNK // 2 :: CHUNK]
    assert levels.tolist() == [1.0, 0.5, 0.5, 0.25]
    assert [(event.at, event.change) for event in session.take.changes.log] == [
        (CHUNK, ("gain", 0.5)),
        (3 * CHUNK, ("gain", 0.25)),
    ]


def test_controls_take_effect_in_the_order_of_their_positions_not_of_their_arrival() -> None:
    with running(gain=plain()) as engine:
        session, heard = open_session(engine, "gain")
        session.control("gain", 0.25, position=CHUNK)
        session.control("gain", 0.5, position=10)
        write_blocks(session, np.ones((2, 2 * CHUNK), np.float32), 4_096)
        session.close_input()
        heard.finished()
    assert heard.audio()[0, -1] == 0.25


def test_a_control_without_position_takes_the_next_chunk_live_and_the_inputs_end_offline() -> None:
    for offline, expected in ((False, [1.0, 0.5, 0.5]), (True, [1.0, 1.0, 0.5])):
        with running(gain=plain()) as engine:
            session, heard = open_session(engine, "gain", offline=offline)
            write_blocks(session, np.ones((2, CHUNK + 100), np.float32), 4_096)
            settle(engine)
            session.control("gain", 0.5)
            write_blocks(session, np.ones((2, 2 * CHUNK - 100), np.float32), 4_096, start=CHUNK + 100)
            session.close_input()
            heard.finished()
        assert heard.audio()[0, CHUNK // 2 :: CHUNK].tolist() == expected


def test_a_control_that_comes_too_late_is_applied_and_warned_of() -> None:
    with running(gain=plain()) as engine:
        session, heard = open_session(engine, "gain")
        write_blocks(session, np.ones((2, 2 * CHUNK), np.float32), 4_096)
        settle(engine)
        session.control("gain", 0.5, position=0)
        write_blocks(session, np.ones((2, CHUNK), np.float32), 4_096, start=2 * CHUNK)
        session.close_input()
        heard.finished()
    assert heard.audio()[0, -1] == 0.5
    assert heard.warnings("late_event")[0].position == 0
    assert session.take.changes.log[0].at == 2 * CHUNK


def test_impossible_controls_are_refused() -> None:
    with running(gain=plain()) as engine:
        session, _ = open_session(engine, "gain")
        with pytest.raises(NotFound, match="no parameter 'pitch' in 'gain': use gain, fixed"):
            session.control("pitch", 1.0)
        with pytest.raises(BadInput, match="use 0 to 4"):
            session.control("gain", 5.0)
        with pytest.raises(BadInput, match="fixed when the session opens"):
            session.control("fixed", 1.0)


def test_a_chunk_gets_the_newest_transport_before_the_end_of_its_input() -> None:
    stream = plain()
    with running(gain=stream) as engine:
        session, heard = open_session(engine, "gain")
        session.set_transport(100, playing=True, tempo=120)
        session.set_transport(100 + CHUNK, playing=True, tempo=90, numerator=3)
        session.set_transport(100 + 2 * CHUNK + 1, playing=False, tempo=60)
        write_blocks(session, noise(4 * CHUNK), 4_096, start=100)
        session.close_input()
        heard.finished()
    seen = [call[0].transport for call in stream.calls]
    assert [transport.tempo for transport in seen if transport] == [120, 90, 60, 60]
    assert seen[1] == Transport(CHUNK / 48_000, True, 90, 3)
    assert [event.at for event in session.take.changes.log] == [0, CHUNK, 2 * CHUNK + 1]


def test_a_transport_that_only_says_what_follows_from_the_last_is_no_event() -> None:
    stream = plain()
    with running(gain=stream) as engine:
        session, heard = open_session(engine, "gain")
        for position in range(0, 4 * CHUNK, 64):  # as a plugin does, with every block
            session.set_transport(position, playing=True, tempo=120, song_position=8 + position / 48_000 * 2)
            session.write(position, noise(64))
        session.set_transport(4 * CHUNK, playing=True, tempo=120, song_position=0.0)  # a jump is one
        write_blocks(session, noise(CHUNK), 4_096, start=4 * CHUNK)
        session.close_input()
        heard.finished()
    assert [event.at for event in session.take.changes.log] == [0, 4 * CHUNK]
    assert all(call[0].transport == session.take.changes.log[0].change for call in stream.calls[:4])


@pytest.mark.parametrize(
    "values",
    [{"tempo": 0}, {"tempo": -1}, {"tempo": np.nan}, {"numerator": 0}, {"denominator": 3}, {"bar_start": np.inf}],
)
def test_a_transport_that_no_music_has_is_refused(values: dict[str, float]) -> None:
    with running(gain=plain()) as engine:
        session, _ = open_session(engine, "gain")
        with pytest.raises(BadInput, match="transport"):
            session.set_transport(0, **{"playing": True, "tempo": 120.0, **values})  # type: ignore[arg-type]


def test_a_client_that_does_not_read_pauses_its_session_and_nothing_grows() -> None:
    stream = plain()
    with running(gain=stream) as engine:
        session, heard = open_session(engine, "gain", acknowledges=False)
        fill(engine, session, 480)
        assert len(heard.blocks()) == session._outlet.limit == 50
        assert session.free_input() < 480
        other = play(engine, "gain", noise(20_000), 1_000)  # nobody else is disturbed
        assert other.audio().shape[1] == 20_000
        resumed = threading.Event()
        session.when_room(480, resumed.set)
        assert not resumed.is_set()
        session.acknowledge(10)
        assert resumed.wait(10)
        heard.wait(lambda: len(heard.blocks()) > 50)
        session.abort()


def test_writing_waits_for_room_and_goes_on() -> None:
    stream = plain()
    gate = threading.Event()

    def hold(inputs: object) -> None:
        assert gate.wait(20)

    stream.before_step = hold
    audio = noise(100_000)
    with running(gain=stream) as engine:
        session, heard = open_session(engine, "gain")
        writer = threading.Thread(target=write_blocks, args=(session, audio, 4_096))
        writer.start()
        while session.free_input() >= 4_096:
            assert writer.is_alive()
            time.sleep(0.001)
        gate.set()
        writer.join(20)
        session.close_input()
        heard.finished()
    assert np.array_equal(heard.audio(), audio)


def test_a_vanished_client_frees_its_row_and_wakes_whoever_waits() -> None:
    stream = plain()
    with running(gain=stream) as engine:
        session, heard = open_session(engine, "gain", acknowledges=False)
        fill(engine, session, 4_096)
        woken = threading.Event()
        session.when_room(4_096, woken.set)
        session.abort()
        assert session.closed.wait(10)
        assert woken.wait(10)
        assert not stream.rows
        assert engine.list_sessions() == []
        assert session.state is State.CLOSED
        assert not any(isinstance(event, Finished | Failed) for event in heard.events)
        session.abort()
        session.write(session.takes.timeline.end, np.zeros((2, 10), np.float32))  # heard by nobody, harmful to nobody
        session.close_input()
        settle(engine)


def test_a_client_whose_callback_fails_loses_its_own_session_only() -> None:
    stream = plain()
    with running(gain=stream) as engine:

        def fail(event: object) -> None:
            raise OSError("gone")

        broken = engine.open_session("gain", make_config(), "test", fail, block_size=4_096)
        broken.write(0, noise(CHUNK))
        assert broken.closed.wait(10)
        assert play(engine, "gain", noise(10_000), 1_000).audio().shape[1] == 10_000
        assert not stream.rows


def test_totals_say_what_has_been() -> None:
    with running(gain=plain()) as engine:
        heard = play(engine, "gain", noise(10_000), 1_000)
        session = heard.session
        assert session is not None
    totals = heard.finished().totals
    assert totals == Totals(10_000, 10_000, 3, 0, totals.compute_seconds)
    assert totals.compute_seconds > 0
    assert session.realtime_factor == pytest.approx(totals.compute_seconds / 0.24)
    assert session.totals == totals


def test_closing_a_session_by_id_gives_its_client_what_is_due() -> None:
    with running(gain=plain()) as engine:
        session, heard = open_session(engine, "gain", offline=False)
        audio = noise(1_000)
        session.write(0, audio)
        engine.close_session(session.id)
        heard.finished()
        assert np.array_equal(heard.audio(), audio)


def test_a_model_whose_chunks_do_not_advance_fails_its_session_with_a_reason() -> None:
    stream = plain()
    with running(gain=stream) as engine:
        stalled, heard = open_session(engine, "gain")
        stream.rows[stalled.row].chunk = 0
        stalled.write(0, noise(100))
        stalled.close_input()
        error = heard.failed().error
        assert isinstance(error, EngineError)
        assert "chunks do not advance" in str(error)


def test_chunks_need_not_be_whole_samples_long() -> None:
    audio = noise(44_100)
    with running(echo=PassthroughStream(PassthroughConfig())) as engine:
        heard = play(
            engine, "echo", audio, 512, sample_rate=44_100, chunk_seconds=Fraction(7, 1000), visibility_seconds=0.007
        )  # fmt: skip
    assert np.array_equal(heard.audio(), audio)


@given(blocks=st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 2_000)), max_size=12))
@settings(max_examples=15, deadline=None)
def test_any_sequence_of_blocks_and_gaps_comes_back_with_silence_in_the_gaps(blocks: list[tuple[int, int]]) -> None:
    position, parts = 0, [np.zeros((2, 0), np.float32)]
    with running(gain=plain()) as engine:
        session, heard = open_session(engine, "gain")
        for index, (gap, count) in enumerate(blocks):
            gap = gap if index else 0  # the first block is where time begins
            audio = noise(count)
            session.write(position + gap, audio)
            parts += [np.zeros((2, gap), np.float32), audio]
            position += gap + count
        session.close_input()
        heard.finished()
    expected = np.concatenate(parts, axis=1)
    output = heard.audio() if heard.blocks() else expected[:, :0]
    assert np.array_equal(output, expected)
