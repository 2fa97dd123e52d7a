"""What a pack says of itself: the README beside its weights, and the figures in the [card] of its pack.toml.

Both are made of what is known already: the card that training wrote, the log of the run, and the JSON of evaluations.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from backline.measures.report import Figure, Gate, Report, read_report
from backline.packs.pack import Pack, read_pack, update_card
from backline.training.report import LOSSES, plot_losses
from backline.whole_file import whole_file

README = "README.md"
FACTS = (
    "data",
    "world",
    "from",
    "codec",
    "fine_tuned",
    "seed",
    "hardware",
    "commit",
    "note",
)  # entries of a card that say how a pack came to be


def write_card(run: Path, folder: Path, evaluations: Sequence[Path], limits: str = "", method: str = "") -> Path:
    """Writes the README of the pack in `folder`, and what was measured into its pack.toml.

    Args:
        run: where the pack was trained; its losses are drawn.
        evaluations: what `backline evaluate ... -o` wrote of this pack.
        limits: what the pack cannot do, in Markdown; if empty, what its card says already.
        method: which parts of it are a paper's and which are not, likewise.

    Raises:
        PackError: the pack is damaged.
        ValueError: an evaluation cannot be read, or is of another pack.
        NoPicture: the losses cannot be drawn.
    """
    pack = read_pack(folder)
    reports = read_evaluations(evaluations, pack)
    card = dict(pack.config.get("card", {}))
    card |= {name: text.strip() for name, text in (("limits", limits), ("method", method)) if text.strip()}
    card["measured"] = measured(reports)
    drawn = plot_losses(run)
    with whole_file(folder / drawn.name) as fresh:
        shutil.copy(drawn, fresh)
    pack = update_card(pack, card)
    with whole_file(folder / README) as fresh:
        fresh.write_text(readme(pack, reports), encoding="utf-8")
    return folder / README


def read_evaluations(paths: Sequence[Path], pack: Pack) -> list[Report]:
    """What was measured of `pack`.

    Raises:
        ValueError: a file cannot be read, or is of another pack.
    """
    return [_report(path, pack) for path in paths]


def measured(reports: Sequence[Report]) -> dict[str, Any]:
    """Evaluations as a table of pack.toml: settings, the mean of every figure, every gate with its verdict."""
    return {
        name: {
            "settings": dict(report.settings),
            "figures": {
                row: {column: round(figure.mean, 4) for column, figure in figures.items()}
                for row, figures in report.rows.items()
            },
            "gates": {gate.name: f"{_verdict(gate)}: {gate.found:.4g}, wanted {gate.wanted}" for gate in report.gates},
        }
        for name, report in _named(reports).items()
    }


def readme(pack: Pack, reports: Sequence[Report]) -> str:
    """The README of a pack; every *.png in its folder is shown."""
    card: Mapping[str, Any] = pack.config.get("card", {})
    size = sum(pack.location(file).stat().st_size for file in pack.files)
    stored = "".join(sorted({f", matrices in {file.quantization}" for file in pack.files if file.quantization}))
    lines = [
        f"# {pack.name} {pack.version}",
        f"{pack.description}. Family {pack.family}, {pack.license}, {size / 1e6:.1f} MB{stored}.",
        "## How it came to be",
        "\n".join(f"- {fact.replace('_', '-')}: {card[fact]}" for fact in FACTS if fact in card),
        _parts_table(card),
        f"![losses over the minutes of training]({LOSSES})",
    ]
    if card.get("method"):
        lines += ["## What is a paper's, and what is ours", card["method"]]
    lines += ["## What was measured"]
    for name, report in _named(reports).items():
        settings = ", ".join(f"{key} {value}" for key, value in report.settings.items() if value not in ({}, None))
        lines += [f"### {name}", f"Settings: {settings}.", _gates_table(report.gates), _figures_table(report)]
        lines += ["\n".join(f"- {note}" for note in report.notes)]
    pictures = sorted(path.name for path in pack.folder.glob("*.png") if path.name != LOSSES)
    if pictures:
        lines += ["## In pictures", *(f"![{name.removesuffix('.png')}]({name})" for name in pictures)]
    if card.get("limits"):
        lines += ["## What it cannot do", card["limits"]]
    if "command" in card:
        lines += ["## Make it again", f"    {card['command']}"]
    return "\n\n".join(line for line in lines if line) + "\n"


def _report(path: Path, pack: Pack) -> Report:
    try:
        report = read_report(path)
    except (json.JSONDecodeError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no evaluation ({error}): give what `backline evaluate ... -o` wrote") from error
    if report.pack != f"{pack.name} {pack.version}":
        raise ValueError(f"{path} is of pack {report.pack}, not of {pack.name} {pack.version}: evaluate this one")
    return report


def _named(reports: Sequence[Report]) -> dict[str, Report]:
    """By kind; those of a kind are numbered from the second on."""
    named: dict[str, Report] = {}
    for report in reports:
        count = sum(other.kind == report.kind for other in named.values())
        named[f"{report.kind} {count + 1}" if count else report.kind] = report
    return named


def _verdict(gate: Gate) -> str:
    return "passed" if gate.passed else "missed"


def _parts_table(card: Mapping[str, Any]) -> str:
    """Steps, minutes and validation of every part that was trained."""
    steps, minutes, validation = (card.get(name, {}) for name in ("steps", "trained_minutes", "validation"))
    if not steps:
        return ""
    rows = [
        [part, str(count), str(minutes.get(part, "")), _validation_text(validation.get(part, {}))]
        for part, count in steps.items()
    ]
    return _table(["part", "steps", "minutes", "validation"], rows)


def _validation_text(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())


def _gates_table(gates: Sequence[Gate]) -> str:
    rows = [[gate.name, f"**{_verdict(gate)}**", f"{gate.found:.3g}", gate.wanted] for gate in gates]
    return _table(["gate", "", "found", "wanted"], rows) if rows else ""


def _figures_table(report: Report) -> str:
    """One line per row; beside a mean its standard error."""

    def cell(row: Mapping[str, Figure], column: str) -> str:
        return str(row[column]) if column in row else ""

    rows = [[name, *(cell(row, column) for column in report.columns)] for name, row in report.rows.items()]
    return _table(["", *report.columns], rows) if rows else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
