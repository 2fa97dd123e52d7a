"""Beats, keys and pitch are heard where they are, and nothing is heard where nothing is."""

import numpy as np
import pytest

from backline.measures.beats import beats_heard, tempo_of
from backline.measures.keys import key_heard
from backline.measures.pitch import PITCH_RATE, yin
from backline.music.theory import Key

RATE = 16_000


def clicks(tempo: float, seconds: float = 20.0, first: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """A sound [sample] with a click on each beat; and the beats."""
    beats = np.arange(first, seconds - 0.2, 60 / tempo)
    sound = 1e-3 * np.random.default_rng(0).standard_normal(int(seconds * RATE))
    for beat in beats:
        at = round(beat * RATE)
        sound[at : at + 800] += np.random.default_rng(1).standard_normal(800) * np.exp(-np.arange(800) / 150)
    return sound.astype(np.float32), beats


@pytest.mark.parametrize("tempo", [70.0, 96.0, 127.0, 150.0])
def test_clicks_are_beats(tempo: float) -> None:
    sound, beats = clicks(tempo)
    found = beats_heard(sound, RATE)
    assert tempo_of(found) == pytest.approx(tempo, rel=0.01)
    assert all(np.abs(found - beat).min() < 0.03 for beat in beats[1:-1])


def test_without_onsets_there_are_no_beats() -> None:
    for sound in (np.zeros(0), np.zeros(RATE), np.zeros(20 * RATE)):
        assert len(beats_heard(sound.astype(np.float32), RATE)) == 0
    assert tempo_of(np.zeros(1)) is None


def chord(pitches: tuple[int, ...], seconds: float = 2.0) -> np.ndarray:
    time = np.arange(int(seconds * RATE)) / RATE
    tones = [
        sum(0.6**n * np.sin(2 * np.pi * 440 * 2 ** ((p - 69) / 12) * n * time) for n in range(1, 5)) for p in pitches
    ]
    return (0.05 * np.sum(tones, axis=0)).astype(np.float32)


@pytest.mark.parametrize(("tonic", "mode"), [(0, "major"), (6, "major"), (9, "minor"), (1, "minor")])
def test_a_cadence_is_in_its_key(tonic: int, mode: str) -> None:
    third = 4 if mode == "major" else 3
    one, four, five = (0, third, 7), (5, 5 + third, 12), (7, 11, 14)
    song = np.concatenate(
        [chord(tuple(57 + (tonic - 9) % 12 + note for note in each)) for each in (one, four, five, one)]
    )
    assert key_heard(song, RATE) == Key(tonic, mode)


def test_silence_has_no_key() -> None:
    assert key_heard(np.zeros(10 * RATE, np.float32), RATE) is None
    assert key_heard(np.zeros(0, np.float32), RATE) is None


@pytest.mark.parametrize("hertz", [82.0, 196.0, 440.0, 880.0])
def test_a_tone_has_its_pitch_and_silence_none(hertz: float) -> None:
    time = np.arange(RATE) / RATE
    tone = sum(np.sin(2 * np.pi * hertz * n * time) / n for n in range(1, 8))
    sound = np.concatenate([np.zeros(RATE), 0.1 * tone]).astype(np.float32)
    found = yin(sound, RATE)
    assert len(found) == 2 * PITCH_RATE + 1
    assert not found[: PITCH_RATE - 5].any()
    inner = found[PITCH_RATE + 8 : -8]
    assert np.all(np.abs(1200 * np.log2(inner / hertz)) < 10)


def test_noise_has_no_pitch() -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(RATE)
    assert (yin(noise.astype(np.float32), RATE) > 0).mean() < 0.05
    assert len(yin(np.zeros(0, np.float32), RATE)) == 1
