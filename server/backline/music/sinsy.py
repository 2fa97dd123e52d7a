"""A melody sung by Sinsy's singer: a real woman's voice as hidden Markov models (package pysinsy, voice nitech f001).

Sinsy sings Japanese from MusicXML; our syllables, a consonant and a vowel each, are written as kana. One voice sings
for one purpose only, here training: songs that packs are chosen or judged by are never sung by her.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from backline.music.compiled_package import compiled_package
from backline.music.piece import Note
from backline.music.seeds import Purpose
from backline.music.speakers import SAMPLE_RATE, VoicesMissing

PURPOSE: Purpose = "training"
REMEDY = "pip install 'backline[sinsy]', which builds it in some minutes and needs cmake and a C++ compiler"
MIDDLE = 70  # MIDI pitch around which she is at home; eight notes of ten are then within 0.8 semitones
TICKS = 480  # to a quarter note
BAR = 4 * TICKS  # Sinsy reads bars of four beats, and wants one of rest before and after a song
# Kana by consonant, in the order of the vowels; Japanese has one sound for l and r.
VOWELS = "aeiou"
KANA = {
    "": "あ え い お う", "l": "ら れ り ろ る", "n": "な ね に の ぬ", "m": "ま め み も む",
    "d": "だ で でぃ ど どぅ",
    "b": "ば べ び ぼ ぶ", "s": "さ せ し そ す", "h": "は へ ひ ほ ふ", "w": "わ うぇ うぃ うぉ う",
    "y": "や いぇ い よ ゆ", "t": "た て てぃ と とぅ",
}  # fmt: skip
STEPS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


def missing() -> str | None:
    """Why Sinsy cannot sing here; None if she can."""
    try:
        package()
    except VoicesMissing as error:
        return str(error)
    return None


def sinsy_sings(melody: Sequence[Note], tempo: float, seconds: float, rng: Generator) -> NDArray[np.float32]:
    """The melody as [sample] at the speakers' rate, in the octave that lies best; level as it comes.

    Raises:
        VoicesMissing: pysinsy is not installed.
    """
    length = round(seconds * SAMPLE_RATE)
    if not melody:
        return np.zeros(length, np.float32)
    module, folder = package()
    singer = module.Sinsy()
    singer.setLanguages("j", str(folder / "_dic"))
    singer.loadVoices(str(folder / "htsvoice" / "nitech_jp_song070_f001.htsvoice"))
    singer.setAlpha(float(rng.uniform(0.5, 0.6)))  # frequency warping, .55 in the voice: another size of head
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "melody.xml"
        path.write_text(music_xml(melody, tempo), encoding="utf-8")
        singer.loadScoreFromMusicXML(str(path))
        sound, rate = singer.synthesize()
    assert rate == SAMPLE_RATE, rate
    begin = round(BAR / TICKS * 60 / tempo * SAMPLE_RATE)
    found = np.asarray(sound[begin : begin + length] / (1 << 15), np.float32)
    return np.pad(found, (0, length - len(found)))


def music_xml(melody: Sequence[Note], tempo: float) -> str:
    """The melody in bars of four, with a bar of rest around it; a slur goes on with the vowel before it."""
    middle = float(np.average([note.pitch for note in melody], weights=[note.length for note in melody]))
    shift = 12 * round((MIDDLE - middle) / 12)
    bars: list[str] = []
    at, vowel = 0, "a"

    def add(end: int, pitch: str = "", lyric: str = "") -> None:
        """Up to tick `end`, in tied pieces of which none crosses a bar line."""
        nonlocal at
        begin = at
        while at < end:
            until = min(end, (at // BAR + 1) * BAR)
            ties = ('<tie type="stop"/>' if at > begin else "") + ('<tie type="start"/>' if until < end else "")
            if at % BAR == 0:
                bars.append("")
            bars[-1] += (
                f"<note>{pitch or '<rest/>'}<duration>{until - at}</duration>{ties if pitch else ''}<voice>1</voice>"
                f"{lyric if at == begin else ''}</note>"
            )
            at = until

    for note in melody:
        end = BAR + round((note.start + note.length) * TICKS)
        add(BAR + round(note.start * TICKS))
        vowel = note.syllable[-1:] or vowel
        kana = KANA[note.syllable[:-1]].split()[VOWELS.index(vowel)]
        octave, step = divmod(note.pitch + shift, 12)
        sharp = "<alter>1</alter>" if "#" in STEPS[step] else ""
        pitch = f"<pitch><step>{STEPS[step][0]}</step>{sharp}<octave>{octave - 1}</octave></pitch>"
        add(end, pitch, f"<lyric><text>{kana}</text></lyric>")
    add((-(-at // BAR) + 1) * BAR)
    attributes = (
        f"<attributes><divisions>{TICKS}</divisions><time><beats>4</beats><beat-type>4</beat-type></time></attributes>"
        f'<direction><sound tempo="{tempo:g}"/></direction>'
    )
    measures = "".join(
        f'<measure number="{number}">{attributes if number == 1 else ""}{bar}</measure>'
        for number, bar in enumerate(bars, 1)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><score-partwise version="2.0"><part-list><score-part id="P1">'
        "<part-name>voice</part-name></score-part></part-list>"
        f'<part id="P1">{measures}</part></score-partwise>\n'
    )


@cache
def package() -> tuple[ModuleType, Path]:
    """pysinsy's compiled module and its folder.

    Raises:
        VoicesMissing: it is not installed.
    """
    found = compiled_package("pysinsy", "sinsy")
    if found is None:
        raise VoicesMissing(f"pysinsy is not installed: {REMEDY}")
    return found
