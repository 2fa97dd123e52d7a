"""How well a pack accompanies: generated live on held-out pieces, beside what it could reach and what chance would.

Rows, each judged by the labels of the pieces that were sung:
- generated: what the pack plays, chunk by chunk;
- offline: the same in one chunk as long as the piece, all of the voice heard before: the papers' layout;
- reference: the true accompaniments; codec: the same through the pack's codec, so the most that it can say;
- shuffled: what the pack played to another of the pieces; retrieval: a training song of the key and nearest tempo.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from backline.codecs.base import Codec
from backline.evaluation.baselines import Pool, derangement, fitted, separated_vocal, through_codec
from backline.evaluation.live import Setting, Sound, piece_take, play
from backline.evaluation.plan import SEEDS_APART, Plan, Say
from backline.measures.chords import chord_match, chroma_cosine, in_key
from backline.measures.embeddings import Embedding, embedded
from backline.measures.frechet import Statistics, fad, frames_needed, vocal_gap
from backline.measures.level import level_dbfs
from backline.measures.report import Figure, Gate, Row
from backline.measures.rhythm import onset_agreement, onset_f
from backline.models.stream import Stream
from backline.music.songs import Song, song

CHORDS, IN_KEY, CHROMA = "chord match", "in key", "chroma cosine"
ONSETS, RHYTHM, LEVEL = "onset F", "onsets as reference", "level (dBFS)"  # columns


def evaluate_accompaniment(
    stream: Stream, codec: Codec | None, plan: Plan, setting: Setting, embedding: Embedding, say: Say
) -> tuple[Mapping[str, Row], list[Gate], list[str]]:
    """Rows of figures, gates, and notes on what could not be measured.

    Args:
        codec: the pack's own; without one there is no such row.
    Raises:
        ValueError: too few pieces to shuffle, or a pool without the key of a piece.
    """
    pairs = derangement(plan.count, plan.seed)
    songs = plan.composed(say)
    rate = songs[0].sample_rate
    generated = generate(stream, songs, plan.seed, setting, say, "live")
    pool = Pool.of_training(plan.world, plan.pool)
    found = {
        "generated": generated,
        "offline": generate_offline(stream, songs, plan.seed, setting, say),
        "reference": [one.accompaniment for one in songs],
        "codec": through_codec(codec, [one.accompaniment for one in songs], rate) if codec is not None else [],
        "shuffled": [generated[other] for other in pairs],
        "retrieval": [song(pool.nearest(one.piece).seed, plan.world, rate).accompaniment for one in songs],
    }
    rows: dict[str, dict[str, Figure]] = {}
    sets: dict[str, Statistics] = {}
    for number, (name, sounds) in enumerate(found.items()):
        if not sounds:
            continue
        say(f"judging {name}", number / len(found))
        rows[name] = judge([fitted(sound, len(one.vocal)) for sound, one in zip(sounds, songs, strict=True)], songs)
        sets[name] = embedded(embedding, sounds, rate)
    column, fewest, needed = (
        f"FAD ({embedding.name})",
        min(one.n for one in sets.values()),
        frames_needed(embedding.dimensions),
    )
    if fewest < needed:
        return rows, gates(rows), [f"no FAD: {fewest} frames, and it takes at least {needed}: play more pieces"]
    for name in sets:
        if name != "reference":
            rows[name][column] = Figure(fad(sets[name], sets["reference"]))
    cut_out = [replace(one, vocal=separated_vocal(one)) for one in songs]
    separated = embedded(embedding, generate(stream, cut_out, plan.seed, setting, say, "separated"), rate)
    gap = vocal_gap(sets["generated"], separated, sets["reference"])
    rows["FAD_i, isolated voice"] = {column: Figure(gap.isolated)}
    rows["FAD_s, separated voice"] = {column: Figure(gap.separated)}
    rows["FAD gap"] = {column: Figure(gap.gap)}
    notes = [f"FAD of the accompaniments alone, {fewest} frames or more in every set; compare only with as many"]
    return rows, gates(rows), notes


def generate(
    stream: Stream, songs: Sequence[Song], seed: int, setting: Setting, say: Say, how: str = "live"
) -> list[Sound]:
    """What the stream plays to each song's vocal, chunk by chunk."""
    takes = [piece_take(one.piece, one.vocal, seed * SEEDS_APART + number) for number, one in enumerate(songs)]
    wanted, done = sum(one.piece.seconds for one in songs), 0.0

    def on_seconds(seconds: float) -> None:
        nonlocal done
        done += seconds
        say(f"playing {how}", min(1.0, done / wanted))

    return play(stream, takes, songs[0].sample_rate, setting, on_seconds)


def generate_offline(stream: Stream, songs: Sequence[Song], seed: int, setting: Setting, say: Say) -> list[Sound]:
    """What the stream plays to each song's vocal in one chunk as long as the song, which it has heard before."""
    quantum = stream.spec.chunk_quantum_seconds
    played = []
    for number, one in enumerate(songs):
        say("playing offline", number / len(songs))
        # A second longer than the song, or what the codec holds back would take another chunk as long.
        whole = math.ceil((Fraction(len(one.vocal), one.sample_rate) + 1) / quantum) * quantum
        take = piece_take(one.piece, one.vocal, seed * SEEDS_APART + number)
        one_chunk = replace(setting, chunk_seconds=whole, visibility_seconds=stream.spec.latest_visibility(whole))
        played += play(stream, [take], one.sample_rate, one_chunk)
    return played


def judge(sounds: Sequence[Sound], songs: Sequence[Song]) -> dict[str, Figure]:
    """Each sound by the labels of its song: means over them."""
    judged = [figures_of(sound, one) for sound, one in zip(sounds, songs, strict=True)]
    return {name: Figure.of([figures[name] for figures in judged]) for name in judged[0]}


def figures_of(sound: Sound, song: Song) -> dict[str, float]:
    """What is measured of one sound; its onsets on the grid of the song's eighths."""
    beats = song.beat_seconds
    half, end = song.piece.seconds_per_beat / 2, len(song.vocal) / song.sample_rate
    spans = [(float(beat), min(end, float(beat) + 2 * half)) for beat in beats]
    eighths = np.stack([beats, beats + half], axis=1).ravel()
    return {
        CHORDS: chord_match(sound, song.sample_rate, [chord.index for chord in song.chords], spans),
        IN_KEY: in_key(sound, song.sample_rate, song.piece.key),
        CHROMA: chroma_cosine(sound, song.accompaniment, song.sample_rate),
        ONSETS: onset_f(sound, song.sample_rate, eighths),
        RHYTHM: onset_agreement(sound, song.accompaniment, song.sample_rate),
        LEVEL: level_dbfs(sound),
    }


def gates(rows: Mapping[str, Row]) -> list[Gate]:
    """What a pack must reach."""

    def mean(row: str, column: str) -> float:
        return rows[row][column].mean

    chords, shuffled = mean("generated", CHORDS), mean("shuffled", CHORDS)
    half, twice = 0.5 * mean("reference", CHORDS), 2 * shuffled
    in_key, most_in_key = mean("generated", IN_KEY), 0.9 * mean("reference", IN_KEY)
    onsets, true_onsets = mean("generated", ONSETS), mean("reference", ONSETS)
    return [
        Gate(f"{CHORDS}, against shuffled", chords, f"at least {twice:.3g}, twice {shuffled:.3g}", chords >= twice),
        Gate(f"{CHORDS}, against reference", chords, f"at least {half:.3g}, half the reference", chords >= half),
        Gate(IN_KEY, in_key, f"at least {most_in_key:.3g}, .9 of the reference", in_key >= most_in_key),
        Gate(ONSETS, onsets, f"within .05 of the reference's {true_onsets:.3g}", abs(onsets - true_onsets) <= 0.05),
    ]
