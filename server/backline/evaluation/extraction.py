"""How well what is asked for by name comes out of a song: MGE-LDM's extraction beside baselines and separators.

Every stem that has a name is asked for in the paper's phrase, by its narrowest label, and judged over the segments of
SEGMENT_SECONDS in which it sounds (appendix E.1). Rows, for groups of stems each:
- mask, residual: the answer made to sum to the mixture with what is left (models/windowed/consistency.py), one of which
  is what a session hears; paper's readout: the source as it is decoded;
- VAE: the true stem through the VAE; VAE, mask and VAE, residual: the same read out with the true rest through it, as
  well as a network that knows everything would do;
- mixture, ideal ratio mask, HPSS and other packs: separation_baselines.py. Separators answer for stems that they tell
  apart: the only one that is sung, drums, bass, or `other`.
Groups: one of the four tracks where it is one stem; `comping`, each stem that is neither sung nor drums nor bass; and
families of instruments.

`query accuracy` is the share of answers that no other stem of the song is nearer to, by log-mel distance. Beside the
named are asked: the words of HELD_OUT, and instruments that are not there, whose answer should be silence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backline.corpus.labelled import Labels, stems_of
from backline.corpus.multitrack import Multitrack, excerpts
from backline.corpus.stem_names import OTHER, track_of
from backline.evaluation.live import Sound
from backline.evaluation.plan import SEEDS_APART, Plan, Say
from backline.evaluation.prompts import LEAST_HELD_OUT
from backline.evaluation.queried import LONGEST_SECONDS, Extract, asking_for, extraction, repainting
from backline.evaluation.separation import ALL, GAIN, HPSS, MIXTURE, Figures, mean_figures, mean_of, row_name, rows_of
from backline.evaluation.separation_baselines import Finder, Resynthesise, hpss, ideal_ratio_mask
from backline.evaluation.truth import part_of
from backline.measures.level import SILENCE_DBFS, level_dbfs
from backline.measures.report import Figure, Gate, Row
from backline.measures.separation import LOG_MEL, SI_SDR, check_packages, si_sdr
from backline.measures.spectra import log_mels
from backline.models.mge.load import read_tables
from backline.models.mge.offline import OfflinePlayer, Sampling
from backline.models.mge.words import ASKED, HELD_OUT, INSTRUMENTS, LABELS, labels_of
from backline.models.windowed.consistency import MASK, OFF, RESIDUAL, consistent
from backline.music.stems import SAMPLE_RATE, TRACKS, Stems
from backline.packs.pack import Pack

READOUTS = {MASK: "mask", RESIDUAL: "residual", OFF: "paper's readout"}  # rows, by the mode of consistency
VAE, IDEAL_MASK = "VAE", "ideal ratio mask"  # rows
ADAPTIVE, REPAINT = "adaptive times", "RePaint, U = {}"  # rows of the ablation
STEMS = "stems"  # the pack of four stems that log-mel distances are held against
BY_FAMILY = frozenset([*READOUTS.values(), VAE, MIXTURE])  # rows that are told by instruments' families as well
FOUND, LEVEL, QUIET = "query accuracy", "level dB", "share at most -15 dB"  # columns
COMPING, ABSENT = "comping", "not there"  # groups, beside ALL, TRACKS and families
HELD = "held-out words, {}"  # rows
NAMELESS = "(no name)"  # in the confusion, a stem that has no label

SEGMENT_SECONDS = 10.24  # appendix E.1
ABLATION_STEPS = (1, 2, 4, 8, 16, 32)
ABLATION_SCALES = (2.0, 4.0, 8.0)  # of guidance, as Table 7 has them
COMPARED_STEPS = 8  # of guidance, adaptive times and RePaint
REPEATS = (1, 2, 4)  # U of Table 5
ABSENT_QUERIES = 2  # of each song
QUIET_DB = -15.0  # below the mixture
LEAST_FOUND = 0.9
LEAST_GAIN = {"drums": 8.0, "bass": 8.0, "vocals": 4.0, COMPING: 2.0}  # dB of SI-SDR
MOST_BEYOND_STEMS = 0.25  # of log-mel distance
LEAST_QUIET = 0.8  # of the answers to what is not there


@dataclass(frozen=True)
class Readout:
    """How an answer is made to sum to the mixture (models/windowed/consistency.py)."""

    mode: int
    mask_exponent: float

    @property
    def row(self) -> str:
        return READOUTS[self.mode]

    def of(self, mixed: Sound, answer: tuple[Sound, Sound]) -> Sound:
        """The source of an answer, source and rest."""
        estimates = np.stack(answer)[:, np.newaxis]  # [track, channel, sample]
        return consistent(mixed[np.newaxis], estimates, self.mode, self.mask_exponent)[0, 0]

    def all(self, mixed: Sound, answer: tuple[Sound, Sound]) -> dict[str, Sound]:
        """The same in every mode, by its row."""
        return {name: replace(self, mode=mode).of(mixed, answer) for mode, name in READOUTS.items()}


@dataclass(frozen=True)
class Judged:
    """What an evaluation of extraction found."""

    rows: Mapping[str, Row]
    gates: Sequence[Gate]
    notes: Sequence[str]
    names: Sequence[str]  # of the confusion's lines and columns
    confusion: NDArray[np.int64]  # [label asked for, label of the nearest stem]


@dataclass(frozen=True)
class Scene:
    """A song, or a part of it as long as LONGEST_SECONDS: stems [stem, sample] at SAMPLE_RATE that sum to it."""

    labels: tuple[Labels, ...]
    stems: Stems

    @cached_property
    def mixed(self) -> Sound:
        return self.stems.sum(axis=0)

    @cached_property
    def mels(self) -> list[Tensor]:
        """Of each stem [band, frame]."""
        return [log_mels(stem, SAMPLE_RATE) for stem in self.stems]

    @cached_property
    def sounding(self) -> NDArray[np.bool_]:
        """[stem, segment]: whether there is anything to hear."""
        return np.array(
            [[level_dbfs(each) > SILENCE_DBFS for each in np.array_split(stem, self.segments)] for stem in self.stems]
        )

    @property
    def segments(self) -> int:
        """Equal ones of at most SEGMENT_SECONDS."""
        return int(np.ceil(self.stems.shape[1] / (SEGMENT_SECONDS * SAMPLE_RATE)))

    def within(self, segments: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
        """[step]: which of so many steps of time lie in these segments."""
        edges = np.arange(steps) * self.segments // steps
        return segments[edges]

    def asked(self) -> Iterator[int]:
        """The stems that have a name, and sound."""
        return (stem for stem, labels in enumerate(self.labels) if labels and self.sounding[stem].any())

    def track(self, stem: int) -> str:
        """Which of TRACKS a named stem belongs to."""
        return track_of(self.labels[stem][-1])

    def alone(self, stem: int) -> bool:
        """Whether no other named stem is of the same track."""
        return sum(bool(labels) and track_of(labels[-1]) == self.track(stem) for labels in self.labels) == 1

    def groups(self, stem: int, families: bool) -> list[str]:
        """Those that a named stem is judged in."""
        track, family = self.track(stem), self.labels[stem][-1]
        found = [ALL, *([track] if self.alone(stem) else []), *([COMPING] if track == OTHER else [])]
        return list(dict.fromkeys([*found, *([family] if families else [])]))

    def nearest(self, mel: Tensor, segments: NDArray[np.bool_]) -> tuple[int, list[float]]:
        """The stem that log mels [band, frame] are nearest to over these segments, and the distances of all."""
        heard = torch.from_numpy(self.within(segments, mel.shape[1]))
        away = [float((mel - true)[:, heard].abs().mean()) for true in self.mels]
        return int(np.argmin(away)), away


@dataclass
class Tally:
    """What is counted over all songs."""

    confusion: Counter[tuple[str, str]] = field(default_factory=Counter)  # asked, nearest
    words: dict[tuple[str, str], list[bool]] = field(default_factory=dict)  # by reader and held-out word, found or not


def evaluate_extraction(
    extract: Extract,
    readout: Readout,
    plan: Plan,
    resynthesise: Resynthesise,
    readers: Mapping[str, Extract],
    beside: Mapping[str, Finder],
    variants: Mapping[str, Extract],
    say: Say,
) -> Judged:
    """Rows of figures, gates, notes and what is taken for what.

    Args:
        extract: what is judged.
        readout: what a session has, by which gates are judged.
        resynthesise: the VAE there and back.
        readers: the same as `extract`, as each tower reads words; asked for HELD_OUT.
        beside: separators by the names of their rows.
        variants: further ways of extraction, by the names of their rows, read out as a session is.
    Raises:
        ValueError: a package that measures is not installed, or there is no song to judge by.
    """
    check_packages(False)
    finders = {HPSS: lambda mixed, seed: hpss(mixed), **beside}
    figures: list[Figures] = []
    tally = Tally()
    for number, song in enumerate(plan.multitracks()):
        prefix, seed = f"song {number + 1} of {plan.count}", plan.seed * SEEDS_APART + number
        say(f"{prefix}: reading, or composing and rendering", 0.0)
        pieces = []
        for part in scenes(song):
            say(f"{prefix}: separating", 0.0)
            found = {name: find(part.mixed, seed) for name, find in finders.items()}
            say(f"{prefix}: asking", 0.0)
            oracle = ideal_ratio_mask(part.mixed, part.stems)
            judged = []
            for stem in part.asked():
                answers = asked_for(part, stem, extract, readout, variants, resynthesise, seed)
                answers |= {IDEAL_MASK: oracle[stem], **separated(found, part, stem)}
                figures_of, taken_for = judge(part, stem, answers)
                judged.append(figures_of)
                labels = part.labels[taken_for[readout.row]]
                tally.confusion[part.labels[stem][0], labels[0] if labels else NAMELESS] += 1
                say(f"{prefix}: asking", (stem + 1) / (len(part.labels) + 1))
            pieces.append({**grouped(judged), **absent(part, extract, readout, seed)})
            say(f"{prefix}: asking in other words", 0.0)
            ask_held_out(part, readers, readout, seed, tally)
        figures.append(mean_figures(pieces))
    rows = {**rows_of(figures), **held_out_rows(tally)}
    names = list(dict.fromkeys(name for pair in tally.confusion for name in pair))
    names.sort(key=[*LABELS, NAMELESS].index)
    confusion = np.array([[tally.confusion[asked, nearest] for nearest in names] for asked in names], np.int64)
    return Judged(rows, gates(rows, readout.row), [*plan.notes(), *held_out_notes(tally)], names, confusion)


def ablations(player: OfflinePlayer, sampling: Sampling) -> dict[str, Extract]:
    """Steps, guidance, and RePaint beside times of single tracks, by their rows. These two hear each window alone."""
    rows = {f"steps = {steps}": replace(sampling, steps=steps) for steps in ABLATION_STEPS}
    guided = replace(sampling, steps=COMPARED_STEPS)
    rows |= {f"guidance = {scale:g}": replace(guided, guidance=scale) for scale in ABLATION_SCALES}
    rows[ADAPTIVE] = replace(guided, overlap=0.0)
    found = {name: extraction(player, way, SAMPLE_RATE) for name, way in rows.items()}
    for repeats in REPEATS:
        name = REPAINT.format(repeats)
        found[name] = repainting(player, COMPARED_STEPS, repeats, sampling.guidance, SAMPLE_RATE)
    return found


def readout_of(pack: Pack) -> Readout:
    """What a session of a pack has that asks for nothing."""
    settings = read_tables(pack.config).settings
    return Readout(settings.consistency, settings.mask_exponent)


def scenes(song: Multitrack) -> Iterator[Scene]:
    """The song in equal parts that are not too long, without those in which nothing sounds."""
    for part in excerpts(song, LONGEST_SECONDS, SAMPLE_RATE):
        scene = Scene(*stems_of(part, SAMPLE_RATE))
        if level_dbfs(scene.mixed) > SILENCE_DBFS:
            yield scene


def asked_for(
    part: Scene,
    stem: int,
    extract: Extract,
    readout: Readout,
    variants: Mapping[str, Extract],
    resynthesise: Resynthesise,
    seed: int,
) -> dict[str, Sound]:
    """What a stem's name brings out, in all ways of asking and reading out; and what the VAE leaves of the truth."""
    prompt = asking_for(part.labels[stem][0])
    answer = extract(part.mixed, prompt, seed)
    ideal = resynthesise(part.stems[stem]), resynthesise(part.mixed - part.stems[stem])
    known = {
        VAE if name == READOUTS[OFF] else f"{VAE}, {name}": sound
        for name, sound in readout.all(part.mixed, ideal).items()
    }
    return {
        **readout.all(part.mixed, answer),
        **{name: readout.of(part.mixed, ask(part.mixed, prompt, seed)) for name, ask in variants.items()},
        **known,
        MIXTURE: part.mixed,
    }


def separated(found: Mapping[str, Mapping[str, Sound]], part: Scene, stem: int) -> dict[str, Sound]:
    """By separator, what it has found of a stem, if it tells it apart."""
    if not part.alone(stem):
        return {}
    told = {name: part_of(sounds, frozenset([part.track(stem)])) for name, sounds in found.items()}
    return {name: sound for name, sound in told.items() if sound is not None}


def judge(part: Scene, stem: int, answers: Mapping[str, Sound]) -> tuple[Figures, dict[str, int]]:
    """Every answer beside the true stem, in every group that the stem is in; and the stem that is nearest to each."""
    segments = part.sounding[stem]
    heard = part.within(segments, part.stems.shape[1])
    start = si_sdr(part.mixed[heard], part.stems[stem][heard])
    figures: Figures = {}
    taken_for: dict[str, int] = {}
    for name, sound in answers.items():
        nearest, away = part.nearest(log_mels(sound, SAMPLE_RATE), segments)
        taken_for[name] = nearest
        ratio = si_sdr(sound[heard], part.stems[stem][heard])
        row = {LOG_MEL: away[stem], SI_SDR: ratio, GAIN: ratio - start, FOUND: float(nearest == stem)}
        figures |= {(name, group): row for group in part.groups(stem, name in BY_FAMILY)}
    return figures, taken_for


def grouped(stems: Sequence[Figures]) -> Figures:
    """Means over the stems of a part; over all of them only where a method answers for all."""
    keys = dict.fromkeys(key for figures in stems for key in figures)
    found = {key: [figures[key] for figures in stems if key in figures] for key in keys}
    return {key: mean_of(rows) for key, rows in found.items() if key[1] != ALL or len(rows) == len(stems)}


def absent(part: Scene, extract: Extract, readout: Readout, seed: int) -> Figures:
    """Levels of the answers to instruments that are not there, nor any of their families, below the mixture."""
    if not all(part.labels):
        return {}  # what has no name may be any instrument
    there = {name for labels in part.labels for name in labels}
    missing = [name for name in INSTRUMENTS if there.isdisjoint(labels_of(name))]
    drawn = np.random.default_rng([seed, 0xAB5]).choice(missing, min(ABSENT_QUERIES, len(missing)), replace=False)
    found: dict[str, list[float]] = {name: [] for name in READOUTS.values()}
    for wanted in drawn:
        answer = extract(part.mixed, asking_for(str(wanted)), seed)
        for name, sound in readout.all(part.mixed, answer).items():
            found[name].append(level_dbfs(sound) - level_dbfs(part.mixed))
    return {
        (name, ABSENT): {LEVEL: float(np.mean(levels)), QUIET: float(np.mean(np.array(levels) <= QUIET_DB))}
        for name, levels in found.items()
        if levels
    }


def ask_held_out(part: Scene, readers: Mapping[str, Extract], readout: Readout, seed: int, tally: Tally) -> None:
    """Asks for stems by words that nothing was taught: right where the nearest stem has the word's label."""
    asked = set(part.asked())
    for label, words in HELD_OUT.items():
        right = [stem for stem in asked if label in part.labels[stem]]
        if not right or len(right) == len(part.labels):
            continue
        segments = np.any(part.sounding[right], axis=0, keepdims=True)[0]
        for word in words:
            for reader, extract in readers.items():
                answer = readout.of(part.mixed, extract(part.mixed, ASKED.format(word), seed))
                nearest, _ = part.nearest(log_mels(answer, SAMPLE_RATE), segments)
                tally.words.setdefault((reader, word), []).append(nearest in right)


def held_out_rows(tally: Tally) -> dict[str, Row]:
    """One for each reader: the mean over words of the share of songs in which the word found what it means."""
    shares: dict[str, list[float]] = {}
    for (reader, _), found in tally.words.items():
        shares.setdefault(reader, []).append(float(np.mean(found)))
    return {HELD.format(reader): {FOUND: Figure.of(of)} for reader, of in shares.items()}


def held_out_notes(tally: Tally) -> list[str]:
    words = {word for _, word in tally.words}
    notes = [f"{len(words)} of {sum(map(len, HELD_OUT.values()))} held-out words could be asked for"]
    for reader in dict.fromkeys(reader for reader, _ in tally.words):
        missed = [word for (of, word), found in tally.words.items() if of == reader and np.mean(found) < 0.5]
        notes += [f"{reader} misses: {', '.join(missed)}"] if missed else []
    return notes


def gates(rows: Mapping[str, Row], heard: str) -> list[Gate]:
    """What a pack must reach, in the row that a session has (MGE.md 9); what no song had has no gate."""
    found: list[Gate] = []

    def at_least(name: str, row: str, column: str, least: float) -> None:
        if column in rows.get(row, {}):
            value = rows[row][column].mean
            found.append(Gate(f"{name}: {column}", value, f"at least {least:g}", value >= least))

    at_least("by name", heard, FOUND, LEAST_FOUND)
    for reader, least in LEAST_HELD_OUT.items():
        at_least(HELD.format(reader), HELD.format(reader), FOUND, least)
    for group, least in LEAST_GAIN.items():
        at_least(group, row_name(heard, group), GAIN, least)
    for beside, more in ((HPSS, 0.0), (STEMS, MOST_BEYOND_STEMS)):
        for track in TRACKS:
            ours, theirs = (rows.get(row_name(name, track), {}) for name in (heard, beside))
            if LOG_MEL in ours and LOG_MEL in theirs:
                value, most = ours[LOG_MEL].mean, theirs[LOG_MEL].mean + more
                wanted = f"at most {most:.3g}" + (f", {more:g} above" if more else "")
                found.append(Gate(f"{track}: {LOG_MEL} beside {beside}", value, wanted, value <= most))
    at_least("what is not there", row_name(heard, ABSENT), QUIET, LEAST_QUIET)
    painted = [rows[name][LOG_MEL].mean for name in map(REPAINT.format, REPEATS) if name in rows]
    if ADAPTIVE in rows and painted:
        value, best = rows[ADAPTIVE][LOG_MEL].mean, min(painted)
        found.append(Gate(f"{ADAPTIVE}: {LOG_MEL}", value, f"below RePaint's {best:.3g}", value < best))
    return found
