"""What is held on a keyboard, when, and which chord it is."""

import numpy as np
import pytest

from backline.models.hafm.held import CHORD_SOURCE, HeldNotes, Leading, chord_of
from backline.models.hafm.listening.hints import CERTAIN, CHORDS
from backline.models.hafm.listening.keys import KeyListener
from backline.models.hafm.listening.leading import UNHEARD, ChordLeader
from backline.models.hafm.score import VOICE_VOCABULARY
from backline.models.stream import Notes

RATE = 1000
C, A_MINOR, B_DIM = 0, 12 + 9, 24 + 11
NOTHING = np.zeros(CHORDS)


def on(*pitches: int, channel: int = 0) -> bytes:
    return b"".join(bytes([0x90 | channel, pitch, 100]) for pitch in pitches)


def off(*pitches: int) -> bytes:
    return b"".join(bytes([0x80, pitch, 0]) for pitch in pitches)


def control(number: int, value: int) -> bytes:
    return bytes([0xB0, number, value])


def keyboard(*played: tuple[int, bytes]) -> HeldNotes:
    held = HeldNotes()
    held.hear([Notes(position, data) for position, data in played], RATE)
    return held


def test_a_chord_is_held_from_its_notes_until_the_last_of_them_is_let_go_of() -> None:
    held = keyboard((500, on(60, 64, 67)), (1500, off(60)), (1510, off(64, 67)), (2000, on(62) + on(65, 69)))
    for seconds, pitches in [(0.4, ()), (0.5, (60, 64, 67)), (1.505, (60, 64, 67)), (1.6, ()), (2.0, (62, 65, 69))]:
        assert held.at(seconds) == frozenset(pitches), seconds


def test_a_note_that_is_struck_while_others_are_held_joins_them() -> None:
    held = keyboard((0, on(60)), (30, on(64)), (1000, off(60)), (1500, on(69)))
    assert held.at(0.03) == held.at(1.2) == {60, 64}
    assert held.at(1.5) == {64, 69}


F, D_MINOR = (65, 69, 72), (62, 65, 69)


@pytest.mark.parametrize(
    ("played", "left"),
    [
        ([(0, on(60, 64, 67)), (1000, on(*D_MINOR)), (1010, off(60)), (1040, off(64, 67))], D_MINOR),
        ([(0, on(60, 64, 67)), (990, off(64)), (1000, on(65, 69)), (1020, off(67))], (60, 65, 69)),  # C stays down
        (
            [
                (0, control(64, 127)),
                (5, on(60, 64, 67)),
                (900, off(60, 64, 67)),
                (1000, on(*F)),
                (1050, control(64, 0)),
            ],
            F,
        ),
    ],
)
def test_what_is_left_of_the_chord_before_goes_by_itself(
    played: list[tuple[int, bytes]], left: tuple[int, ...]
) -> None:
    """Legato, a common note, and the pedal changed after the chord, as everybody plays it."""
    assert keyboard(*played).at(1.5) == frozenset(left)


def test_a_broken_chord_that_was_held_for_long_stays_whole_while_fingers_leave_it() -> None:
    held = keyboard((0, on(60)), (200, on(64)), (400, on(67)), (2000, off(60)), (2030, off(67)), (2050, off(64)))
    assert held.at(2.04) == {60, 64, 67}
    assert held.at(2.06) == frozenset()
    assert held.at(2.06, keep=True) == {60, 64, 67}


@pytest.mark.parametrize("number", [120, 121, 123])
def test_after_a_panic_the_pedal_holds_nothing_any_more(number: int) -> None:
    held = keyboard((0, control(64, 127)), (10, on(60)), (20, off(60)), (30, control(number, 0)))
    assert held.at(0.05) == frozenset()
    held.hear([Notes(100, on(62)), Notes(200, off(62))], RATE)
    assert held.at(0.25) == frozenset()


def test_a_velocity_of_zero_ends_a_note_as_note_off_does() -> None:
    assert keyboard((0, on(60)), (100, bytes([0x90, 60, 0]))).at(0.2) == frozenset()


@pytest.mark.parametrize("number", [120, 123])
def test_all_notes_off_ends_all(number: int) -> None:
    assert keyboard((0, on(60, 64)), (100, control(number, 0))).at(0.2) == frozenset()


def test_the_pedal_holds_what_is_let_go_of() -> None:
    held = keyboard((0, control(64, 127)), (10, on(60, 64)), (20, off(60, 64)), (500, control(64, 0)))
    assert held.at(0.4) == {60, 64}
    assert held.at(0.5) == frozenset()


def test_drums_are_no_chord_and_messages_of_other_kinds_are_passed_over() -> None:
    other = bytes([0xC0, 5]) + bytes([0xD0, 9]) + bytes([0xE0, 0, 64]) + control(1, 90)
    assert keyboard((0, on(36, 42, channel=9)), (10, other)).at(1.0) == frozenset()


def test_the_last_chord_can_be_asked_for_even_when_it_has_been_forgotten() -> None:
    held = keyboard((0, on(60, 64, 67)), (1000, off(60, 64, 67)))
    assert held.at(0.5, keep=True) == held.at(5.0, keep=True) == {60, 64, 67}
    held.forget(4.0)
    assert held.at(5.0, keep=True) == {60, 64, 67}
    assert held.at(5.0) == frozenset()


def test_what_comes_late_is_held_from_where_it_was_played() -> None:
    held = keyboard((0, on(60)))
    held.hear([Notes(100, off(60)), Notes(300, on(65))], RATE)
    assert [bool(held.at(seconds)) for seconds in (0.05, 0.2, 0.35)] == [True, False, True]


@pytest.mark.parametrize(
    ("pitches", "chord"),
    [
        ((60, 64, 67), C),
        ((64, 67, 72), C),  # inverted
        ((60, 64, 67, 70), C),  # a seventh
        ((57, 60, 64), A_MINOR),
        ((45, 60, 64, 67), A_MINOR),  # a minor seventh, by its bass
        ((59, 62, 65), B_DIM),
        ((55, 59, 62, 65), 7),  # G7 holds B diminished whole
        ((60, 67), C),  # a fifth
        ((60,), C),
    ],
)
def test_chords_are_told_by_their_notes(pitches: tuple[int, ...], chord: int) -> None:
    assert chord_of(frozenset(pitches), NOTHING) == chord


def test_what_the_notes_leave_open_the_voice_decides() -> None:
    likely = NOTHING.copy()
    likely[12] = 0.6  # C minor
    assert chord_of(frozenset((60, 67)), likely) == 12
    assert chord_of(frozenset((60, 64, 67)), likely) == C


def test_the_leader_plays_what_is_held_and_else_what_is_told() -> None:
    told = np.zeros((CHORDS, 4), np.int64)
    told[5] = CERTAIN  # F, for sure
    held = [frozenset[int](), frozenset((60, 64, 67)), frozenset((57, 60, 64)), frozenset[int]()]
    assert ChordLeader().lead(told, 0, None, held).tolist() == [5, C, A_MINOR, 5]
    unheard = np.full((CHORDS, 4), CERTAIN + 1)
    assert ChordLeader().lead(unheard, 0, None, held).tolist() == [UNHEARD, C, A_MINOR, A_MINOR]


def test_the_first_chord_is_the_keys_own_and_foreign_ones_change_the_key_in_seconds() -> None:
    keys = KeyListener(np.zeros(VOICE_VOCABULARY, np.float32))
    keys.told(4)  # E major
    assert keys.semitones == 4
    for chord in (9, 11, 12 + 1):  # A, B, C sharp minor
        for _ in range(25):
            keys.told(chord)
    assert keys.semitones == 4
    for _ in range(10 * 25):
        keys.told(5)  # F: in C, F and B flat
    assert keys.semitones in (0, 5, 10)


@pytest.mark.parametrize("chord", [C, A_MINOR, B_DIM])
def test_whichever_chord_of_c_comes_first_the_key_is_c(chord: int) -> None:
    keys = KeyListener(np.zeros(VOICE_VOCABULARY, np.float32))
    keys.semitones = 7
    keys.told(chord)
    assert keys.semitones == 0


def test_the_first_chord_does_not_overrule_a_voice() -> None:
    keys = KeyListener(np.zeros(VOICE_VOCABULARY, np.float32))
    keys.hear(np.zeros((1, 10), np.int64))
    keys.told(4)
    assert keys.semitones == 0


def test_the_parameter_names_its_values() -> None:
    assert CHORD_SOURCE.labels == ("heard", "notes", "both")
    assert CHORD_SOURCE.default == Leading.BOTH
