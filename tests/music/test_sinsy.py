"""Sinsy's singer sings our melodies: the pitch that is written, when it is written."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from backline.music import compiled_package, sinsy
from backline.music.melody import CONSONANTS
from backline.music.melody import VOWELS as SUNG_VOWELS
from backline.music.piece import Note
from backline.music.sinsy import BAR, KANA, TICKS, VOWELS, music_xml, sinsy_sings
from backline.music.speakers import SAMPLE_RATE, VoicesMissing
from tests.music.test_singer import track_pitch

MELODY = [Note(0.5, 1.5, 60, 84, "la"), Note(2, 3, 64, 84, "mi"), Note(5, 2, 62, 84, ""), Note(8, 2, 60, 84, "do")]


def test_every_syllable_has_its_kana() -> None:
    assert set(KANA) == set(CONSONANTS)
    assert set(VOWELS) == set(SUNG_VOWELS)
    assert all(len(row.split()) == len(VOWELS) for row in KANA.values())


def test_the_score_has_full_bars_and_every_note_in_its_place() -> None:
    root = ElementTree.fromstring(music_xml(MELODY, 100.0))
    at, starts, lyrics = 0, [], []
    for measure in root.iter("measure"):
        assert sum(int(note.findtext("duration", "")) for note in measure.iter("note")) == BAR
        for note in measure.iter("note"):
            if note.find("lyric") is not None:
                starts.append(at)
                lyrics.append(note.findtext("lyric/text"))
            at += int(note.findtext("duration", ""))
    assert starts == [BAR + round(note.start * TICKS) for note in MELODY]
    assert lyrics == ["ら", "み", "い", "ど"]  # a slur keeps its vowel


@pytest.mark.skipif(sinsy.missing() is not None, reason=str(sinsy.missing()))
def test_notes_are_sung_at_their_pitch() -> None:
    seconds = 7.0
    sound = sinsy_sings(MELODY, 100.0, seconds, np.random.default_rng(0))
    assert len(sound) == round(seconds * SAMPLE_RATE)
    assert 0.02 < np.abs(sound).max() <= 1
    for note in (MELODY[1], MELODY[3]):  # in the octave where she is at home
        found = track_pitch(sound, SAMPLE_RATE, (note.start + note.length / 2) * 0.6, note.pitch + 12)
        assert found == pytest.approx(note.pitch + 12, abs=1.2)
    np.testing.assert_array_equal(sound, sinsy_sings(MELODY, 100.0, seconds, np.random.default_rng(0)))


def test_without_pysinsy_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_package, "find_spec", lambda name: None)
    sinsy.package.cache_clear()
    with pytest.raises(VoicesMissing, match=r"pysinsy is not installed: pip install 'backline\[sinsy\]'"):
        sinsy_sings(MELODY, 100.0, 1.0, np.random.default_rng(0))
