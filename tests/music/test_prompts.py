"""Spoken sentences: who speaks them for whom, what counts as one, and how they sound."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from backline.music import people, sources
from backline.music.kits import KitsMissing
from backline.music.people import spoken
from backline.music.prompts import PROMPTERS, Prompter, check_prompts, prompt, prompts
from backline.music.speakers import LANGUAGES, SAMPLE_RATE
from backline.music.world import OPEN, PEOPLE

with_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
WHO = PROMPTERS[0]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everyone's folder, each with files of zeros: sentences and what is none."""
    prompts.cache_clear()
    for who in PROMPTERS:
        folder = tmp_path / "asterisk" / "sounds" / who.folder
        for name, seconds in (("hello", 1), ("digits/7", 0.8), ("a", 0.3), ("long", 9), ("beep", 1), ("silence/2", 2)):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.g722").write_bytes(bytes(round(8000 * seconds)))
    monkeypatch.setenv("BACKLINE_SOUNDS", str(tmp_path))
    return tmp_path


def encode(file: Path, seconds: float, silence: float) -> None:
    """A tone of 440 Hz, with silence before and after it."""
    tone = 0.4 * np.sin(2 * np.pi * 440 * np.arange(round(16_000 * seconds)) / 16_000)
    pcm = (np.pad(tone, round(16_000 * silence)) * 32767).astype("<i2").tobytes()
    command = ["ffmpeg", "-v", "error", "-f", "s16le", "-ar", "16000", "-ac", "1", "-i", "-", "-c:a", "g722", "-y"]
    subprocess.run([*command, str(file)], input=pcm, check=True)


def test_nobody_has_two_purposes_and_languages_keep_theirs() -> None:
    assert len({who.name for who in PROMPTERS}) == len(PROMPTERS)
    for who in PROMPTERS:
        assert who.language in LANGUAGES[who.purpose]


def test_tones_silence_and_what_is_too_short_or_too_long_are_no_prompts(installed: Path) -> None:
    assert [file.stem for file in prompts(WHO)] == ["7", "hello"]


def test_what_is_missing_is_told(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backline.ffmpeg.is_installed", lambda: True)
    check_prompts()
    shutil.rmtree(installed / "asterisk" / "sounds" / PROMPTERS[3].folder)
    prompts.cache_clear()
    with pytest.raises(KitsMissing, match="apt-get install asterisk-core-sounds-it-g722"):
        check_prompts()
    assert "asterisk-core-sounds-it-g722" in str(sources.missing(OPEN))
    assert "asterisk" not in str(sources.missing(PEOPLE))
    monkeypatch.setattr("backline.ffmpeg.is_installed", lambda: False)
    with pytest.raises(KitsMissing, match="install ffmpeg"):
        check_prompts()


@with_ffmpeg
def test_a_prompt_is_heard_at_its_pitch_without_the_silence_around_it(tmp_path: Path) -> None:
    encode(tmp_path / "a.g722", 1.0, 0.4)
    sound = prompt(tmp_path / "a.g722")
    assert sound.dtype == np.float32
    assert len(sound) / SAMPLE_RATE == pytest.approx(1.0, abs=0.02)
    assert np.abs(sound).max() == pytest.approx(1.0, abs=0.05)
    spectrum = np.abs(np.fft.rfft(sound[:SAMPLE_RATE]))
    assert np.argmax(spectrum) == pytest.approx(440 * len(sound[:SAMPLE_RATE]) / SAMPLE_RATE, abs=2)


@with_ffmpeg
def test_someone_speaks_for_a_whole_song_and_says_the_same_again(installed: Path) -> None:
    for file in prompts(WHO):
        encode(file, 1.0, 0.2)
    first, again = (spoken(WHO, 6.0, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert len(first) == 6 * SAMPLE_RATE
    assert 0.4 < np.mean(np.abs(first) > 0.05) < 0.98
    assert people.spoken_lines(WHO) == [(file, 0, None) for file in prompts(WHO)]


@with_ffmpeg
@pytest.mark.parametrize("who", PROMPTERS, ids=lambda who: who.language)
def test_real_prompts_are_many_and_can_be_heard(who: Prompter) -> None:
    prompts.cache_clear()
    try:
        files = prompts(who)
    except KitsMissing as error:
        pytest.skip(str(error))
    assert len(files) > 300
    for file in files[:: len(files) // 8]:
        sound = prompt(file)
        assert 0.3 < len(sound) / SAMPLE_RATE <= 8
        assert 0.03 < np.sqrt(np.mean(sound**2)) < 0.5
