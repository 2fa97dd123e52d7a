"""The whole protocol for several tokenizers: the same songs, language model, steps and probes for each.

Rows are a tokenizer's tracks, both of them together, and the accompaniment where the voice is known (`V>A`), as in the
paper's Tables 2 and 3; what belongs to the tokenizer as a whole stands with both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from backline.codecs.mel_clusters import MelClusters
from backline.corpus.multitrack import Multitrack
from backline.corpus.songs import Composer, Songs
from backline.evaluation.plan import Plan, Say
from backline.evaluation.tokens import lm, probes
from backline.evaluation.tokens.lm import LmProtocol, LmTraining, Told, TrackLM, by_song
from backline.evaluation.tokens.magnatagatune import read_clips, tagged_clips
from backline.evaluation.tokens.reconstruction import missing_packages, reconstruction
from backline.evaluation.tokens.songs import (
    Codes,
    Heard,
    Place,
    TokenSong,
    heard,
    long_enough,
    tokenized,
    windows,
)
from backline.evaluation.tokens.tokenizers import (
    ACCOMPANIMENT,
    TRACKS,
    VOCALS,
    DualTokenizer,
    Sound,
    mel_tokenizer,
)
from backline.measures.codes import entropy_bits, utilisation
from backline.measures.predictability import Predictability
from backline.measures.report import Figure, Row

FITTED = 16  # songs that k-means of mel frames is fitted on
MATCHED = "matched "  # before the columns of the decoder that is the same for all
MAJORITY = "whatever is most frequent"


@dataclass(frozen=True)
class Trial:
    """How much is done; the same for every tokenizer."""

    protocol: LmProtocol
    minutes: float | None = None  # at most, for all language models together
    mel_entries: int | None = 1024  # of k-means of mel frames; None: it is left out
    tag_steps: int = 600  # of the probe
    mtt: Path | None = None  # folder of MagnaTagATune


@dataclass
class Found:
    """What an evaluation gives."""

    rows: dict[str, Row]
    notes: list[str]
    steps: int  # of every language model
    tokenizers: list[DualTokenizer]


def evaluate_tokens(
    tokenizers: Sequence[DualTokenizer],
    plan: Plan,
    learnt: Sequence[int],
    trial: Trial,
    device: str = "cpu",
    say: Say = lambda doing, share: None,
) -> Found:
    """Judges tokenizers on the plan's songs, after their language models and probes have learnt from those of `learnt`.

    Args:
        learnt: seeds of songs that nothing is judged by.
    Raises:
        ValueError: too few songs are as long as a window.
        CorpusError, StemsMissing: songs cannot be read, or have no voice apart from a band.
    """
    window = trial.protocol.window

    def read(seeds: Sequence[int], doing: str) -> Iterator[Multitrack]:
        for number, seed in enumerate(seeds):
            say(doing, number / len(seeds))
            yield plan.songs.song(seed)

    learning = heard(read(learnt, "hears songs to learn from"), window)
    every = list(tokenizers)
    if trial.mel_entries is not None:
        first = list(islice(learning, FITTED))
        every.append(_mel(first, trial.mel_entries))
        learning = chain(first, learning)
    told = {each.name for each in every}
    if len(told) < len(every):
        raise ValueError(f"two tokenizers have one name among {', '.join(each.name for each in every)}: give each once")
    known = [tokenized(song, every) for song in learning]
    decoded: dict[tuple[str, str], list[dict[str, float]]] = {}

    def listen(tokenizer: DualTokenizer, sounds: Mapping[str, Sound], codes: Codes) -> None:
        for prefix, renderers in (("", tokenizer.own), (MATCHED, tokenizer.matched)):
            for track, renderer in renderers.items():
                scores = reconstruction(renderer, tokenizer.tracks[track], codes[track], sounds[track], track)
                named = {prefix + column: value for column, value in scores.items()}
                decoded.setdefault((tokenizer.name, track), []).append(named)

    new = []
    for number, song in enumerate(heard(plan.multitracks(), window)):
        say("hears and decodes songs to judge by", number / plan.count)
        new.append(tokenized(song, every, listen))
    songs, judged = long_enough(known, every, window), long_enough(new, every, window)
    if not songs or not judged:
        raise ValueError(
            f"{len(songs)} songs to learn from and {len(judged)} to judge by are {window:g} s long: give at least one "
            "of each, or shorter windows"
        )
    notes = _notes(plan, known, new, songs, judged, window)
    rows, steps = _language_models(every, songs, judged, trial, torch.device(device), say)
    for each in every:
        for track in TRACKS:
            rows[row_of(each.name, track)] = {
                **rows[row_of(each.name, track)],
                **_health(each, track, [*known, *new]),
                **_means(decoded.get((each.name, track), [])),
            }
            notes += _too_few(each, track, judged)
    for name, row in _probed(every, songs, judged, plan.songs, trial, torch.device(device), say).items():
        rows[name] = {**rows.get(name, {}), **row}
    if missing := missing_packages():
        notes.append(
            f"voices are not judged by {' and '.join(missing)}, which are not installed: pip install 'backline[tokens]'"
        )
    return Found(rows, notes, steps, every)


def row_of(tokenizer: str, what: str) -> str:
    return f"{tokenizer}: {what}"


BOTH, GIVEN_VOICE = "both", "V>A"


def _mel(songs: Sequence[Heard], entries: int) -> DualTokenizer:
    sounds = [song.tracks(MelClusters.sample_rate) for song in songs]
    return mel_tokenizer((own[VOCALS] for own in sounds), (own[ACCOMPANIMENT] for own in sounds), entries)


# ---- language models ----


def _language_models(
    tokenizers: Sequence[DualTokenizer],
    songs: Sequence[TokenSong],
    judged: Sequence[TokenSong],
    trial: Trial,
    device: torch.device,
    say: Say,
) -> tuple[dict[str, Row], int]:
    """All rows of predictability, and how many steps each model has taken."""
    protocol, places = trial.protocol, windows(judged, trial.protocol.window)
    pairs = [(each, mode) for each in tokenizers for mode in lm.MODES]
    seconds = []
    for number, (each, mode) in enumerate(pairs if trial.minutes is not None else []):
        say("times a step of each model", number / len(pairs))
        short = replace(protocol, steps=2)
        seconds.append(lm.step_seconds(LmTraining(each, mode, short, songs, device)))
    protocol = replace(protocol, steps=lm.affordable_steps(seconds, protocol.steps, trial.minutes))
    rows: dict[str, Row] = {}
    for each in tokenizers:
        models: dict[str, TrackLM] = {}
        for mode in lm.MODES:
            doing = f"{each.name}: {mode} model learns"
            say(doing, 0.0)
            training = LmTraining(each, mode, protocol, songs, device)
            models[mode] = training.finish(lambda share, doing=doing: say(doing, share))  # type: ignore[misc]
        say(f"{each.name}: models are asked", 0.0)
        rows |= _asked(each, models["unconditional"], models["conditional"], places, protocol)
    return rows, protocol.steps


def _asked(
    tokenizer: DualTokenizer, alone: TrackLM, given: TrackLM, places: Sequence[Place], protocol: LmProtocol
) -> dict[str, Row]:
    """The rows of one tokenizer that its two models answer for."""
    entropies = {track: _entropies(tokenizer, track, places, protocol.window) for track in TRACKS}
    told = lm.predictions(alone, tokenizer, places, protocol)
    rows: dict[str, Row] = {}
    measured: dict[str, Predictability] = {}
    for track in TRACKS:
        measured[track], rows[row_of(tokenizer.name, track)] = predictability(
            tokenizer, track, told[track], entropies[track]
        )
    context = lm.context_bits(alone, tokenizer, places, protocol)
    rows[row_of(tokenizer.name, BOTH)] = {
        **_together(tokenizer, measured, told),
        **{f"cnBPT by {seconds}": Figure.of(by_song(values)) for seconds, values in context.items()},
    }
    told = lm.predictions(given, tokenizer, places, protocol)
    _, row = predictability(tokenizer, ACCOMPANIMENT, told[ACCOMPANIMENT], entropies[ACCOMPANIMENT])
    spoilt = lm.corruption_bits(given, tokenizer, places, protocol)
    clean = spoilt.pop("clean")
    rows[row_of(tokenizer.name, GIVEN_VOICE)] = {
        **row,
        **{f"{name} %": cost(clean, values) for name, values in spoilt.items()},
    }
    return rows


def predictability(
    tokenizer: DualTokenizer, track: str, told: Sequence[tuple[TokenSong, Told]], entropies: Sequence[float]
) -> tuple[Predictability, dict[str, Figure]]:
    """What a model's answers on windows come to, and as a row with errors over songs."""
    sizes = tokenizer.tracks[track].sizes
    by_book = [by_song([(song, float(each.bits[book].mean())) for song, each in told]) for book in range(len(sizes))]
    found = Predictability(
        tuple(float(np.mean(values)) for values in by_book),
        tuple(entropies),
        tuple(sizes),
        float(tokenizer.frame_rate),
    )
    bits = Figure.of(np.mean(by_book, axis=0))
    row = {
        "BPT": bits,
        "cnBPT": _scaled(bits, 1 / found.index_bits),
        "enBPT": _scaled(bits, 1 / found.entropy if found.entropy > 0 else math.nan),
        "cnBPS": _scaled(bits, found.tokens_per_second / found.index_bits),
    }
    for top in lm.TOP:
        hits = [(song, float((each.ranks < top).double().mean())) for song, each in told]
        row[f"Acc@{top}"] = Figure.of(by_song(hits))
    return found, row


def _together(
    tokenizer: DualTokenizer,
    measured: Mapping[str, Predictability],
    told: Mapping[str, Sequence[tuple[TokenSong, Told]]],
) -> dict[str, Figure]:
    """cnBPT and enBPT are means of the tracks, as in Table 2; what there is of a second adds up (Eqs. 20 and 23)."""
    shares = {
        track: np.array(by_song([(song, float(each.bits.mean())) for song, each in told[track]]))
        / measured[track].index_bits
        for track in TRACKS
    }
    rate = {track: measured[track].tokens_per_second for track in TRACKS}
    return {
        "tokens/s": Figure(sum(rate.values())),
        "kbit/s": Figure(sum(each.bits_per_second for each in measured.values()) / 1000),
        "cnBPT": Figure.of(np.mean(list(shares.values()), axis=0)),
        "enBPT": Figure(float(np.mean([each.enbpt for each in measured.values()]))),
        "cnBPS": Figure.of(np.sum([rate[track] * shares[track] for track in TRACKS], axis=0)),
    }


def cost(clean: Sequence[tuple[TokenSong, float]], spoilt: Sequence[tuple[TokenSong, float]]) -> Figure:
    """Eq. 8 in per cent, on the songs that could be spoilt so; the error is that of the songs' differences."""
    songs = {id(song) for song, _ in spoilt}
    whole = np.array(by_song([(song, bits) for song, bits in clean if id(song) in songs]))
    difference = Figure.of(np.array(by_song(spoilt)) - whole)
    return _scaled(difference, 100 / float(whole.mean()))


def _scaled(figure: Figure, factor: float) -> Figure:
    return Figure(figure.mean * factor, None if figure.error is None else figure.error * factor)


# ---- the tokens themselves ----


def _entropies(tokenizer: DualTokenizer, track: str, places: Sequence[Place], window: float) -> list[float]:
    """By codebook, of all that is judged."""
    codes = torch.cat([place.codes(tokenizer, window)[track] for place in places], dim=1)
    return [entropy_bits(own, size) for own, size in zip(codes, tokenizer.tracks[track].sizes, strict=True)]


def _health(tokenizer: DualTokenizer, track: str, songs: Sequence[TokenSong]) -> Row:
    """How all songs use the codebooks (appendix E.1), the means over these."""
    sizes = tokenizer.tracks[track].sizes
    codes = torch.cat([song.codes[tokenizer.name][track] for song in songs], dim=1)
    pairs: list[tuple[Tensor, int]] = list(zip(codes, sizes, strict=True))
    bits = sum(math.log2(size) for size in sizes)
    return {
        "entries in use": Figure(float(np.mean([utilisation(own, size) for own, size in pairs]))),
        "entropy share": Figure(sum(entropy_bits(own, size) for own, size in pairs) / bits),
    }


def _means(pieces: Sequence[Mapping[str, float]]) -> Row:
    columns = dict.fromkeys(column for piece in pieces for column in piece)
    return {column: Figure.of([piece[column] for piece in pieces if column in piece]) for column in columns}


# ---- probes ----


def _probed(
    tokenizers: Sequence[DualTokenizer],
    songs: Sequence[TokenSong],
    judged: Sequence[TokenSong],
    source: Songs,
    trial: Trial,
    device: torch.device,
    say: Say,
) -> dict[str, Row]:
    """What the probes find, by row."""
    rows: dict[str, dict[str, Figure]] = {}
    window = trial.protocol.window
    learnt_from, judged_by = windows(songs, window), windows(judged, window)
    if isinstance(source, Composer):
        voices = source.world.voices
        for number, each in enumerate(tokenizers):
            say("probes what the tokens know", number / len(tokenizers))
            learnt = [probes.moments(each, place, window) for place in learnt_from]
            heard_now = [probes.moments(each, place, window) for place in judged_by]
            row = dict(probes.moment_scores(learnt, heard_now, [place.song for place in judged_by]))
            some, others = (
                [
                    probes.Tagged(moment.features, probes.tags(place.song.piece, voices))
                    for moment, place in zip(found, places, strict=True)
                    if place.song.piece is not None
                ]
                for found, places in ((learnt, learnt_from), (heard_now, judged_by))
            )
            row |= probes.tag_scores(some, others, trial.tag_steps, device)
            rows[row_of(each.name, BOTH)] = row
            rows[MAJORITY] = dict(probes.majority_scores(some, others))
    if trial.mtt is not None:
        for name, row in _mtt(tokenizers, trial, device, say).items():
            rows.setdefault(name, {}).update(row)
    return {name: row for name, row in rows.items() if row}


def _mtt(
    tokenizers: Sequence[DualTokenizer], trial: Trial, device: torch.device, say: Say
) -> dict[str, dict[str, Figure]]:
    assert trial.mtt is not None
    clips = {split: read_clips(trial.mtt, split) for split in ("learnt", "judged")}
    total, done = sum(map(len, clips.values())), 0

    def one() -> None:
        nonlocal done
        say("hears MagnaTagATune", done / total)
        done += 1

    found = {split: tagged_clips(some, tokenizers, one) for split, some in clips.items()}
    rows: dict[str, dict[str, Figure]] = {}
    for number, each in enumerate(tokenizers):
        say("probes MagnaTagATune's tags", number / len(tokenizers))
        some, others = found["learnt"][each.name], found["judged"][each.name]
        rows[row_of(each.name, BOTH)] = _of_mtt(probes.tag_scores(some, others, trial.tag_steps, device))
        rows[MAJORITY] = _of_mtt(probes.majority_scores(some, others))
    return rows


def _of_mtt(row: Row) -> dict[str, Figure]:
    return {column.replace("tag", "MTT"): figure for column, figure in row.items()}


# ---- what has to be said beside ----


def _notes(
    plan: Plan,
    known: Sequence[TokenSong],
    new: Sequence[TokenSong],
    songs: Sequence[TokenSong],
    judged: Sequence[TokenSong],
    window: float,
) -> list[str]:
    notes = plan.notes()
    if short := len(known) + len(new) - len(songs) - len(judged):
        notes.append(f"{short} songs are shorter than a window of {window:g} s: no language model has heard them")
    if not isinstance(plan.songs, Composer):
        notes.append("songs from disk have no score: tags, chords, keys, beats and onsets are not probed")
        if any(song.beat_seconds is None for song in judged):
            notes.append("some songs' tempo is not known: `backline data label` hears it, and voices shift by beats")
    else:
        notes.append("all of it on composed songs: real ones are harder, and compare with no paper's")
    return notes


def _too_few(tokenizer: DualTokenizer, track: str, judged: Sequence[TokenSong]) -> list[str]:
    """Entropies of few tokens are too low, whatever is done about it."""
    tokens = sum(song.frames(tokenizer.name) for song in judged)
    most = max(tokenizer.tracks[track].sizes)
    if tokens >= 2 * most:
        return []
    return [
        f"{tokenizer.name}, {track}: {tokens} frames for {most} entries: their entropy is too low and enBPT too high"
    ]
