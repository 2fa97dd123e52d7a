"""Hearing a key: found from what is sung, kept through silence and single notes, followed when the song modulates."""

import numpy as np
import pytest
from numpy.typing import NDArray

from backline.models.hafm.listening.keys import LEAD, KeyListener
from backline.models.hafm.score import VOICE_TURNS, VOICE_VOCABULARY, Tokens, semitones_from_c, transposed

SCALE = (0, 2, 4, 5, 7, 9, 11)
SILENCE = VOICE_VOCABULARY - 1
F_SHARP = 6


def profile() -> NDArray[np.float32]:
    """[token] log probability: notes of C major ten times as likely as others, silence an eighth of everything."""
    chances = np.where(np.isin(np.arange(VOICE_VOCABULARY) % 12, SCALE), 10.0, 1.0)
    chances[SILENCE] = chances[:SILENCE].sum() / 7
    return np.log(chances / chances.sum()).astype(np.float32)


def song(frames: int, semitones: int, seed: int = 0) -> Tokens:
    """[1, frame] tokens as likely as the profile of a key says; every note held for 0.2 s."""
    chances = np.exp(profile().astype(np.float64))
    notes = np.random.default_rng(seed).choice(VOICE_VOCABULARY, frames // 10, p=chances / chances.sum())
    return transposed(np.repeat(notes, 10)[None], VOICE_TURNS, semitones)


def hear(listener: KeyListener, tokens: Tokens, chunk: int = 20) -> list[int]:
    """The key after every chunk."""
    keys = []
    for start in range(0, tokens.shape[1], chunk):
        listener.hear(tokens[:, start : start + chunk])
        keys.append(listener.semitones)
    return keys


@pytest.mark.parametrize("semitones", range(12))
def test_a_key_is_found_and_kept(semitones: int) -> None:
    keys = hear(KeyListener(profile()), song(3000, semitones))
    assert set(keys[50:]) == {semitones}


def test_before_anything_is_heard_it_is_c() -> None:
    listener = KeyListener(profile())
    listener.hear(np.zeros((1, 0), np.int64))
    assert listener.semitones == 0


def test_a_key_changes_only_when_another_is_clearly_likelier() -> None:
    """F sharp is ten times as likely in any of seven keys as in C: 2.3 nats a frame, so LEAD, 15, takes seven."""
    assert int(np.ceil(LEAD / np.log(10))) == 7
    keys = hear(KeyListener(profile()), np.full((1, 7), F_SHARP), chunk=1)
    assert keys[:6] == [0] * 6
    assert keys[6] in {(F_SHARP - note) % 12 for note in SCALE}


def test_a_few_wrong_notes_do_not_change_a_key_that_was_long_heard() -> None:
    listener = KeyListener(profile())
    hear(listener, song(2000, 0))
    assert set(hear(listener, np.full((1, 40), F_SHARP))) == {0}


def test_a_modulation_is_followed() -> None:
    listener = KeyListener(profile())
    assert hear(listener, song(2000, 0))[-1] == 0
    keys = hear(listener, song(2000, 3, seed=1))
    assert keys[0] == 0
    assert keys[-1] == 3


def test_silence_keeps_the_key_however_long_it_lasts() -> None:
    listener = KeyListener(profile())
    assert hear(listener, song(1000, 5))[-1] == 5
    assert set(hear(listener, np.full((1, 20_000), SILENCE), chunk=100)) == {5}


def test_a_key_told_and_a_key_heard_count_alike() -> None:
    """C and A minor share their notes, and so do E flat major and C minor."""
    assert [semitones_from_c(key) for key in (0, 21, 3, 12)] == [0, 0, 3, 3]
    assert sorted(semitones_from_c(key) for key in range(12, 24)) == list(range(12))
