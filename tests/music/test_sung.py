"""A melody in a person's syllables: vowels on their notes, consonants before them, the pitch that is written."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backline.music import compiled_package, vocoder
from backline.music.piece import Note
from backline.music.speakers import SAMPLE_RATE, Speaker, VoicesMissing
from backline.music.sung import Manner, Score, octave_shift, score, sing_as, vowel_frames
from backline.music.vocoder import BANDS, BREATHS, FRAME_RATE, Syllable, Voice, find_places
from tests.music.test_singer import track_pitch
from tests.support.speaking import write_recordings

try:
    vocoder.pyworld_package()
    no_vocoder = None
except VoicesMissing as error:
    no_vocoder = str(error)
with_vocoder = pytest.mark.skipif(no_vocoder is not None, reason=str(no_vocoder))

PLAIN = Manner(
    vibrato_rate=5.0, vibrato_depth=0.0, scoop=0.0, drift=0.0, breath=0.0, late=0.0, size=1.0, swell=0.0
)  # fmt: skip


def counted(frames: int = 100, vowel: int = 20, held: tuple[int, int] = (40, 70)) -> Syllable:
    """A syllable whose first breath band tells the frame; its consonant is voiceless."""
    aperiodicity = np.zeros((frames, BREATHS), np.float16)
    aperiodicity[:, 0] = -np.arange(1, frames + 1)
    voiced = np.arange(frames) >= vowel
    envelope = np.zeros((frames, BANDS), np.float16)
    return Syllable(
        envelope, aperiodicity, voiced, np.zeros(frames, np.float32), vowel, held, Path("none"), (0.0, frames / 200)
    )


def made(melody: list[Note], manner: Manner = PLAIN, syllable: Syllable | None = None) -> Score:
    """At 120 beats a minute: a beat is 100 frames."""
    voice = Voice((syllable or counted(),), 60.0, np.zeros((1, BANDS), np.float32))
    return score(voice, melody, 120.0, 800, np.random.default_rng(0), manner)


def told(found: Score) -> list[int]:
    """The frame of the syllable [frame]; -1 where nothing sounds."""
    return np.where(found.sounding, np.round(-found.aperiodicity[:, 0]).astype(int) - 1, -1).tolist()


def test_the_vowel_begins_where_the_note_begins_and_the_consonant_before() -> None:
    found = made([Note(2, 2, 60, 84, "la"), Note(5, 2, 62, 84, "la")])
    frames = told(found)
    for onset in (200, 500):
        assert frames[onset - 20 : onset] == list(range(20))
        assert frames[onset : onset + 20] == list(range(20, 40))
        assert not found.voiced[onset - 1]
        assert found.voiced[onset]
    assert {frames[400], frames[499 - 20], frames[700]} == {-1}


def test_a_following_consonant_takes_its_time_from_the_note_before() -> None:
    frames = told(made([Note(2, 1, 60, 84, "la"), Note(3, 1, 62, 84, "la")]))
    assert frames[280:300] == list(range(20))
    assert all(20 <= frame < 70 for frame in frames[200:280])
    crowded = told(made([Note(2, 0.16, 60, 84, "la"), Note(2.16, 1, 62, 84, "la")]))
    assert all(frame >= 20 for frame in crowded[200:212])  # 60 ms of vowel, however long the next consonant


def test_a_slur_goes_on_with_its_vowel_on_another_pitch() -> None:
    found = made([Note(2, 1, 60, 84, "la"), Note(3, 1, 64, 84, "")])
    assert all(frame >= 20 for frame in told(found)[200:400])
    assert found.pitch[250] == pytest.approx(found.pitch[350] - 4, abs=0.5)


def test_a_held_vowel_stays_in_its_steady_part_and_moves_on() -> None:
    frames = vowel_frames(counted(), 400, np.random.default_rng(0), released=True)
    assert len(frames) == 400
    middle = frames[20:370]
    assert middle.min() >= 40
    assert middle.max() < 70
    assert np.abs(np.diff(middle)).max() <= 1
    assert frames[-1] == 99
    assert len(vowel_frames(counted(), 3, np.random.default_rng(0), released=True)) == 3


def test_each_sings_in_an_octave_that_suits_the_voice() -> None:
    melody = [Note(0, 1, 65, 84, "la")]
    shifts = {
        name: octave_shift(Voice((), pitch, np.zeros((1, BANDS), np.float32)), melody)
        for name, pitch in (("man", 46.0), ("woman", 57.0), ("child", 64.0))
    }
    assert shifts == {"man": -12, "woman": 0, "child": 0}


def test_the_places_of_a_syllable_are_found() -> None:
    level = np.full(120, -60.0, np.float32)
    level[20:40] = -25  # a consonant, here a voiced one
    level[40:90] = 0
    level[90:100] = -20
    voiced = np.zeros(120, bool)
    voiced[30:100] = True
    envelope = np.random.default_rng(0).standard_normal((120, BANDS)).astype(np.float32)
    envelope[60:81] = envelope[60]  # steady
    found = find_places(level, voiced, envelope)
    assert found is not None
    assert (found.begin, found.vowel, found.end) == (20, 40, 100)
    assert found.held == (60, 80)
    assert find_places(level, np.zeros(120, bool), envelope) is None
    level[50:90] = -60
    assert find_places(level, voiced, envelope) is None  # too short to hold


@with_vocoder
@pytest.mark.parametrize("shift", [-12, 0, 7])
def test_the_written_pitch_is_heard(shift: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sung by syllables of which it is known what they are; analysed once, then read from disk."""
    write_recordings(tmp_path / "klettres", files=2)
    monkeypatch.setenv("BACKLINE_SYLLABLES", str(tmp_path / "klettres"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    vocoder.voice.cache_clear()
    voice = vocoder.voice(Speaker("de", "syllab"))
    assert len(list((tmp_path / "cache" / "backline" / "voices").iterdir())) == 1
    vocoder.voice.cache_clear()
    monkeypatch.setattr(vocoder, "_analyse", lambda *_: pytest.fail("analysed twice"))
    assert vocoder.voice(Speaker("de", "syllab")).pitch == voice.pitch == pytest.approx(57.5, abs=0.7)
    vocoder.voice.cache_clear()
    melody = [Note(1, 1.5, 62 + shift, 84, "la"), Note(3, 1, 65 + shift, 84, "la"), Note(4, 1, 67 + shift, 84, "")]
    seconds = 3.0
    sound = sing_as(voice, melody, 120.0, seconds, np.random.default_rng(0), replace(PLAIN, vibrato_depth=0.2))
    assert len(sound) == seconds * SAMPLE_RATE
    octave = octave_shift(voice, melody)
    for note in melody:
        wanted = note.pitch + octave
        found = track_pitch(sound, SAMPLE_RATE, (note.start + note.length / 2) / 2, wanted)
        assert found == pytest.approx(wanted, abs=0.4)
    assert np.abs(sound[: int(0.2 * SAMPLE_RATE)]).max() < 0.01 * np.abs(sound).max()
    assert FRAME_RATE * seconds == len(sound) / vocoder.HOP


def test_a_consonant_of_another_syllable_stands_before_or_after_and_leaves_the_vowel_on_its_note() -> None:
    places = set()
    for seed in range(8):
        voice = Voice((counted(),), 60.0, np.zeros((1, BANDS), np.float32))
        clustered = replace(PLAIN, clusters=1.0)
        found = score(voice, [Note(2, 2, 60, 84, "la")], 120.0, 800, np.random.default_rng(seed), clustered)
        frames = told(found)
        assert frames[180:220] == list(range(40))
        before, after = frames[160:180] == list(range(20)), frames[380:400] == list(range(20))
        assert before != after
        places.add(before)
    assert places == {True, False}


def test_a_phrase_that_ends_in_breath_does_so_without_voice_and_softer_than_it_was_sung() -> None:
    melody = [Note(2, 1, 60, 84, "la"), Note(3, 1, 62, 84, "la")]
    plain, airy = made(melody), made(melody, replace(PLAIN, exhaled=1.0))
    assert told(plain)[400] == -1
    assert airy.sounding[400:420].all()
    assert not airy.voiced[400:].any()
    assert airy.envelope[400:420].max() < airy.envelope[300:380].mean() - 2  # log power: 9 dB
    assert airy.sounding[:400].tolist() == plain.sounding[:400].tolist()


def test_a_child_sings_higher_than_the_speaker_and_a_larger_adult_lower() -> None:
    melody = [Note(0, 4, 60, 84, "la")]
    voice = Voice((counted(),), 53.0, np.zeros((1, BANDS), np.float32))
    sizes = [PLAIN.of_size(np.random.default_rng(seed)) for seed in range(40)]
    shifts = {round(manner.size, 2): octave_shift(voice, melody, manner.higher) for manner in sizes}
    assert {shift for size, shift in shifts.items() if size > 1.18} == {12}
    assert {shift for size, shift in shifts.items() if size < 1} <= {0, -12}
    assert min(shifts) < 0.92
    assert max(shifts) > 1.2


def test_without_the_vocoder_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_package, "find_spec", lambda name: None)
    vocoder.pyworld_package.cache_clear()
    with pytest.raises(VoicesMissing, match=r"pyworld is not installed: pip install 'backline\[voices\]'"):
        vocoder.pyworld_package()


@with_vocoder
def test_the_vocoder_needs_no_pkg_resources(monkeypatch: pytest.MonkeyPatch) -> None:
    """pyworld's own package imports it; setuptools has it no more from 81 on."""
    monkeypatch.setitem(sys.modules, "pkg_resources", None)
    vocoder.pyworld_package.cache_clear()
    assert callable(vocoder.pyworld_package().synthesize)
