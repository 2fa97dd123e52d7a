"""What a pack does with input that is no singer of its world: whether its level stays, and silence answers silence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile

from backline.evaluation.drift import CLIPPED, DRIFT, LEVEL, SILENT, chain
from backline.evaluation.live import Setting, Sound, Take, at_rate, play, song_rate
from backline.evaluation.plan import Say
from backline.measures.level import SILENCE_DBFS, clip_share, level_dbfs, level_drift, silence_share
from backline.measures.report import Figure, Gate, Row
from backline.models.stream import Stream, Transport
from backline.music.world import World

PEAK, RISE = "peak (dBFS)", "rise (dB)"  # columns; the rise is that of the loudest span over the median one that sounds
LOUDEST, AFTER = "loudest 10 s (dBFS)", "sound after the voice (s)"
SINGING, SILENCE, ENDING = "singing", "silence", "singing, then silence"  # rows

SPAN_SECONDS = 10
VOICE_SECONDS = 10.0  # of the singing that silence follows
NOISE_DBFS, SINE_HERTZ, SINE_PEAK, OVERDRIVE = -20.0, 440.0, 0.5, 10.0
MOST_RISE = 6.0  # dB
MOST_ABOVE_SINGING = 6.0  # dB by which any ten seconds may exceed the loudest that the pack plays to a singer
LATEST = 2.0  # seconds after the voice's end at which the band must be silent


def evaluate_robustness(
    stream: Stream, world: World, seconds: int, seed: int, setting: Setting, recordings: Path | None, say: Say
) -> tuple[Mapping[str, Row], list[Gate]]:
    """Figures by input and the gates; only the input that says so has a transport.

    Args:
        seconds: length of every input; recordings are played over and over.
        recordings: a folder of audio files, each one an input more.
    Raises:
        ValueError: too few seconds for two spans to compare.
    """
    if seconds < 2 * SPAN_SECONDS:
        raise ValueError(f"{seconds} s are too short to see a level change: use at least {2 * SPAN_SECONDS}")
    rate = song_rate(stream.spec)
    singing, _ = chain(world, seconds / 60, seed, rate, say)
    takes = {name: Take(voice, seed) for name, voice in voices(singing.voice, rate, seed, recordings).items()}
    takes["silence, transport playing"] = Take(np.zeros_like(singing.voice), seed, (Transport(0.0, True, 96.0),))
    done = 0.0

    def on_seconds(more: float) -> None:
        nonlocal done
        done += more
        say("playing", min(1.0, done / (seconds * len(takes))))

    bands = dict(zip(takes, play(stream, list(takes.values()), rate, setting, on_seconds), strict=True))
    rows = {name: figures(band, rate) for name, band in bands.items()}
    for name, voiced in ((SILENCE, 0.0), (ENDING, VOICE_SECONDS)):
        rows[name][AFTER] = Figure(sound_after(bands[name], rate, voiced))
    return rows, gates(rows)


def voices(singing: Sound, rate: int, seed: int, recordings: Path | None) -> dict[str, Sound]:
    """The inputs [sample], all as long as `singing`."""
    length = len(singing)
    noise = np.random.default_rng(seed).standard_normal(length)
    found = {
        SINGING: singing,
        "singing, clipped": np.clip(OVERDRIVE * singing, -1, 1),
        ENDING: np.where(np.arange(length) < VOICE_SECONDS * rate, singing, 0),
        SILENCE: np.zeros(length),
        f"white noise, {NOISE_DBFS:g} dBFS": 10 ** (NOISE_DBFS / 20) * noise,
        f"sine, {SINE_HERTZ:g} Hz": SINE_PEAK * np.sin(2 * np.pi * SINE_HERTZ / rate * np.arange(length)),
    }
    found |= {name: np.resize(sound, length) for name, sound in recorded(recordings, rate).items()}
    return {name: sound.astype(np.float32) for name, sound in found.items()}


def recorded(recordings: Path | None, rate: int) -> dict[str, Sound]:
    """The recordings in a folder [sample], by the names of their files."""
    known = {f".{name.lower()}" for name in soundfile.available_formats()}
    found = {}
    for path in sorted(recordings.iterdir()) if recordings else []:
        if path.suffix.lower() in known:
            sound, file_rate = soundfile.read(path, dtype="float32", always_2d=True)
            found[path.name] = at_rate(sound.mean(axis=1), file_rate, rate)
    return found


def figures(band: Sound, rate: int) -> dict[str, Figure]:
    """Levels of the whole and of every ten seconds, and what they come to."""
    span = SPAN_SECONDS * rate
    levels = [level_dbfs(band[begin : begin + span]) for begin in range(0, len(band) - span + 1, span)]
    sounding = [level for level in levels if level > SILENCE_DBFS]
    found = {
        LEVEL: level_dbfs(band),
        LOUDEST: max(levels),
        RISE: max(sounding) - float(np.median(sounding)) if sounding else 0.0,
        DRIFT: level_drift(band, rate),
        PEAK: level_dbfs(band[[np.abs(band).argmax()]]),
        CLIPPED: clip_share(band),
        SILENT: silence_share(band, rate),
    }
    by_span = {f"{n * SPAN_SECONDS}-{(n + 1) * SPAN_SECONDS} s": level for n, level in enumerate(levels)}
    return {name: Figure(value) for name, value in (found | by_span).items()}


def sound_after(band: Sound, rate: int, seconds: float) -> float:
    """Seconds from `seconds` on until the last sample that is not exactly zero."""
    sounds = np.flatnonzero(band)
    return max(0.0, (int(sounds[-1]) + 1) / rate - seconds) if len(sounds) else 0.0


def gates(rows: Mapping[str, Row]) -> list[Gate]:
    """What must hold for the worst of all inputs."""
    bounds = {
        RISE: MOST_RISE,
        LOUDEST: rows[SINGING][LOUDEST].mean + MOST_ABOVE_SINGING,
        CLIPPED: 0.0,
        AFTER: LATEST,
    }
    worst = {column: max(row[column].mean for row in rows.values() if column in row) for column in bounds}
    return [Gate(name, worst[name], f"at most {most:.3g}", worst[name] <= most) for name, most in bounds.items()]
