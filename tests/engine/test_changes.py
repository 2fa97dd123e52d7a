"""What a chunk obeys, against a slow oracle; and that nobody's changes cost the others time or memory."""

import math
import time
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backline.engine.changes import Changes, Control, check_midi
from backline.engine.errors import BadInput, Refused
from backline.engine.limits import (
    FURTHEST_QUARTER,
    FURTHEST_SAMPLE,
    MIDI_BYTES,
    PENDING_CHANGES,
    PENDING_MIDI_BYTES,
)
from backline.engine.seams import jumps
from backline.models.stream import Transport

RATE = 48_000
NOTE = b"\x90<d"


def make(**parameters: float) -> Changes:
    return Changes(RATE, parameters)


def bar(tempo: float) -> Transport:
    return Transport(0.0, True, tempo)


@settings(max_examples=60, deadline=None)
@given(
    origin=st.integers(-50, 50),
    chunk=st.fractions(1, 20, max_denominator=3),
    rounds=st.lists(
        st.tuples(
            st.lists(st.tuples(st.sampled_from("ab"), st.one_of(st.none(), st.integers(-60, 160))), max_size=5),
            st.lists(st.integers(-60, 160), max_size=3),
        ),
        max_size=8,
    ),
)
def test_what_is_in_force_is_what_a_list_in_order_of_positions_says(
    origin: int, chunk: Fraction, rounds: list[tuple[list[tuple[str, int | None]], list[int]]]
) -> None:
    changes = make(a=0.0, b=0.0)
    waiting: list[tuple[int, int, str, float]] = []  # position, order, parameter, value
    transports: list[tuple[int, int, float]] = []
    expected, tempo, told_at = {"a": 0.0, "b": 0.0}, None, -math.inf
    order = 0
    for number, (controls, positions) in enumerate(rounds):
        start, previous = number * chunk, (number - 1) * chunk if number else None
        at_once: dict[str, float] = {}
        for parameter, position in controls:
            order += 1
            changes.add_control(Control(position, parameter, float(order)))
            if position is None:
                at_once[parameter] = float(order)
            else:
                waiting.append((position, order, parameter, float(order)))
        for position in positions:
            order += 1
            changes.add_transport(position, bar(float(order)))
            transports.append((position, order, float(order)))

        heard = math.floor(start + chunk)
        late = changes.apply(origin, start, previous, heard)

        due = sorted(entry for entry in waiting if entry[0] - origin <= start)
        waiting = [entry for entry in waiting if entry not in due]
        # One without position counts as the last before the session's time 0.
        due += [(origin - 1, math.inf, parameter, value) for parameter, value in at_once.items()]  # type: ignore[misc]
        for _, _, parameter, value in sorted(due):
            expected[parameter] = value
        missed = {(e[2], e[0]) for e in due if e[1] != math.inf and previous is not None and e[0] - origin <= previous}
        assert sum(entry.count for entry in late) == len(missed)
        for position, _, value in sorted(entry for entry in transports if entry[0] < origin + max(1, heard)):
            if position >= told_at:
                tempo, told_at = value, position
        transports = [entry for entry in transports if entry[0] >= origin + max(1, heard)]

        assert changes.parameters == expected
        assert (changes.transport and changes.transport.tempo) == tempo


def test_changes_far_ahead_cost_a_chunk_nothing() -> None:
    changes = make(gain=1.0)
    for index in range(PENDING_CHANGES - 2):
        changes.add_control(Control(10**9 + index, "gain", 1.0))
    changes.add_transport(10**9, bar(100))
    changes.add_midi(10**9, NOTE)
    begin = time.thread_time()
    for chunk in range(1_000):
        changes.apply(0, Fraction(chunk), None, chunk)
    assert time.thread_time() - begin < 1.0  # where each chunk looked at them all, it was a minute


def test_as_many_changes_as_may_wait_are_applied_within_a_chunk() -> None:
    changes = make(gain=1.0)
    for index in range(PENDING_CHANGES // 2):
        changes.add_control(Control(index, "gain", float(index)))
        changes.add_midi(index, NOTE)
    begin = time.thread_time()
    (late,) = changes.apply(0, Fraction(PENDING_CHANGES), Fraction(PENDING_CHANGES), PENDING_CHANGES)
    assert time.thread_time() - begin < 0.25  # a comparison of each with each was minutes
    assert changes.parameters == {"gain": PENDING_CHANGES // 2 - 1.0}
    assert (late.parameter, late.count, late.position) == ("gain", PENDING_CHANGES // 2, 0)


def test_changes_may_come_in_the_worst_of_orders() -> None:
    changes = make(gain=1.0)
    begin = time.thread_time()
    for index in reversed(range(PENDING_CHANGES // 4)):
        changes.add_control(Control(index, "gain", float(index)))
    assert time.thread_time() - begin < 3.0
    changes.apply(0, Fraction(100), None, 100)
    assert changes.parameters == {"gain": 100.0}


def test_so_many_changes_may_wait_and_no_more_until_some_are_in_force() -> None:
    changes = make(gain=1.0)
    for index in range(PENDING_CHANGES - 2):
        changes.add_control(Control(index, "gain", 0.5))
    changes.add_transport(0, bar(100))
    changes.add_midi(0, NOTE)
    for add in (
        lambda: changes.add_control(Control(10**6, "gain", 0.5)),
        lambda: changes.add_transport(10**6, bar(90)),
        lambda: changes.add_midi(10**6, NOTE),
    ):
        with pytest.raises(Refused, match=f"{PENDING_CHANGES} changes wait .*: send each with the audio"):
            add()
    changes.add_control(Control(7, "gain", 0.25))  # in the place of another
    changes.add_control(Control(None, "gain", 0.75))
    changes.apply(0, Fraction(0), None, 1)
    changes.add_control(Control(10**6, "gain", 0.5))


def test_dense_automation_of_one_place_is_one_change() -> None:
    changes = make(gain=1.0)
    for value in range(3 * PENDING_CHANGES):
        changes.add_control(Control(None if value % 2 else 0, "gain", float(value)))
    changes.apply(0, Fraction(0), None, 1)
    assert changes.parameters["gain"] == 3 * PENDING_CHANGES - 2.0


def test_midi_that_waits_and_midi_that_is_remembered_is_bounded_in_bytes() -> None:
    changes = make()
    panic = bytes(byte for note in range(128) for channel in range(16) for byte in (0x80 + channel, note, 0))
    count = PENDING_MIDI_BYTES // len(panic)
    for rounds in range(3):
        for index in range(count):
            changes.add_midi(rounds * 1_000 + index, panic)
        with pytest.raises(Refused, match="bytes of MIDI wait"):
            changes.add_midi(10**6, panic)
        changes.apply(0, Fraction(0), None, (rounds + 1) * 1_000)
    kept = [entry.change for entry in changes.log if isinstance(entry.change, bytes)]
    assert sum(map(len, kept)) <= PENDING_MIDI_BYTES


def test_the_log_keeps_the_newest_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backline.engine.changes.LOG_LENGTH", 100)
    changes = make(gain=1.0)
    for index in range(110):
        changes.add_control(Control(None, "gain", float(index)))
        changes.apply(0, Fraction(index), None, 1)
    assert [entry.change for entry in changes.log] == [("gain", float(index)) for index in range(10, 110)]


@given(st.lists(st.integers(0x80, 0xEF), min_size=1, max_size=20), st.data())
def test_whole_channel_messages_are_taken_and_parts_of_them_are_not(kinds: list[int], data: st.DataObject) -> None:
    sizes = [2 if kind >> 4 in (0xC, 0xD) else 3 for kind in kinds]
    messages = b"".join(bytes([kind, *[0x7F] * (size - 1)]) for kind, size in zip(kinds, sizes, strict=True))
    check_midi(messages)
    for wrong in (messages[:-1], messages[1:], messages + b"\xf8", messages[:-1] + b"\x80"):
        with pytest.raises(BadInput):
            check_midi(wrong)


def test_midi_is_checked_at_once_however_long() -> None:
    right, wrong, huge = b"\xc0\1" * (MIDI_BYTES // 2), NOTE * (MIDI_BYTES // 3) + b"\xf8", NOTE * 10_000_000
    begin = time.thread_time()
    for _ in range(100):
        check_midi(right)
        for refused in (wrong, huge):
            with pytest.raises(BadInput):
                check_midi(refused)
    assert time.thread_time() - begin < 1.0


EDGES = (-FURTHEST_SAMPLE, -1, 0, 1, FURTHEST_SAMPLE)
QUARTERS = (-FURTHEST_QUARTER, 0.0, FURTHEST_QUARTER)


@pytest.mark.parametrize("position", [-(2**63), -FURTHEST_SAMPLE - 1, FURTHEST_SAMPLE + 1, 2**63 - 1])
def test_positions_beyond_any_session_are_refused(position: int) -> None:
    changes = make(gain=1.0)
    for add in (
        lambda: changes.add_control(Control(position, "gain", 1.0)),
        lambda: changes.add_transport(position, bar(100)),
        lambda: changes.add_midi(position, NOTE),
    ):
        with pytest.raises(BadInput, match=r"use -2\^53 to 2\^53"):
            add()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e308, -1e308, 1.1e7])
@pytest.mark.parametrize("field", ["song_position", "bar_start"])
def test_song_positions_that_no_song_reaches_are_refused(field: str, value: float) -> None:
    with pytest.raises(BadInput, match="use -1e7 to 1e7 quarter notes"):
        make().add_transport(0, Transport(0.0, True, 100.0, **{field: value}))


def test_whatever_is_accepted_gives_beats_that_are_finite_and_fit_into_integers() -> None:
    for origin in EDGES:
        for position in EDGES:
            for song_position in QUARTERS:
                for bar_start in QUARTERS:
                    changes = Changes(8_000, {})
                    transport = Transport(0.0, True, 999.0, 64, 64, song_position, bar_start)
                    changes.add_transport(position, transport)
                    changes.apply(origin, Fraction(0), None, 2 * FURTHEST_SAMPLE + 1)
                    assert changes.transport is not None
                    for seconds in (0.0, 3600.0 * 24):
                        quarters = changes.transport.song_position_at(seconds) - bar_start
                        assert abs(quarters * 16) < 2**62
                        assert 0 <= changes.transport.bar_phase_at(seconds) < 1


@pytest.mark.parametrize(("numerator", "denominator"), [(4, 4), (6, 8), (5, 4)])
@pytest.mark.parametrize("block", [64, 97, 480, 100_000])
def test_a_bar_start_that_only_goes_on_is_no_news_however_the_blocks_lie(
    numerator: int, denominator: int, block: int
) -> None:
    """Hosts tell the start of the bar that a block begins in; what is in force must not hang on where blocks begin."""
    changes, bar_quarters = make(), numerator * 4 / denominator
    for position in range(0, 20 * RATE, block):
        quarters = 7.25 + position / RATE * 97.0 / 60
        bar_start = quarters // bar_quarters * bar_quarters
        changes.add_transport(position, Transport(0.0, True, 97.0, numerator, denominator, quarters, bar_start))
    changes.apply(0, Fraction(0), None, 20 * RATE)
    assert len(changes.log) == 1
    assert changes.transport is not None
    assert changes.transport.song_position == 7.25


@pytest.mark.parametrize("change", [{"bar_start": 5.0}, {"song_position": 9.0}, {"numerator": 3}, {"playing": False}])
def test_a_bar_that_begins_elsewhere_is_news(change: dict[str, float]) -> None:
    changes = make()
    begin = Transport(0.0, True, 120.0, song_position=4.0, bar_start=4.0)
    changes.add_transport(0, begin)
    changes.add_transport(RATE, replace(begin, song_position=6.0))
    changes.add_transport(2 * RATE, replace(begin, **{"song_position": 8.0, "bar_start": 8.0, **change}))
    changes.apply(0, Fraction(0), None, 3 * RATE)
    assert len(changes.log) == 1
    assert changes.transport is not None
    assert changes.transport.at_seconds == 2.0


def test_while_the_transport_stands_still_a_bar_start_is_what_is_told() -> None:
    changes = make()
    changes.add_transport(0, Transport(0.0, False, 120.0))
    changes.add_transport(RATE, Transport(0.0, False, 120.0, bar_start=4.0))
    changes.apply(0, Fraction(0), None, 3 * RATE)
    assert changes.transport is not None
    assert changes.transport.bar_start == 4.0


def test_a_pass_of_the_loop_is_told_and_is_no_jump() -> None:
    changes = Changes(RATE, {})
    loop = Transport(0.0, True, 120.0, song_position=4.0, bar_start=4.0, loop=(4.0, 12.0))
    told = changes.add_transport(0, loop)
    assert told is not None
    assert changes.add_transport(RATE, replace(loop, song_position=6.0)) is None
    again = changes.add_transport(4 * RATE, loop)
    assert again is not None
    assert not jumps(told, again)
    assert jumps(told, replace(again, song_position=5.0))


def test_what_comes_after_a_chunk_waits_for_it() -> None:
    changes = Changes(RATE, {})
    beat = Transport(0.0, True, 100.0)
    changes.add_transport(10, beat, after=2_000)
    changes.add_midi(20, b"\x90<d", after=1_000)
    for start, playing, notes in ((0, False, []), (1_000, False, [(20, b"\x90<d")]), (2_000, True, [])):
        changes.apply(0, Fraction(start), None, start + 1_000)
        assert (changes.transport is not None) == playing
        assert changes.notes == notes
    assert changes.transport == replace(beat, at_seconds=10 / RATE)
