"""How well a pack separates: its ports on mixtures of songs that nothing was trained on, beside baselines.

Rows, for all parts of the songs together (truth.py) and for each, beside the true sounds:
- separated: what the pack's ports play, chunk by chunk, as a session hears them;
- tokens, greedy: the same as the paper of MSS-LM has it, the likeliest codes decoded with the codec's own phases, and
  nothing of the mixture; tokens, mean: what the network expects of its codes in their place;
- other packs, HPSS: likewise;
- mixture, ideal ratio mask: separation_baselines.py;
- codec: the true sounds through the pack's codec, so the most that its codes can say.
Columns that end in "coded" compare with the true sounds through the codec, as the paper of MSS-LM does; there the
baselines go through the codec as well. Everything is mono: the mean of the channels, of songs and of ports.

A long song is judged in parts, each separated by itself (truth.LONGEST_SECONDS), and its figure is the mean of theirs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np

from backline.corpus.corpus import CorpusSong
from backline.corpus.multitrack import Multitrack
from backline.corpus.separator import stem_ports
from backline.corpus.songs import Songs
from backline.corpus.stem_names import VOCALS
from backline.evaluation.live import Setting, Sound, Take, play_ports
from backline.evaluation.plan import SEEDS_APART, Plan, Say
from backline.evaluation.separation_baselines import Finder, Oracle, Resynthesise, hpss, ideal_ratio_mask, mixture
from backline.evaluation.truth import Truth, truths
from backline.measures.level import SILENCE_DBFS, level_dbfs
from backline.measures.report import Figure, Gate, Row
from backline.measures.separation import LOG_MEL, SI_SDR, check_packages, measure, si_sdr, sum_error
from backline.models.stream import Stream, StreamSpec
from backline.music.seeds import TEST_SEED
from backline.music.stems import SAMPLE_RATE, TRACKS

GAIN, SUM = "SI-SDR gain dB", "sum error dB"  # columns; the gain is over the mixture's SI-SDR
LEVEL = "level dB"  # column, against the mixture's: all that can be said of a stem that is silent, or not known apart
CODED = ", coded"  # ends a column
TOKENS: Mapping[str, Mapping[str, float]] = {  # and those of a pack that tells codes, by its parameters
    "tokens, greedy": {"readout": 0.0, "phase": 0.0, "consistency": 0.0, "transients": 0.0},
    "tokens, mean": {"readout": 1.0, "phase": 0.0, "consistency": 0.0, "transients": 0.0},
}
SEPARATED, MIXTURE, HPSS, CODEC, TRUE = "separated", "mixture", "HPSS", "codec", "true"  # rows
ORACLES: Mapping[str, Oracle] = {MIXTURE: mixture, "ideal ratio mask": ideal_ratio_mask}

LEAST_GAIN = {"vocals": 3.0, "drums": 5.0, "bass": 5.0, "other": 3.0}  # dB
MOST_SUM_ERROR = -60.0  # dB

ALL = ""  # in place of a part: the mean of those that sound
Opinion = Callable[[Sound], Mapping[str, float]]  # of a voice [sample] at SAMPLE_RATE, by column
Figures = dict[tuple[str, str], dict[str, float]]  # of one song: by method and part, by column


def evaluate_separation(
    find: Finder,
    plan: Plan,
    beside: Mapping[str, Finder],
    resynthesise: Resynthesise | None,
    with_visqol: bool,
    say: Say,
    opinions: Sequence[Opinion] = (),
) -> tuple[Mapping[str, Row], list[Gate], list[str]]:
    """Rows of figures, gates, and notes on what they leave out.

    Args:
        find: what is judged: `session` of a pack.
        beside: further separators by the names of their rows.
        resynthesise: the pack's codec there and back; without one nothing is compared with coded sounds.
        opinions: what is said of vocals by themselves.
    Raises:
        ValueError: a package that measures is not installed, or there is no song to judge by.
    """
    check_packages(with_visqol)
    finders = {SEPARATED: find, HPSS: lambda mixed, seed: hpss(mixed), **beside}
    figures: list[Figures] = []
    separators = Counter[str]()
    for number, song in enumerate(plan.multitracks()):
        prefix = f"song {number + 1} of {plan.count}"
        seed = plan.seed * SEEDS_APART + number
        pieces = []
        say(f"{prefix}: reading, or composing and rendering", 0.0)
        for truth in truths(song):
            if level_dbfs(truth.mixed) <= SILENCE_DBFS:
                continue
            found = {}
            for place, (name, separate) in enumerate(finders.items()):
                say(f"{prefix}: separating", place / len(finders))
                found[name] = separate(truth.mixed, seed)
            say(f"{prefix}: measuring", 0.0)
            pieces.append(judge(found, truth, resynthesise, with_visqol, opinions))
        figures.append(mean_figures(pieces))
        separators[separated_by(song)] += 1
    rows = rows_of(figures)
    return rows, gates(rows), [*plan.notes(), *pseudo_notes(separators), *silent_notes(figures)]


def session(stream: Stream, setting: Setting) -> Finder:
    """What a stream's ports play to a mixture: by what each is, [sample].

    Raises:
        CorpusError: it does not separate.
    """
    ports = stem_ports(stream.spec)

    def find(mixed: Sound, seed: int) -> Mapping[str, Sound]:
        (played,) = play_ports(stream, [Take(mixed, seed)], SAMPLE_RATE, setting)
        return {ports[port]: sound for port, sound in played.items()}

    return find


def token_settings(spec: StreamSpec, setting: Setting) -> dict[str, Setting]:
    """`setting` as each row of TOKENS has it; none of a pack that tells no codes."""
    known = {parameter.name for parameter in spec.parameters}
    if not {"readout", "phase"} <= known:
        return {}
    return {
        name: replace(setting, parameters={**setting.parameters, **{k: v for k, v in asked.items() if k in known}})
        for name, asked in TOKENS.items()
    }


def judge(
    found: Mapping[str, Mapping[str, Sound]],
    truth: Truth,
    resynthesise: Resynthesise | None,
    with_visqol: bool,
    opinions: Sequence[Opinion] = (),
) -> Figures:
    """Every separator beside the true parts, with the oracles.

    Args:
        found: by method, with SEPARATED; what each has found, by its labels.
    """
    true = truth.named(truth.parts)
    sounding = [part for part, sound in true.items() if level_dbfs(sound) > SILENCE_DBFS]
    coded = {} if resynthesise is None else {part: resynthesise(sound) for part, sound in true.items()}
    start = {part: si_sdr(truth.mixed, true[part]) for part in sounding}
    oracles = {name: truth.named(oracle(truth.mixed, truth.parts)) for name, oracle in ORACLES.items()}
    heard = {name: {**of, **truth.parts_in(of)} for name, of in found.items()}
    methods = {SEPARATED: heard[SEPARATED], **oracles, **heard, **({CODEC: coded} if coded else {})}
    figures: Figures = {}
    for name, sounds in methods.items():
        rows = {part: measure(sounds[part], true[part], with_visqol) for part in sounding if part in sounds}
        for part, row in rows.items():
            row[GAIN] = row[SI_SDR] - start[part]
            if resynthesise is not None and name != CODEC:
                again = sounds[part] if name in (SEPARATED, *TOKENS) else resynthesise(sounds[part])
                beside = measure(again, coded[part], with_visqol)
                row |= {column + CODED: value for column, value in beside.items()}
        whole = found.get(name, sounds)
        mean = mean_of(rows.values()) if len(rows) == len(sounding) else {}  # of fewer it would compare with no other's
        figures[name, ALL] = {**mean, SUM: sum_error(np.stack([*whole.values()]), truth.mixed)}
        figures |= {(name, part): row for part, row in rows.items()}
    for name, sounds in {**methods, TRUE: true}.items():
        for part, sound in sounds.items():
            below = level_dbfs(sound) - level_dbfs(truth.mixed)
            figures[name, part] = {**figures.get((name, part), {}), LEVEL: below}
            if part == VOCALS and part in sounding:
                for opinion in opinions:
                    figures[name, part] |= opinion(sound)
    return figures


def mean_of(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every column, over the rows that have it."""
    values: dict[str, list[float]] = {}
    for row in rows:
        for column, value in row.items():
            values.setdefault(column, []).append(value)
    return {column: float(np.mean(of)) for column, of in values.items()}


def mean_figures(pieces: Sequence[Figures]) -> Figures:
    """Of the parts of a song."""
    keys = dict.fromkeys(chain.from_iterable(pieces))
    return {key: mean_of(piece[key] for piece in pieces if key in piece) for key in keys}


def rows_of(songs: Sequence[Figures]) -> dict[str, Row]:
    """The means over songs, by the names of rows: method by method, all parts first."""
    methods, parts = (dict.fromkeys(key[place] for song in songs for key in song) for place in (0, 1))
    rows: dict[str, Row] = {}
    for key in ((method, part) for method in methods for part in [ALL, *TRACKS, *parts]):
        measured = [song[key] for song in songs if key in song]
        columns = dict.fromkeys(column for row in measured for column in row)
        if columns:
            rows[row_name(*key)] = {
                column: Figure.of([row[column] for row in measured if column in row]) for column in columns
            }
    return rows


def row_name(method: str, track: str = ALL) -> str:
    return f"{method}, {track}" if track else method


def silent_notes(songs: Sequence[Figures]) -> list[str]:
    """Which parts are judged by fewer songs than know them apart."""
    notes = []
    for part in dict.fromkeys(part for song in songs for name, part in song if name == TRUE):
        there = [song for song in songs if (TRUE, part) in song]
        silent = sum(SI_SDR not in song[MIXTURE, part] for song in there)
        if silent:
            notes.append(f"{part}: silent in {silent} of {len(there)} songs, of which it has nothing but a level")
    return notes


def separated_by(song: Multitrack) -> str:
    """What has cut the stems out of the mix; "" where they are true."""
    stems = song.entry.stems if isinstance(song, CorpusSong) else ()
    return ", ".join(sorted({stem.separator for stem in stems if stem.separator}))


def pseudo_notes(separators: Mapping[str, int]) -> list[str]:
    """Says so where what passes for the truth is what another separator has found."""
    return [
        f"the stems of {count} songs were separated by {name}: figures say how alike the two are, not how good"
        for name, count in separators.items()
        if name
    ]


def gates(rows: Mapping[str, Row]) -> list[Gate]:
    """What a pack must reach; a stem that is silent in every song has no gate."""
    found: list[Gate] = []
    judged = {track: rows[name] for track in TRACKS if SI_SDR in rows.get(name := row_name(SEPARATED, track), ())}
    for track, row in judged.items():
        gain, least = row[GAIN].mean, LEAST_GAIN[track]
        found.append(Gate(f"{track}: {GAIN}", gain, f"above {least:g}", gain > least))
    for track, row in judged.items():
        if LOG_MEL in (beside := rows.get(row_name(HPSS, track), {})):
            distance, hpss = row[LOG_MEL].mean, beside[LOG_MEL].mean
            found.append(Gate(f"{track}: {LOG_MEL}", distance, f"below HPSS's {hpss:.3g}", distance < hpss))
    error = rows[SEPARATED][SUM].mean
    return [*found, Gate(SUM, error, f"at most {MOST_SUM_ERROR:g}", error <= MOST_SUM_ERROR)]


def pictured(find: Finder, songs: Songs) -> dict[str, Sound]:
    """What to draw of the first song: the mixture and its true parts, then the sum of the separated and each."""
    truth = next(truths(songs.song(TEST_SEED)))
    found = find(truth.mixed, 0)
    parts = truth.parts_in(found)
    signals = {"mixture": truth.mixed} | truth.named(truth.parts)
    signals["sum of the separated"] = np.sum([*found.values()], axis=0)
    return signals | {f"{part}, separated": parts[part] for part in truth.names if part in parts}
