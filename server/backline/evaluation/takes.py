"""How alike two takes of one song are that begin at different places: the band of each has another past.

The same seed, input and start give the same samples, and nothing needs to be measured. A take that begins elsewhere is
another one. What it has in common with the take from the song's beginning is measured over what both have played, once
the later one has heard a few bars; beside a take that begins there too but has another seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from backline.evaluation.live import Setting, Sound, Take, piece_take, play
from backline.evaluation.plan import SEEDS_APART, Plan, Say
from backline.measures.chords import SILENT, chords_heard, chroma_cosine, in_key
from backline.measures.report import Figure, Row
from backline.measures.rhythm import onset_agreement
from backline.models.stream import Stream
from backline.music.songs import Song

CHORDS, CHROMA, ONSETS, KEY = "same chord", "chroma cosine", "same onsets (F)", "in key"  # columns
SETTLED_BARS = 2  # that the later take has heard before it is compared


@dataclass(frozen=True)
class Kind:
    """How the takes of a row differ from those from the beginning."""

    starts: Sequence[float]  # seconds of each song
    apart: int = 0  # between the seeds


def evaluate_takes(stream: Stream, plan: Plan, setting: Setting, say: Say) -> Mapping[str, Row]:
    """A row for every other start, and one for another seed: each against the take from the song's beginning."""
    songs = plan.composed(say)
    beginning = [0.0] * len(songs)
    kinds = {FROM_THE_BEGINNING: Kind(beginning), "another seed": Kind(beginning, SEEDS_APART)}
    kinds |= {name: Kind([start(song) for song in songs]) for name, start in STARTS.items()}
    played = {
        name: play_all(stream, songs, plan.seed, kind, setting, partial(say, f"playing: {name}"))
        for name, kind in kinds.items()
    }
    rows: dict[str, Row] = {}
    for name, kind in kinds.items():
        pairs = [
            compare(found, wanted, song, max(0.0, start) + SETTLED_BARS * bar_seconds(song))
            for found, wanted, song, start in zip(
                played[name], played[FROM_THE_BEGINNING], songs, kind.starts, strict=True
            )
        ]
        rows[name] = {column: Figure.of([pair[column] for pair in pairs]) for column in pairs[0]}
    return rows


def play_all(
    stream: Stream, songs: Sequence[Song], seed: int, kind: Kind, setting: Setting, say: Callable[[float], None]
) -> list[Sound]:
    """What a take of each song plays, from the song's beginning to its end."""
    takes = [
        take_from(song, start, seed + kind.apart + number)
        for number, (song, start) in enumerate(zip(songs, kind.starts, strict=True))
    ]
    total, done = sum(len(take.voice) for take in takes) / songs[0].sample_rate, 0.0

    def count(seconds: float) -> None:
        nonlocal done
        done += seconds
        say(min(1.0, done / total))

    sounds = play(stream, takes, songs[0].sample_rate, setting, count)
    return [in_song(sound, song, start) for sound, song, start in zip(sounds, songs, kind.starts, strict=True)]


def take_from(song: Song, seconds: float, seed: int) -> Take:
    """The song from `seconds` on; before its beginning nobody sings, but the host plays already."""
    whole = piece_take(song.piece, song.vocal, seed)
    samples = round(abs(seconds) * song.sample_rate)
    voice = song.vocal[samples:] if seconds > 0 else np.pad(song.vocal, (samples, 0))
    quarters, bar = seconds / song.piece.seconds_per_beat, song.piece.metre.beats_per_bar
    begun = replace(
        whole.transports[0],
        song_position=quarters,
        bar_start=quarters // bar * bar,
    )
    return replace(whole, voice=voice.astype(np.float32), transports=(begun,))


def in_song(sound: Sound, song: Song, seconds: float) -> Sound:
    """What a take that began at `seconds` of the song has played, from the song's beginning to its end."""
    samples = round(abs(seconds) * song.sample_rate)
    return np.pad(sound, (samples, 0)) if seconds > 0 else sound[samples:]


def compare(found: Sound, wanted: Sound, song: Song, after: float) -> dict[str, float]:
    """What two takes have in common from `after` seconds of the song on."""
    rate = song.sample_rate
    first = round(after * rate)
    one, other = found[first:], wanted[first:]
    half = song.piece.seconds_per_beat
    spans = [(start, start + half) for start in np.arange(0, len(one) / rate - half, half)]
    heard, as_before = (chords_heard(sound, rate, spans) for sound in (one, other))
    sounding = (heard != SILENT) | (as_before != SILENT)
    return {
        CHORDS: float(np.mean((heard == as_before)[sounding])) if sounding.any() else 1.0,
        CHROMA: chroma_cosine(one, other, rate),
        ONSETS: onset_agreement(one, other, rate),
        KEY: in_key(one, rate, song.piece.key),
    }


def bar_seconds(song: Song) -> float:
    return song.piece.metre.beats_per_bar * song.piece.seconds_per_beat


FROM_THE_BEGINNING = "from the beginning"
STARTS: Mapping[str, Callable[[Song], float]] = {  # seconds of the song
    "a second before": lambda song: -1.0,
    "a bar later": bar_seconds,
    "four bars later": lambda song: 4 * bar_seconds(song),
}
