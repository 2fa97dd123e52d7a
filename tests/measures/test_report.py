"""Reports: errors over pieces, the same figures after JSON, tables that show all of them, gates by hand."""

import json
import math
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from backline.measures.report import Figure, FiguresTable, Gate, Quoted, Report, gates_table, read_report, write_report

REPORT = Report(
    kind="accompaniment",
    pack="tiny 0.1.0",
    settings={"world": "narrow", "pieces": 2, "chunk_seconds": 0.8, "transport": True},
    rows={"generated": {"chords": Figure(0.25, 0.05), "level": Figure(-20.0)}, "FAD": {"distance": Figure(1.5)}},
    gates=[Gate("chords", 0.25, "at least .3", False), Gate("level", -20.0, "at least -30", True)],
    notes=["no FAD"],
    quoted=[Quoted("another paper", {"theirs": {"FAD": Figure(1.28)}})],
)


def shown(table: object, width: int = 120) -> str:
    console = Console(width=width, markup=False, file=StringIO())
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_a_figure_has_the_standard_error_of_its_mean() -> None:
    figure = Figure.of([1.0, 2.0, 3.0, 6.0])
    assert figure.mean == 3.0
    assert figure.error == pytest.approx(math.sqrt(14 / 3) / 2)  # squares of deviations: 4, 1, 0, 9
    assert Figure.of([0.5]) == Figure(0.5, None)


def test_json_gives_back_the_report(tmp_path: Path) -> None:
    write_report(tmp_path / "out.json", REPORT)
    assert read_report(tmp_path / "out.json") == REPORT


def test_what_is_not_finite_stays_valid_json_and_comes_back_as_not_a_number(tmp_path: Path) -> None:
    broken = Report("drift", "x 1", {}, {"all": {"level": Figure(-math.inf)}}, [Gate("level", math.nan, "any", False)])
    write_report(tmp_path / "out.json", broken)
    assert json.loads((tmp_path / "out.json").read_text())["rows"]["all"]["level"]["mean"] is None
    again = read_report(tmp_path / "out.json")
    assert math.isnan(again.rows["all"]["level"].mean)
    assert math.isnan(again.gates[0].found)


def test_tables_show_every_figure_with_its_error_and_every_gate_with_its_verdict() -> None:
    figures = shown(FiguresTable(REPORT.rows))
    for text in ("generated", "FAD", "chords", "level", "distance", "0.25 ±0.05", "-20", "1.5"):
        assert text in figures
    many = {name: {f"column {n} of figures": Figure(n + 0.25, 0.5) for n in range(9)} for name in ("one row", "other")}
    narrow = shown(FiguresTable(many), width=60)
    assert max(map(len, narrow.splitlines())) <= 60
    for n in range(9):
        assert narrow.count(f"{n}.25 ±0.5") == 2, "a figure is cut"
    gates = [line for line in shown(gates_table(REPORT.gates)).splitlines() if "at least" in line]
    assert "missed" in gates[0]
    assert "0.25" in gates[0]
    assert "passed" in gates[1]
