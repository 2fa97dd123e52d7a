"""Takes spoken syllables apart and puts sung ones together, with the vocoder WORLD (package pyworld).

A syllable is kept as 200 frames a second of spectral envelope, aperiodicity and voicing, with the places that a singer
needs: where its vowel begins, where it can be held. To find these is slow, so each speaker's are kept on disk.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from backline.music.compiled_package import compiled_package
from backline.music.speakers import REMEDY as RECORDINGS_REMEDY
from backline.music.speakers import SAMPLE_RATE, Speaker, VoicesMissing, recording, recordings, speakers

FRAME_RATE = 200  # per second
HOP = SAMPLE_RATE // FRAME_RATE
BINS = 1025  # of WORLD's envelopes at SAMPLE_RATE
BANDS = 128  # of the envelopes that are kept
BREATHS = 5  # bands of WORLD's aperiodicity at SAMPLE_RATE
LOWEST, HIGHEST = 65.0, 700.0  # Hz of spoken voices
SILENCE = -30.0  # log power of a frame in which nothing sounds
VERSION = 1  # of what is kept on disk
REMEDY = "pip install 'backline[voices]'"

Frames = NDArray[np.float32]  # [frame, band]


@dataclass(frozen=True)
class Syllable:
    """One recording, from its first sound to its last."""

    envelope: NDArray[np.float16]  # [frame, band], log power
    aperiodicity: NDArray[np.float16]  # [frame, breath], dB
    voiced: NDArray[np.bool_]  # [frame]
    level: NDArray[np.float32]  # [frame], dB
    vowel: int  # the frame in which the vowel begins
    held: tuple[int, int]  # frames, of the vowel's steadiest stretch; the second is not part of it
    file: Path
    seconds: tuple[float, float]  # where in the file it begins and ends


@dataclass(frozen=True)
class Voice:
    """All that a speaker has to sing with."""

    syllables: tuple[Syllable, ...]
    pitch: float  # MIDI, of the speech
    envelope: Frames  # [1, band], the mean of all frames: what a breath sounds through


def missing() -> str | None:
    """Why no person can be sung here; None if one can."""
    try:
        pyworld_package()
        for purpose in ("training", "validation", "test"):
            speakers(purpose)
    except VoicesMissing as error:
        return str(error)
    return None


@cache
def voice(speaker: Speaker) -> Voice:
    """The speaker's syllables: from disk where they were analysed before.

    Raises:
        VoicesMissing: the recordings or pyworld are not installed, or nothing in the recordings can be sung.
    """
    path = _kept_at(speaker)
    if not path.exists():
        _analyse(speaker, path)
    return _read(path, speaker)


def synthesise(hertz: NDArray[np.float64], envelope: Frames, aperiodicity: Frames, size: float) -> NDArray[np.float32]:
    """Frames as sound [sample], HOP samples for each.

    Args:
        hertz: [frame]; 0 is unvoiced.
        envelope: [frame, band], log power.
        aperiodicity: [frame, breath], dB, at most 0.
        size: formants lie higher by that factor, as in a smaller head.
    """
    world = pyworld_package()
    power = np.exp(envelope @ _to_bins(size)).astype(np.float64)
    breath = world.decode_aperiodicity(np.ascontiguousarray(aperiodicity, np.float64), SAMPLE_RATE, 2 * (BINS - 1))
    sound = world.synthesize(np.ascontiguousarray(hertz, np.float64), power, breath, SAMPLE_RATE, 1000 / FRAME_RATE)
    length = len(hertz) * HOP
    return np.pad(sound[:length], (0, max(0, length - len(sound)))).astype(np.float32)


# ---- analysis ----


@dataclass(frozen=True)
class Places:
    """Frames of a recording that matter."""

    begin: int
    vowel: int
    held: tuple[int, int]
    end: int


def find_places(level: NDArray[np.float32], voiced: NDArray[np.bool_], envelope: Frames) -> Places | None:
    """Where consonant, vowel and its steady part are; None if there is no vowel of 80 ms.

    The vowel is the longest voiced stretch within 10 dB of the loudest and begins where it is within 6 dB: what is
    voiced and softer before it is a consonant.
    """
    if not voiced.any():
        return None
    peak = float(level[voiced].max())
    first, last = max(stretches(voiced & (level > peak - 10)), key=lambda found: found[1] - found[0])
    if last - first < 16:
        return None
    vowel = first + int(np.argmax(level[first:last] > float(level[first:last].max()) - 6))
    span = last - vowel
    if span < 16:
        return None
    length = max(8, int(0.4 * span))
    earliest, latest = vowel + int(0.2 * span), vowel + int(0.85 * span) - length
    change = np.abs(np.diff(envelope[vowel:last], axis=0)).mean(axis=1)
    starts = range(earliest, max(earliest + 1, latest))
    held = min(starts, key=lambda start: float(change[start - vowel : start - vowel + length].mean()))
    audible = level > peak - 40
    begin, end = vowel, last
    while begin > 0 and audible[begin - 1] and vowel - begin < 60:
        begin -= 1
    while end < len(level) and level[end] > peak - 30 and end - last < 40:
        end += 1
    return Places(begin, vowel, (held, held + length), end)


def stretches(true: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Begin and end of every stretch of trues."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], true.astype(np.int8), [0]))))
    return list(zip(edges[0::2].tolist(), edges[1::2].tolist(), strict=True))


def _analyse(speaker: Speaker, path: Path) -> None:
    """Writes what WORLD hears in the speaker's recordings."""
    world = pyworld_package()
    parts: dict[str, list[NDArray[np.generic]]] = {"envelope": [], "aperiodicity": [], "voiced": [], "level": []}
    places, files, pitches = [], [], []
    for file in recordings(speaker):
        sound = recording(file)
        if sound is None:
            continue
        audio = sound.astype(np.float64)
        hertz, times = world.harvest(audio, SAMPLE_RATE, LOWEST, HIGHEST, 1000 / FRAME_RATE)
        power = world.cheaptrick(audio, hertz, times, SAMPLE_RATE)
        breath = world.d4c(audio, hertz, times, SAMPLE_RATE)
        bands = (np.log(power) @ _to_bands()).astype(np.float32)
        level = uniform_filter1d(10 * np.log10(power.mean(axis=1)), 3).astype(np.float32)
        found = find_places(level, hertz > 0, bands)
        if found is None:
            continue
        kept = slice(found.begin, found.end)
        coded = world.code_aperiodicity(breath[kept], SAMPLE_RATE)
        for name, values in (
            ("envelope", bands[kept].astype(np.float16)),
            ("aperiodicity", coded.astype(np.float16)),
            ("voiced", hertz[kept] > 0),
            ("level", level[kept]),
        ):
            parts[name].append(values)
        places.append((found.begin, found.vowel, *found.held, found.end))
        files.append(file.name)
        pitches.append(69 + 12 * np.log2(np.median(hertz[kept][hertz[kept] > 0]) / 440))
    if not places:
        raise VoicesMissing(f"{speaker.folder} holds no recording that can be sung: {RECORDINGS_REMEDY}")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    arrays: dict[str, Any] = {name: np.concatenate(values) for name, values in parts.items()}
    with partial.open("wb") as out:
        np.savez(out, places=np.array(places), files=np.array(files), pitch=np.median(pitches), **arrays)
    partial.replace(path)


def _read(path: Path, speaker: Speaker) -> Voice:
    """What `_analyse` wrote."""
    with np.load(path, allow_pickle=False) as kept:
        arrays = {name: kept[name] for name in kept.files}
    syllables, start = [], 0
    for (begin, vowel, held, held_end, end), name in zip(arrays["places"].tolist(), arrays["files"], strict=True):
        frames = slice(start, start + end - begin)
        syllables.append(
            Syllable(
                arrays["envelope"][frames],
                arrays["aperiodicity"][frames],
                arrays["voiced"][frames],
                arrays["level"][frames],
                vowel - begin,
                (held - begin, held_end - begin),
                speaker.folder / str(name),
                (begin / FRAME_RATE, end / FRAME_RATE),
            )
        )
        start += end - begin
    mean = arrays["envelope"].astype(np.float32).mean(axis=0, keepdims=True)
    return Voice(tuple(syllables), float(arrays["pitch"]), mean)


def _kept_at(speaker: Speaker) -> Path:
    """The file of a speaker's analysis, in the user's cache by the XDG base directory specification."""
    home = os.environ.get("XDG_CACHE_HOME") or ""
    base = Path(home) if os.path.isabs(home) else Path.home() / ".cache"
    known = [f"{file.name} {file.stat().st_size}" for file in recordings(speaker)]
    mark = hashlib.sha256("\n".join([str(VERSION), *known]).encode()).hexdigest()[:12]
    return base / "backline" / "voices" / f"{speaker.language}-{speaker.part}-{mark}.npz"


# ---- bands and bins ----


def _mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log1p(hertz / 700.0)


def _bin_hertz() -> NDArray[np.float64]:
    return np.arange(BINS) * SAMPLE_RATE / (2 * (BINS - 1))


@cache
def _to_bands() -> NDArray[np.float64]:
    """[bin, band]: each band is a weighted mean of the bins around its centre, at least of its two neighbours."""
    top = _mel(np.array(SAMPLE_RATE / 2))
    centres = 700.0 * np.expm1(np.linspace(0, top, BANDS))
    widths = np.maximum(np.gradient(centres), SAMPLE_RATE / (2 * (BINS - 1)))
    weights = np.maximum(0, 1 - np.abs(_bin_hertz()[:, None] - centres) / widths)
    found: NDArray[np.float64] = weights / weights.sum(axis=0)
    return found


def _to_bins(size: float) -> NDArray[np.float32]:
    """[band, bin]: linear interpolation between the bands, formants moved up by `size`."""
    place = np.minimum(_mel(_bin_hertz() / size) / _mel(np.array(SAMPLE_RATE / 2)), 1) * (BANDS - 1)
    return np.maximum(0, 1 - np.abs(place - np.arange(BANDS)[:, None])).astype(np.float32)


@cache
def pyworld_package() -> ModuleType:
    """pyworld's compiled module.

    Raises:
        VoicesMissing: it is not installed.
    """
    found = compiled_package("pyworld", "pyworld")
    if found is None:
        raise VoicesMissing(f"pyworld is not installed: {REMEDY}")
    return found[0]
