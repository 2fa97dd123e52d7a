"""The bundled sung phrase and the beat it was sung to."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import as_file, files

from backline.cli.audio_files import read_audio
from backline_client import Audio, Transport


@dataclass(frozen=True)
class Phrase:
    """Audio [channel, sample], and the transport from its first sample on."""

    audio: Audio
    rate: int
    transport: Transport

    @property
    def seconds(self) -> float:
        return self.audio.shape[1] / self.rate


def sung_phrase() -> Phrase:
    """The phrase that comes with Backline; it begins on the first beat of a bar."""
    folder = files("backline.music") / "data"
    facts = tomllib.loads((folder / "phrase.toml").read_text(encoding="utf-8"))
    with as_file(folder / "phrase.flac") as path:
        audio, rate = read_audio(path)
    beat = Transport(facts["tempo"], 0, numerator=facts["numerator"], denominator=facts["denominator"])
    return Phrase(audio, rate, beat)
