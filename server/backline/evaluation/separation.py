"""How well a pack separates: its four ports on mixtures of held-out songs, beside baselines, by the same measures.

Rows, for all stems together and for each, beside the true stems:
- separated: what the pack's ports play, chunk by chunk, as a session hears them;
- tokens, greedy: the same as the paper of MSS-LM has it, the likeliest codes decoded with the codec's own phases, and
  nothing of the mixture; tokens, mean: what the network expects of its codes in their place;
- mixture, ideal ratio mask, HPSS, Demucs: separation_baselines.py;
- codec: the true stems through the pack's codec, so the most that its codes can say.
Columns that end in "coded" compare with the stems through the codec, as the paper of MSS-LM does; there the baselines
go through the codec as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from backline.evaluation.accompaniment import SEEDS_APART, Plan, Say
from backline.evaluation.live import Setting, Sound, Take, play_ports
from backline.evaluation.separation_baselines import Method, Resynthesise, hpss, ideal_ratio_mask, mixture
from backline.measures.level import SILENCE_DBFS, level_dbfs
from backline.measures.report import Figure, Gate, Row
from backline.measures.separation import LOG_MEL, SI_SDR, check_packages, measure, sum_error
from backline.models.stream import Stream, StreamSpec
from backline.music.seeds import TEST_SEED
from backline.music.stems import SAMPLE_RATE, TRACKS, Stems, song_stems
from backline.music.world import World

GAIN, SUM = "SI-SDR gain dB", "sum error dB"  # columns; the gain is over the mixture's SI-SDR
CODED = ", coded"  # ends a column
SEPARATED, MIXTURE, HPSS, CODEC = "separated", "mixture", "HPSS", "codec"  # rows
TOKENS: Mapping[str, Mapping[str, float]] = {  # and those of a pack that tells codes, by its parameters
    "tokens, greedy": {"readout": 0.0, "phase": 0.0, "consistency": 0.0, "transients": 0.0},
    "tokens, mean": {"readout": 1.0, "phase": 0.0, "consistency": 0.0, "transients": 0.0},
}
BASELINES: Mapping[str, Method] = {MIXTURE: mixture, "ideal ratio mask": ideal_ratio_mask, HPSS: hpss}

LEAST_GAIN = {"vocals": 3.0, "drums": 5.0, "bass": 5.0, "other": 3.0}  # dB
MOST_SUM_ERROR = -60.0  # dB

ALL = ""  # in place of a track: the mean of those that sound
Figures = dict[tuple[str, str], dict[str, float]]  # of one song: by method and track, by column


def evaluate_separation(
    stream: Stream,
    plan: Plan,
    setting: Setting,
    more: Mapping[str, Method],
    resynthesise: Resynthesise | None,
    with_visqol: bool,
    say: Say,
) -> tuple[Mapping[str, Row], list[Gate], list[str]]:
    """Rows of figures, gates, and notes on what they leave out.

    Args:
        more: further methods by the names of their rows.
        resynthesise: the pack's codec there and back; without one nothing is compared with coded stems.
    Raises:
        ValueError: the pack has no port for a stem, or a package that measures is not installed.
    """
    check_ports(stream.spec)
    check_packages(with_visqol)
    methods = {**BASELINES, **more}
    told = token_settings(stream.spec, setting)
    songs = []
    for number in range(plan.pieces):
        prefix = f"song {number + 1} of {plan.pieces}"
        say(f"{prefix}: composing and rendering", 0.0)
        true = song_stems(TEST_SEED + number, plan.world)
        mixed = true.sum(axis=0)
        say(f"{prefix}: separating", 0.0)
        seed = plan.seed * SEEDS_APART + number
        found = {name: separate(stream, mixed, seed, way) for name, way in {SEPARATED: setting, **told}.items()}
        for place, (name, method) in enumerate(methods.items()):
            say(f"{prefix}: separating by baselines", place / len(methods))
            found[name] = method(mixed, true)
        say(f"{prefix}: measuring", 0.0)
        songs.append(judge_song(found, true, resynthesise, with_visqol))
    names = [SEPARATED, *told, *methods, *([] if resynthesise is None else [CODEC])]
    rows: dict[str, Row] = {}
    for key in ((name, track) for name in names for track in (ALL, *TRACKS)):
        measured = [song[key] for song in songs if key in song]
        if measured:
            rows[row_name(*key)] = {column: Figure.of([row[column] for row in measured]) for column in measured[0]}
    return rows, gates(rows), silent_notes(songs)


def token_settings(spec: StreamSpec, setting: Setting) -> dict[str, Setting]:
    """`setting` as each row of TOKENS has it; none of a pack that tells no codes."""
    known = {parameter.name for parameter in spec.parameters}
    if not {"readout", "phase"} <= known:
        return {}
    return {
        name: replace(setting, parameters={**setting.parameters, **{k: v for k, v in asked.items() if k in known}})
        for name, asked in TOKENS.items()
    }


def separate(stream: Stream, mixed: Sound, seed: int, setting: Setting) -> Stems:
    """What the stream's ports play to a mixture [sample], [track, sample]."""
    (played,) = play_ports(stream, [Take(mixed, seed)], SAMPLE_RATE, setting)
    return np.stack([played[track] for track in TRACKS])


def judge_song(
    found: Mapping[str, Stems], true: Stems, resynthesise: Resynthesise | None, with_visqol: bool
) -> Figures:
    """Every method's stems beside the true ones; stems that are silent in this song are left out.

    Args:
        found: by method, with MIXTURE.
    """
    coded = None if resynthesise is None else through(resynthesise, true)
    beside_true = dict(found) if coded is None else {**found, CODEC: coded}
    figures: Figures = {}
    for name, stems in beside_true.items():
        figures |= judge(name, stems, true, true, with_visqol)
        figures[name, ALL][SUM] = sum_error(stems, true.sum(axis=0))
    for (_, track), row in figures.items():
        row[GAIN] = row[SI_SDR] - figures[MIXTURE, track][SI_SDR]
    if resynthesise is not None and coded is not None:
        for name, stems in found.items():
            heard = stems if name in (SEPARATED, *TOKENS) else through(resynthesise, stems)
            for key, row in judge(name, heard, coded, true, with_visqol).items():
                figures[key] |= {column + CODED: value for column, value in row.items()}
    return figures


def judge(name: str, found: Stems, wanted: Stems, true: Stems, with_visqol: bool) -> Figures:
    """One method's stems beside those that are wanted: each whose true stem sounds, and their mean."""
    each = {
        (name, track): measure(found[place], wanted[place], with_visqol)
        for place, track in enumerate(TRACKS)
        if level_dbfs(true[place]) > SILENCE_DBFS
    }
    mean = {column: float(np.mean([row[column] for row in each.values()])) for column in next(iter(each.values()))}
    return {(name, ALL): mean, **each}


def through(resynthesise: Resynthesise, stems: Stems) -> Stems:
    return np.stack([resynthesise(stem) for stem in stems])


def row_name(method: str, track: str = ALL) -> str:
    return f"{method}, {track}" if track else method


def silent_notes(songs: Sequence[Figures]) -> list[str]:
    """Which stems are judged by fewer songs than there are."""
    notes = []
    for track in TRACKS:
        silent = sum((SEPARATED, track) not in song for song in songs)
        if silent:
            notes.append(f"{track}: silent in {silent} of {len(songs)} songs, which its figures leave out")
    return notes


def gates(rows: Mapping[str, Row]) -> list[Gate]:
    """What a pack must reach; a stem that is silent in every song has no gate."""
    found: list[Gate] = []
    for track, least in LEAST_GAIN.items():
        if row_name(SEPARATED, track) in rows:
            gain = rows[row_name(SEPARATED, track)][GAIN].mean
            found.append(Gate(f"{track}: {GAIN}", gain, f"above {least:g}", gain > least))
    for track in LEAST_GAIN:
        if row_name(SEPARATED, track) in rows:
            distance, hpss = (rows[row_name(method, track)][LOG_MEL].mean for method in (SEPARATED, HPSS))
            found.append(Gate(f"{track}: {LOG_MEL}", distance, f"below HPSS's {hpss:.3g}", distance < hpss))
    error = rows[SEPARATED][SUM].mean
    return [*found, Gate(SUM, error, f"at most {MOST_SUM_ERROR:g}", error <= MOST_SUM_ERROR)]


def check_ports(spec: StreamSpec) -> None:
    """Refuses a pack that does not separate.

    Raises:
        ValueError: names the ports that there are and those that are wanted.
    """
    ports = [port.name for port in spec.ports]
    if not set(TRACKS) <= set(ports):
        raise ValueError(f"this pack plays {', '.join(ports)}: use one with the ports {', '.join(TRACKS)}")


def pictured(stream: Stream, world: World, setting: Setting) -> dict[str, Sound]:
    """What to draw of the first held-out song: mixture and true stems, then the sum of the separated and each."""
    true = song_stems(TEST_SEED, world)
    separated = separate(stream, true.sum(axis=0), 0, setting)
    signals = {"mixture": true.sum(axis=0)} | dict(zip(TRACKS, true, strict=True))
    signals["sum of the separated"] = separated.sum(axis=0)
    return signals | {f"{track}, separated": stem for track, stem in zip(TRACKS, separated, strict=True)}
