"""Hearing a beat: found and kept, followed when it changes, and none where there is none to be heard."""

from fractions import Fraction
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from backline.models.hafm.listening.beats import (
    ENTERED,
    FRAME_RATE,
    HELD,
    KINDS,
    LEAP,
    POSITIONS,
    RESTED,
    SILENT,
    SLEW,
    STEP,
    THIRD,
    BeatListener,
    NoteListener,
)
from backline.models.hafm.score import VOICE_VOCABULARY, Tokens
from backline.models.stream import Transport
from backline.training.beats import beat_table

SILENCE = VOICE_VOCABULARY - 1
CHUNK = Fraction(4, 5)
ON_TIME = 0.07  # seconds


def sung(tempo: float, bars: int, seed: int, begin: float = 0.0) -> Tokens:
    """[1, frame] tokens of phrases of two bars: notes on most beats and some eighths between, then a rest of two beats.

    Args:
        begin: seconds of silence before.
    """
    random = np.random.default_rng(seed)
    frames = round(FRAME_RATE * (begin + bars * 240 / tempo))
    tokens = np.full((1, frames), SILENCE)
    pitch = 0
    for eighth in range(8 * bars):
        inside = eighth % 16
        if inside == 0 or (inside < 12 and random.random() < (0.35 if inside % 2 else 0.9)):
            pitch = (pitch + random.choice([1, 2, 10, 11] if inside % 2 else [3, 4, 5, 7, 8, 9])) % 12
        at = round(FRAME_RATE * (begin + eighth * 30 / tempo))
        tokens[0, at:] = SILENCE if inside >= 12 else 12 * 3 + pitch
    return tokens


@cache
def table() -> NDArray[np.float32]:
    """Counted from songs like those of the tests."""
    tempi = np.random.default_rng(0).uniform(80, 126, 40)
    return beat_table((sung(tempo, 8, 1000 + seed)[0], tempo / 240) for seed, tempo in enumerate(tempi))


def hear(listener: BeatListener, tokens: Tokens, first: int = 0) -> list[Transport | None]:
    """What is told for every chunk; each is heard to its end."""
    frames = int(CHUNK * FRAME_RATE)
    told = []
    for chunk in range(tokens.shape[1] // frames):
        listener.hear(tokens[:, chunk * frames : (chunk + 1) * frames])
        told.append(listener.transport(float((first + chunk) * CHUNK), float((first + chunk + 1) * CHUNK)))
    return told


def late(transport: Transport, at: float, tempo: float, begin: float = 0.0) -> float:
    """Seconds by which the bar that is told is behind the song's, `at` seconds."""
    bar = 240 / tempo
    behind = (at - begin) / bar - transport.bar_phase_at(at)
    return (behind - round(behind)) * bar


@pytest.mark.parametrize(("tempo", "begin"), [(82.0, 0.0), (96.0, 0.37), (101.5, 2.0), (110.0, 1.1), (124.0, 0.0)])
def test_tempo_beat_and_bar_are_found_within_eight_seconds_and_kept(tempo: float, begin: float) -> None:
    told = hear(BeatListener(table()), sung(tempo, 10, 1, begin))
    for chunk, transport in enumerate(told):
        if float(chunk * CHUNK) >= begin + 8:
            assert transport is not None
            assert transport.playing
            assert transport.tempo == pytest.approx(tempo, rel=0.02 + SLEW)
            assert abs(late(transport, float(chunk * CHUNK), tempo, begin)) < ON_TIME


def test_the_future_makes_no_difference() -> None:
    tokens = sung(100, 8, 2)
    changed = tokens.copy()
    changed[:, 400:] = SILENCE
    assert hear(BeatListener(table()), tokens)[:10] == hear(BeatListener(table()), changed)[:10]


def test_the_same_voice_gives_the_same_beat() -> None:
    first, second = (hear(BeatListener(table()), sung(90, 8, 3)) for _ in range(2))
    assert first == second


def test_silence_has_no_beat_however_long_it_lasts() -> None:
    assert set(hear(BeatListener(table()), np.full((1, 1600), SILENCE))) == {None}


@pytest.mark.parametrize("seed", range(3))
def test_noise_has_no_beat(seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, VOICE_VOCABULARY, (1, 1000))
    assert set(hear(BeatListener(table()), noise)) == {None}


def test_one_long_note_has_no_beat() -> None:
    told = hear(BeatListener(table()), np.full((1, 1000), 12 * 3 + 4))
    assert set(told[10:]) == {None}


def test_a_beat_that_has_stopped_is_forgotten() -> None:
    tokens = np.concatenate([sung(100, 8, 4), np.full((1, 2000), SILENCE)], axis=1)
    told = hear(BeatListener(table()), tokens)
    assert told[20] is not None
    assert told[-1] is None


def test_another_tempo_is_followed() -> None:
    before, after = sung(88, 8, 5), sung(112, 12, 6)
    told = hear(BeatListener(table()), np.concatenate([before, after], axis=1))
    assert told[before.shape[1] // 40 - 1].tempo == pytest.approx(88, rel=0.02 + SLEW)
    last = told[-1]
    assert last is not None
    assert last.tempo == pytest.approx(112, rel=0.02 + SLEW)
    assert abs(late(last, last.at_seconds, 112, before.shape[1] / FRAME_RATE)) < ON_TIME


def test_from_chunk_to_chunk_the_bar_goes_on_without_a_jump() -> None:
    """Unless the place in the bar is corrected, which a song of an even beat needs at most once or twice."""
    told = hear(BeatListener(table()), sung(104, 12, 7))
    jumps = 0
    for before, after in pairwise(told):
        if before is not None and after is not None:
            gap = before.bar_phase_at(after.at_seconds) - after.bar_phase_at(after.at_seconds)
            jumps += abs(gap - round(gap)) > 1e-9
    assert jumps <= 2


def test_after_a_host_has_told_for_a_while_the_beat_is_that_of_the_voice() -> None:
    """The host plays for four chunks, in which the listener is not asked."""
    tokens = sung(100, 10, 8)
    listener = BeatListener(table())
    hear(listener, tokens[:, :800])
    listener.hear(tokens[:, 800:960])
    (told,) = hear(listener, tokens[:, 960:1000], first=24)
    assert told is not None
    assert abs(late(told, 24 * 0.8, 100)) < ON_TIME


def test_notes_begin_when_a_pitch_has_lasted_and_glides_make_none() -> None:
    c, d, e, b, glide = 36, 38, 40, 47, 37
    tokens = np.array([[SILENCE, c, c, c, c, c, glide, d, d, d, d, b, b, b, b, e, e, e, e, *[SILENCE] * 4]])
    notes = [note for _, note in NoteListener().kinds(tokens)]
    assert notes == [
        *[SILENT] * 4, ENTERED, *[HELD] * 5, STEP, *[HELD] * 3, THIRD, *[HELD] * 3, LEAP, *[HELD] * 3, RESTED
    ]  # fmt: skip


def test_a_table_of_songs_without_a_beat_says_next_to_nothing() -> None:
    random = np.random.default_rng(0)
    songs = [(np.repeat(12 * 3 + random.integers(0, 12, 200), random.integers(5, 30, 200)), 0.4) for _ in range(40)]
    found = beat_table(songs)
    assert found.shape == (KINDS, POSITIONS)
    assert float(np.abs(found[HELD]).mean()) < 0.05
    assert float(beat_table([(sung(100, 8, seed)[0], 100 / 240) for seed in range(20)])[RESTED].max()) > 3
