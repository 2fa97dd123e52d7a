"""DuoTok's Figs. 1, 3 and 4 of what was measured here: a trade-off, what corruption costs, what context gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from backline.evaluation.tokens.evaluate import BOTH, GIVEN_VOICE, row_of
from backline.evaluation.tokens.lm import CONTEXTS, MASKED, SHIFTED_SECONDS
from backline.evaluation.tokens.reconstruction import LOG_MEL
from backline.evaluation.tokens.tokenizers import TRACKS
from backline.measures.pictures import panels
from backline.measures.report import Figure, Row
from backline.whole_file import whole_file

SPOILT = (
    "shift 1 beat",
    "shift 1 bar",
    f"shift {SHIFTED_SECONDS:g} s",
    *(f"mask {share:g}" for share in MASKED),
    "mismatch",
)
WIDTH, HEIGHT = 17.0, 5.0  # inches of the whole


def draw_tokens(path: Path, rows: Mapping[str, Row], names: Sequence[str]) -> Path:
    """Draws tokenizers' rows, each in one colour; those that are quoted are on other scales, and not here.

    Raises:
        NoPicture: matplotlib is not installed.
    """
    picture, (trade, spoilt, context) = panels(3, WIDTH, HEIGHT, columns=3)
    trade.set(title="predictability and fidelity", xlabel="log-mel L1, mean of both tracks", ylabel="cnBPT")
    spoilt.set(title="cost of a spoilt voice", ylabel="cnBPT of the accompaniment, + %")
    context.set(title="context", xlabel="seconds heard", ylabel="cnBPT of the last of them")
    for number, name in enumerate(names):
        colour = f"C{number % 10}"
        both, given = rows[row_of(name, BOTH)], rows[row_of(name, GIVEN_VOICE)]
        losses = [rows[row_of(name, track)][LOG_MEL].mean for track in TRACKS if LOG_MEL in rows[row_of(name, track)]]
        if losses:
            place = sum(losses) / len(losses), both["cnBPT"].mean
            trade.errorbar(*place, yerr=both["cnBPT"].error, marker="o", color=colour, capsize=3)
            trade.annotate(name, place, xytext=(6, 6), textcoords="offset points", color=colour)
        else:
            trade.axhline(both["cnBPT"].mean, color=colour, linestyle=":", label=f"{name}: never sound again")
        costs = {at: given[f"{each} %"] for at, each in enumerate(SPOILT) if f"{each} %" in given}
        share = 0.8 / len(names)
        spoilt.bar(
            [at - 0.4 + share * (number + 0.5) for at in costs],
            [each.mean for each in costs.values()],
            share,
            yerr=_errors(list(costs.values())),
            color=colour,
            label=name,
        )
        gains = {at: both[f"cnBPT by {at:g} s"] for at in CONTEXTS if f"cnBPT by {at:g} s" in both}
        values = list(gains.values())
        context.errorbar(
            list(gains), [each.mean for each in values], yerr=_errors(values), color=colour, marker="o", label=name
        )
    spoilt.axhline(0, color="black", linewidth=0.6)
    spoilt.set_xticks(range(len(SPOILT)), SPOILT, rotation=35, ha="right")
    trade.margins(0.25)
    if trade.get_legend_handles_labels()[0]:
        trade.legend(fontsize="small")
    context.legend(fontsize="small")
    with whole_file(path) as fresh:
        picture.savefig(fresh, dpi=90)
    return path


def _errors(figures: Sequence[Figure]) -> list[float]:
    return [each.error or 0.0 for each in figures]
