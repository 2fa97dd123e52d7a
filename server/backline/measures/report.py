"""What an evaluation found, as data: figures with their errors, gates, JSON there and back, tables for a terminal."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Column, Table
from rich.text import Text

from backline.whole_file import whole_file


@dataclass(frozen=True)
class Figure:
    """A mean over pieces and its standard error: two figures that differ by less than both errors do not differ."""

    mean: float
    error: float | None = None  # None: one piece alone, or a figure of the whole set

    @classmethod
    def of(cls, values: Sequence[float] | NDArray[np.float64]) -> Figure:
        """The mean of one value per piece."""
        error = float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
        return cls(float(np.mean(values)), error)

    def __str__(self) -> str:
        return f"{self.mean:.3g}" if self.error is None else f"{self.mean:.3g} ±{round(self.error, 4):.2g}"


Row = Mapping[str, Figure]  # by column


@dataclass(frozen=True)
class Gate:
    """What a pack must reach, and whether it does."""

    name: str
    found: float
    wanted: str  # in words, with the figure
    passed: bool


@dataclass(frozen=True)
class Quoted:
    """Figures that a paper has published. They stand beside ours and are not comparable: other songs, other tools."""

    source: str  # which paper and table, measured on what
    rows: Mapping[str, Row]


@dataclass(frozen=True)
class Report:
    """One run of one evaluation on one pack."""

    kind: str  # of evaluation: "accompaniment", "codec", "grid", "drift", "robustness", "takes", "separation",
    # "voices", "labels" or "stages"
    pack: str  # name and version
    settings: Mapping[str, Any]  # everything that decided the figures
    rows: Mapping[str, Row]
    gates: Sequence[Gate] = ()
    notes: Sequence[str] = ()
    quoted: Sequence[Quoted] = ()

    @property
    def columns(self) -> list[str]:
        """Of all rows, in the order in which they first come."""
        return columns_of(self.rows)


def columns_of(rows: Mapping[str, Row]) -> list[str]:
    return list(dict.fromkeys(column for row in rows.values() for column in row))


def write_report(path: Path, report: Report) -> None:
    """Writes JSON; what is not a finite number becomes null, which JSON knows."""
    with whole_file(path) as fresh:
        fresh.write_text(json.dumps(_finite(asdict(report)), indent=2) + "\n", encoding="utf-8")


def read_report(path: Path) -> Report:
    """What `write_report` wrote."""
    said = json.loads(path.read_text(encoding="utf-8"))
    rows = _rows(said.pop("rows"))
    gates = [Gate(**{**gate, "found": _number(gate["found"])}) for gate in said.pop("gates")]
    quoted = [Quoted(each["source"], _rows(each["rows"])) for each in said.pop("quoted", ())]
    return Report(**said, rows=rows, gates=gates, quoted=quoted)


def figures_table(rows: Mapping[str, Row]) -> Table:
    """One line per row."""
    columns = columns_of(rows)
    table = Table(Column(no_wrap=True), *columns)
    for name, row in rows.items():
        table.add_row(name, *(str(row[column]) if column in row else "" for column in columns))
    return table


def gates_table(gates: Sequence[Gate]) -> Table:
    """One line per gate: passed or missed, found and wanted."""
    table = Table("gate", "", "found", "wanted")
    for gate in gates:
        verdict = Text("passed", "green") if gate.passed else Text("missed", "bold red")
        table.add_row(gate.name, verdict, f"{gate.found:.3g}", gate.wanted)
    return table


def _rows(said: Mapping[str, Any]) -> dict[str, Row]:
    return {
        name: {column: Figure(_number(figure["mean"]), figure["error"]) for column, figure in row.items()}
        for name, row in said.items()
    }


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float | None) -> float:
    return math.nan if value is None else value
