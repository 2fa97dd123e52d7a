"""Whether a pack holds out: one long session over a chain of pieces; its level, clipping, silence and memory."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import psutil

from backline.evaluation.live import Setting, Sound, Take, piece_transport, play, song_rate
from backline.evaluation.plan import Say
from backline.measures.level import clip_share, level_dbfs, level_drift, level_excursion, silence_share
from backline.measures.report import Figure, Gate, Row
from backline.models.stream import Stream, Transport
from backline.music.seeds import TEST_SEED
from backline.music.songs import song
from backline.music.world import World

DRIFT, EXCURSION, CLIPPED = "drift (dB in 10 min)", "excursion (dB)", "clipped (share)"
SILENT, LEVEL = "silent (share)", "level (dBFS)"  # columns
MEMORY, COMPUTE = "memory grown (MB)", "compute (s/s)"

MOST_DRIFT = 3.0  # dB in 10 minutes
MOST_EXCURSION = 6.0  # dB of ten seconds beyond what the true band has: 6 dB are plainly heard
MORE_SILENCE = 0.05  # share of tenths of a second, beyond the true band's
MOST_MEMORY = 16.0  # MB: a model that kept its past would pass it in minutes
SETTLING_SECONDS = 60.0  # in which windows fill and memory may grow


def evaluate_drift(
    stream: Stream, world: World, minutes: float, seed: int, setting: Setting, say: Say
) -> tuple[Mapping[str, Row], list[Gate]]:
    """Figures of the session and, beside them, of the true band; and the gates.

    Raises:
        ValueError: too short a session to hear a trend in.
    """
    if minutes < 1:
        raise ValueError(f"{minutes:g} minutes are too short to drift: use at least 1")
    rate = song_rate(stream.spec)
    take, band = chain(world, minutes, seed, rate, say)
    length = 60 * minutes
    process, began = psutil.Process(), time.perf_counter()
    memory: list[tuple[float, float]] = []  # seconds played, MB resident
    done = 0.0

    def on_seconds(seconds: float) -> None:
        nonlocal done
        done += seconds
        memory.append((done, process.memory_info().rss / 1e6))
        say("playing", min(1.0, done / length))

    (played,) = play(stream, [take], rate, setting, on_seconds)
    compute = (time.perf_counter() - began) / length
    settled = [resident for seconds, resident in memory if seconds >= min(SETTLING_SECONDS, length / 2)]
    found = {
        **levels(played, rate),
        MEMORY: Figure(settled[-1] - settled[0]),
        COMPUTE: Figure(compute),
    }
    rows = {"generated": found, "reference": levels(band, rate)}
    return rows, gates(rows)


def chain(world: World, minutes: float, seed: int, sample_rate: int, say: Say) -> tuple[Take, Sound]:
    """Held-out pieces one after the other until the time is full, as one take, and their true band [sample]."""
    wanted = round(60 * minutes * sample_rate)
    vocals: list[Sound] = []
    bands: list[Sound] = []
    transports: list[Transport] = []
    begins = 0
    while begins < wanted:
        say("composing and rendering", begins / wanted)
        piece = song(TEST_SEED + len(vocals), world, sample_rate)
        transports.append(piece_transport(piece.piece, begins / sample_rate))
        vocals.append(piece.vocal)
        bands.append(piece.accompaniment)
        begins += len(piece.vocal)
    return Take(np.concatenate(vocals)[:wanted], seed, tuple(transports)), np.concatenate(bands)[:wanted]


def levels(sound: Sound, sample_rate: int) -> dict[str, Figure]:
    return {
        LEVEL: Figure(level_dbfs(sound)),
        DRIFT: Figure(level_drift(sound, sample_rate)),
        EXCURSION: Figure(level_excursion(sound, sample_rate)),
        CLIPPED: Figure(clip_share(sound)),
        SILENT: Figure(silence_share(sound, sample_rate)),
    }


def gates(rows: Mapping[str, Row]) -> list[Gate]:
    """What a session must hold to its end."""
    found = {column: figure.mean for column, figure in rows["generated"].items()}
    true = {column: figure.mean for column, figure in rows["reference"].items()}
    bounds = {
        DRIFT: (abs(found[DRIFT]), MOST_DRIFT),
        EXCURSION: (found[EXCURSION], true[EXCURSION] + MOST_EXCURSION),
        CLIPPED: (found[CLIPPED], 0.0),
        SILENT: (found[SILENT], true[SILENT] + MORE_SILENCE),
        MEMORY: (found[MEMORY], MOST_MEMORY),
    }
    return [Gate(name, value, f"at most {most:.3g}", value <= most) for name, (value, most) in bounds.items()]
