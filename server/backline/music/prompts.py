"""People who speak whole sentences: the prompts of telephone exchanges that come with Asterisk, and what each is for.

Debian's packages asterisk-core-sounds-*-g722 hold some 550 a language, 16 kHz, spoken by one person; ffmpeg decodes
them. Languages are for what they are for in speakers.py. English is left out: Allison Smith speaks it as well as
Spanish, and it is for measuring only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from backline import ffmpeg
from backline.music.kits import KitsMissing, located
from backline.music.seeds import Purpose
from backline.music.speakers import SAMPLE_RATE

BYTES_PER_SECOND = 8000  # of G.722
SHORTEST, LONGEST = 0.7, 8.0  # seconds of what can be used
NOT_SPOKEN = re.compile(r"^(beep|beeperr|.*-2tone|tt-monkeys)$")
AUDIBLE = 0.02  # of a prompt's peak: what is quieter at its ends is cut off


@dataclass(frozen=True)
class Prompter:
    """One person."""

    name: str
    language: str
    folder: str
    license: str
    purpose: Purpose

    @property
    def package(self) -> str:
        return f"asterisk-core-sounds-{self.language}-g722"


PROMPTERS = (
    Prompter("Allison Smith", "es", "es_MX_f_Allison", "CC BY-SA 3.0", "training"),
    Prompter("IvrvoiceRU", "ru", "ru_RU_f_IvrvoiceRU", "CC BY 3.0", "training"),
    Prompter("June Wallack", "fr", "fr_CA_f_June", "CC BY-SA 3.0", "validation"),
    Prompter("Carlo Flora", "it", "it_IT_m_Carlo", "CC BY 3.0", "test"),
)


def prompters(wanted: Purpose) -> tuple[Prompter, ...]:
    """All of a purpose."""
    return tuple(who for who in PROMPTERS if who.purpose == wanted)


def check_prompts() -> None:
    """Raises KitsMissing: a package or ffmpeg is not installed."""
    if not ffmpeg.is_installed():
        raise KitsMissing(f"spoken prompts are decoded by ffmpeg: {ffmpeg.INSTALL}")
    for who in PROMPTERS:
        prompts(who)


@cache
def prompts(who: Prompter) -> tuple[Path, ...]:
    """The person's sentences and words: none that is too short, too long, silence or a tone.

    Raises:
        KitsMissing: a package is not installed.
    """
    found: list[Path] = []
    for file in sorted(located(f"asterisk/sounds/{who.folder}", who.package).rglob("*.g722")):
        seconds = file.stat().st_size / BYTES_PER_SECOND
        spoken = file.parent.name != "silence" and not NOT_SPOKEN.fullmatch(file.stem)
        if spoken and SHORTEST <= seconds <= LONGEST:
            found.append(file)
    return tuple(found)


def prompt(file: Path) -> NDArray[np.float32]:
    """A prompt as [sample] at the speakers' rate with peak 1, without the silence around it.

    Raises:
        NoSound: ffmpeg cannot decode it, or is not installed.
    """
    sound = ffmpeg.FfmpegSound(file)
    try:
        heard = sound.read(round(LONGEST * sound.rate))[0]
    finally:
        sound.stop()
        sound.close()
    peak = float(np.abs(heard).max(initial=0.0))
    if not peak:
        raise ffmpeg.NoSound(f"{file} is silent: install its package again")
    audible = np.flatnonzero(np.abs(heard) > AUDIBLE * peak)
    return soxr.resample(heard[audible[0] : audible[-1] + 1] / peak, sound.rate, SAMPLE_RATE).astype(np.float32)
