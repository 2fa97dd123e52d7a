"""How well a pack plays over chunks and visibilities, with and without the host's beat; as figures and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from backline.evaluation.accompaniment import (
    CHORDS,
    CHROMA,
    IN_KEY,
    ONSETS,
    generate,
    judge,
    sung,
)
from backline.evaluation.baselines import derangement, fitted
from backline.evaluation.live import Setting, song_rate
from backline.evaluation.plan import Plan, Say
from backline.measures.report import Figure, Row
from backline.models.stream import Stream, StreamSpec
from backline.whole_file import whole_file

CHUNKS = (Fraction(2, 5), Fraction(4, 5), Fraction(8, 5), Fraction(16, 5))  # seconds
VISIBILITIES = (-2.0, -1.0, -0.4, 0.0)  # seconds, and half a chunk and all of it
CHUNK, VISIBILITY, TRANSPORT = "chunk (s)", "visibility (s)", "transport"
PICTURED = (CHORDS, IN_KEY, CHROMA, ONSETS)
MOST, CHANCE = "reference", "another piece's reference"  # rows that hold for every setting


def grid_settings(spec: StreamSpec, parameters: Mapping[str, float]) -> list[Setting]:
    """Every setting of the grid that the pack can play."""
    return [
        Setting(chunk, visibility, transport, parameters=parameters)
        for transport in (True, False)
        for chunk in CHUNKS
        if chunk <= spec.maximum_chunk_seconds and not chunk % spec.chunk_quantum_seconds
        for visibility in sorted({*VISIBILITIES, float(chunk / 2), float(chunk), spec.latest_visibility(chunk)})
        if visibility >= spec.minimum_visibility_seconds
    ]


def evaluate_grid(stream: Stream, plan: Plan, settings: Sequence[Setting], say: Say) -> Mapping[str, Row]:
    """One row of figures for each setting, live, and the two rows between which they lie.

    Raises:
        ValueError: fewer than two pieces.
    """
    pairs = derangement(plan.count, plan.seed)
    songs = sung(plan, song_rate(stream.spec), say)
    true = [one.band for one in songs]
    rows: dict[str, Row] = {}
    for number, setting in enumerate(settings):
        name = setting_name(setting)

        def say_in_all(doing: str, share: float, number: int = number, name: str = name) -> None:
            say(f"{name}: {doing}", (number + share) / len(settings))

        played = generate(stream, songs, plan.seed, setting, say_in_all)
        where = {
            CHUNK: Figure(float(setting.chunk_seconds)),
            VISIBILITY: Figure(setting.visibility_seconds),
            TRANSPORT: Figure(float(setting.transport)),
        }
        rows[name] = where | judge(played, songs)
    rows[MOST] = judge(true, songs)
    others = [fitted(true[other], len(one.vocal)) for other, one in zip(pairs, songs, strict=True)]
    rows[CHANCE] = judge(others, songs)
    return rows


def setting_name(setting: Setting) -> str:
    beat = "with" if setting.transport else "no"
    return f"chunk {float(setting.chunk_seconds):g}, visibility {setting.visibility_seconds:+g}, {beat} transport"


def draw_grid(rows: Mapping[str, Row], title: str, path: Path) -> None:
    """A picture: one panel per measure, with and without transport; one line per chunk over visibility."""
    from matplotlib.figure import Figure as Picture

    cells = [row for row in rows.values() if CHUNK in row]
    beats = sorted({row[TRANSPORT].mean for row in cells}, reverse=True)
    picture = Picture(figsize=(4 * len(PICTURED), 3.2 * len(beats)), layout="constrained")
    panels = picture.subplots(len(beats), len(PICTURED), squeeze=False, sharex=True, sharey="col")
    for line, beat in enumerate(beats):
        for panel, measure in zip(panels[line], PICTURED, strict=True):
            for chunk in sorted({row[CHUNK].mean for row in cells}):
                curve = sorted(
                    (row[VISIBILITY].mean, row[measure].mean, row[measure].error or 0.0)
                    for row in cells
                    if row[CHUNK].mean == chunk and row[TRANSPORT].mean == beat
                )
                panel.errorbar(*np.transpose(curve), marker="o", markersize=3, capsize=2, label=f"chunk {chunk:g} s")
            for name, style in ((MOST, "-"), (CHANCE, ":")):
                panel.axhline(rows[name][measure].mean, color="gray", linestyle=style, label=name)
            panel.set_title(f"{measure}, {'with' if beat else 'without'} transport", fontsize=10)
            panel.set_xlabel("visibility (s)")
    panels[0][0].legend(fontsize=7)
    picture.suptitle(title)
    with whole_file(path) as fresh:
        picture.savefig(fresh, dpi=100)
