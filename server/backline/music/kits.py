"""Drum kits of real samples: those of Hydrogen, played here, and SoundFonts that FluidSynth plays.

All are Debian packages of their own. A kit of Hydrogen says in its drumkit.xml which samples a stroke of some strength
sounds by, and under which licence they are. Each kit serves one purpose (seeds.py): nothing learns from a test kit.
"""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from backline.music.seeds import Purpose

Sound = NDArray[np.float32]  # [sample]

LONGEST = 4.0  # seconds of a stroke
CHOKED = 0.03  # seconds in which an open hi-hat falls silent when the closed one is struck
LOUDEST = 0.5  # peak of a kit's loudest kick or snare, before the mix
OPEN_HAT, CLOSING = 46, (42, 44)
BRIGHT = (42, 44, 46, 49, 51, 54, 56, 70)  # what is all treble: recorded from near, mixed lower
BRIGHT_GAIN = 0.4
# Keys of the General MIDI percussion map, and what instruments for them are called in kits; the first that a kit has.
ROLES: dict[int, str] = {
    36: r"kick|bass ?drum|thump", 37: r"stick|rim", 38: r"^(?!.*(rim|stick|roll)).*snare", 39: r"clap",
    42: r"^(?!.*(open|pedal|foot|oh)).*(hat|hh)", 44: r"(hat|hh).*(pedal|foot|free)|(pedal|foot).*(hat|hh)",
    46: r"open|\bohh|hat.*op", 43: r"floor|tom.*low|low.*tom|drum 2", 47: r"tom.*(mid|2)|mid.*tom",
    50: r"tom.*(hi|1)|hi.*tom|drum 1",
    49: r"crash|cymbal", 51: r"ride(?! bell)", 54: r"tambourine", 56: r"cowbell", 63: r"conga", 64: r"conga",
    70: r"shaker|maraca|cabasa",
}  # fmt: skip
# Whose sound a drum takes that a kit has not got, in this order.
INSTEAD = {
    37: (38,), 38: (37,), 39: (38,), 44: (42,), 46: (42,), 43: (47, 50, 36), 47: (50, 43, 38), 50: (47, 43, 38),
    42: (44, 46, 51), 49: (51, 46, 42), 51: (49, 42), 54: (42,), 56: (37, 38),
    63: (50, 47, 38), 64: (43, 47, 36), 70: (42,),
}  # fmt: skip


class KitsMissing(RuntimeError):
    """A kit or a SoundFont that a world needs is not installed."""


@dataclass(frozen=True)
class Kit:
    """A drum kit: a folder of Hydrogen's, or a SoundFont with one kit as its first programme."""

    path: str  # within the sounds' folder
    package: str  # of Debian
    purpose: Purpose
    license: str = ""  # of a SoundFont, by its package's copyright file; a folder says it itself

    @property
    def name(self) -> str:
        return Path(self.path).name

    @property
    def is_font(self) -> bool:
        return self.path.endswith((".sf2", ".sf3"))

    def located(self) -> Path:
        """Where it lies.

        Raises:
            KitsMissing: it is not there; names the package.
        """
        return located(self.path, self.package)


def hydrogen(name: str, package: str, purpose: Purpose) -> Kit:
    return Kit(f"hydrogen/data/drumkits/{name}", package, purpose)


# The Black Pearl is one kit in two packages, so both are for testing.
KITS = (
    hydrogen("GMRockKit", "hydrogen-data", "training"),
    hydrogen("TR808EmulationKit", "hydrogen-data", "training"),
    hydrogen("Audiophob", "hydrogen-drumkits", "training"),
    hydrogen("BJA_Pacific", "hydrogen-drumkits", "training"),
    hydrogen("ForzeeStereo", "hydrogen-drumkits", "training"),
    hydrogen("ElectricEmpireKit", "hydrogen-drumkits", "training"),
    Kit("sounds/sf2/Red_Zeppelin_4_LV2.sf2", "avldrums.lv2-soundfont", "training", "CC BY-SA 3.0"),
    hydrogen("rumpf_kit_z01_h2", "hydrogen-drumkits", "validation"),
    hydrogen("HardElectro1", "hydrogen-drumkits", "test"),
    hydrogen("The Black Pearl 1.0", "hydrogen-drumkits", "test"),
    Kit("sounds/sf2/Black_Pearl_4_LV2.sf2", "avldrums.lv2-soundfont", "test", "CC BY-SA 3.0"),
)


def kits(purpose: Purpose) -> tuple[Kit, ...]:
    """All of a purpose."""
    return tuple(kit for kit in KITS if kit.purpose == purpose)


def located(path: str, package: str) -> Path:
    """A file or folder of a Debian package's /usr/share, or below BACKLINE_SOUNDS where that is set.

    Raises:
        KitsMissing: it is not there.
    """
    folder = Path(os.environ.get("BACKLINE_SOUNDS") or "/usr/share")
    if not (folder / path).exists():
        raise KitsMissing(
            f"{folder / path} is missing: apt-get install {package}, or name the folder that has what Debian has in "
            "/usr/share in BACKLINE_SOUNDS"
        )
    return folder / path


def key_of_font(key: int) -> int:
    """The key that sounds for it in a SoundFont of a plain kit, which has 36 to 61."""
    return key if 36 <= key <= 61 else INSTEAD[key][0]


@dataclass(frozen=True)
class Layer:
    """A sample, and the strengths from 0 to 1 at which it sounds."""

    file: Path
    low: float
    high: float
    gain: float
    pitch: float  # semitones


@dataclass(frozen=True)
class Drums:
    """What a kit of Hydrogen says of itself."""

    license: str
    layers: dict[int, tuple[Layer, ...]]  # by key, for every key of ROLES


@cache
def read_drums(folder: Path) -> Drums:
    """Reads a folder's drumkit.xml.

    Raises:
        KitsMissing: it names no licence, or neither a kick nor a snare.
    """
    text = (folder / "drumkit.xml").read_text(encoding="utf-8", errors="replace")
    root = ElementTree.fromstring(re.sub(r'\sxmlns="[^"]*"', "", text, count=1).encode())
    license_text = " ".join((root.findtext("license") or "").split())
    if not license_text:
        raise KitsMissing(f"{folder} names no licence for its samples, so nothing may learn from them")
    named = [((each.findtext("name") or "").lower(), _layers(each, folder)) for each in root.iter("instrument")]
    found: dict[int, tuple[Layer, ...]] = {
        key: next((layers for name, layers in named if layers and re.search(role, name)), ())
        for key, role in ROLES.items()
    }
    if not found[36] or not (found[38] or found[37]):
        raise KitsMissing(f"{folder} has neither kick nor snare by name: choose another kit")
    for key in [key for key, layers in found.items() if not layers]:
        found[key] = next((found[other] for other in INSTEAD[key] if found[other]), found[38] or found[37])
    return Drums(license_text, found)


def _layers(instrument: ElementTree.Element, folder: Path) -> tuple[Layer, ...]:
    """An instrument's samples; older kits have one, without strengths."""
    volume = float(instrument.findtext("volume") or 1) * float(instrument.findtext("gain") or 1)
    parts = list(instrument.iter("layer")) or [instrument]
    layers = [
        Layer(
            folder / (part.findtext("filename") or ""),
            float(part.findtext("min") or 0),
            float(part.findtext("max") or 1),
            volume * float((part.findtext("gain") if part is not instrument else None) or 1),
            float(part.findtext("pitch") or 0),
        )
        for part in parts
    ]
    return tuple(layer for layer in layers if layer.file.is_file())


@cache
def _heard(layer: Layer, sample_rate: int) -> Sound:
    """A layer's sample, mono."""
    sound, rate = soundfile.read(layer.file, frames=-1, dtype="float32", always_2d=True)
    mono = sound.mean(axis=1)[: int(LONGEST * rate)]
    if layer.pitch:
        rate = round(rate * 2 ** (layer.pitch / 12))
    made = soxr.resample(mono, rate, sample_rate) if rate != sample_rate else mono
    edge = min(len(made), sample_rate // 100)
    made[len(made) - edge :] *= np.linspace(1, 0, edge, dtype=np.float32)
    return (layer.gain * made).astype(np.float32)


@cache
def _stroke(drums: Path, key: int, velocity: int, sample_rate: int) -> Sound:
    """A stroke on a drum; within a layer, strength is loudness."""
    layers = read_drums(drums).layers[key]
    strength = velocity / 127
    layer = min(layers, key=lambda each: max(each.low - strength, strength - each.high, 0.0))
    gain = _scale(drums, sample_rate) * (0.35 + 0.65 * strength) * (BRIGHT_GAIN if key in BRIGHT else 1.0)
    return _heard(layer, sample_rate) * np.float32(gain)


@cache
def _scale(drums: Path, sample_rate: int) -> float:
    """Kits are recorded at any level: what makes the loudest kick or snare LOUDEST."""
    layers = read_drums(drums).layers
    peak = max(float(np.abs(_heard(layer, sample_rate)).max()) for key in (36, 38) for layer in layers[key])
    return LOUDEST / max(peak, 1e-4)


def play(drums: Path, strokes: Sequence[tuple[int, int, int]], length: int, sample_rate: int) -> Sound:
    """Strokes (sample, key, velocity) in time on a kit of Hydrogen, as [sample]; mono.

    Raises:
        KitsMissing: the kit cannot be used; says why.
    """
    made = np.zeros(length, np.float32)
    fade = round(CHOKED * sample_rate)
    hats = [at for at, key, _ in strokes if key in (*CLOSING, OPEN_HAT)]
    for at, key, velocity in strokes:
        sound = _stroke(drums, key, velocity, sample_rate)
        if key == OPEN_HAT:
            until = next((other for other in hats if other > at), length) - at
            if until < len(sound):
                sound = sound[: until + fade].copy()
                sound[until:] *= np.linspace(1, 0, len(sound) - until, dtype=np.float32)
        count = min(len(sound), length - at)
        made[at : at + count] += sound[:count]
    return made
