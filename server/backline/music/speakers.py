"""Real people whose recorded syllables are sung: who there is, what each is for, and their recordings.

The recordings are those of KLettres, a program that teaches letters and syllables: native speakers of 20 languages, one
sound a file, in Debian's package klettres-data (GPL-2+). A folder of it counts as one speaker; where two people share
one they are for the same purpose, since whole languages are.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from backline.music.seeds import Purpose

SAMPLE_RATE = 48_000
FOLDER = Path("/usr/share/klettres")
# Languages, by what their speakers are for. Nothing ever learns from a test voice; no language is in two lists.
LANGUAGES: dict[Purpose, tuple[str, ...]] = {
    "training": ("ar", "da", "de", "en_GB", "es", "he", "hu", "lt", "nb", "nds", "pt_BR", "ru", "tn", "uk"),
    "validation": ("fr", "nl"),
    "test": ("cs", "en", "it", "ml"),
}
PARTS = ("alpha", "syllab")  # names of letters, syllables
MOST = 120  # files of a speaker that are used; one has 465
SHORTEST, LONGEST = 0.15, 8.0  # seconds of a file that can be used
REMEDY = "install Debian's package klettres-data, or name its folder (the one with cs/, en/, it/) in BACKLINE_SYLLABLES"


class VoicesMissing(RuntimeError):
    """The recordings, or the package that analyses and sings them, are not installed."""


@dataclass(frozen=True)
class Speaker:
    """One folder of recordings."""

    language: str
    part: str

    @property
    def name(self) -> str:
        return f"{self.language}/{self.part}"

    @property
    def folder(self) -> Path:
        return recordings_folder() / self.language / self.part


def recordings_folder() -> Path:
    """Where the languages' folders lie.

    Raises:
        VoicesMissing: there is no such folder.
    """
    folder = Path(os.environ.get("BACKLINE_SYLLABLES") or FOLDER)
    if not folder.is_dir():
        raise VoicesMissing(f"no recorded syllables in {folder}: {REMEDY}")
    return folder


def speakers(purpose: Purpose) -> tuple[Speaker, ...]:
    """All of a purpose.

    Raises:
        VoicesMissing: a language has no recordings.
    """
    folder = recordings_folder()
    found = []
    for language in LANGUAGES[purpose]:
        parts = [Speaker(language, part) for part in PARTS if (folder / language / part).is_dir()]
        if not parts:
            raise VoicesMissing(f"no recorded syllables in {folder / language}: {REMEDY}")
        found += parts
    return tuple(found)


def recordings(speaker: Speaker) -> list[Path]:
    """The speaker's files, at most MOST of them, evenly from all."""
    files = sorted(speaker.folder.glob("*.ogg"))
    if len(files) > MOST:
        files = [files[round(place)] for place in np.linspace(0, len(files) - 1, MOST)]
    return files


def recording(path: Path) -> NDArray[np.float32] | None:
    """A file as mono [sample] at SAMPLE_RATE with peak 1; None if it is too short, too long or silent."""
    audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = audio.mean(axis=1)
    peak = float(np.abs(mono).max(initial=0.0))
    if not SHORTEST <= len(mono) / rate <= LONGEST or peak < 0.01:
        return None
    sound: NDArray[np.float32] = soxr.resample(mono / peak, rate, SAMPLE_RATE)
    return sound
