"""What an evaluation found, as data: figures with their errors, gates, JSON there and back, tables for a terminal."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
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
    # "voices", "labels", "prompts", "extraction", "imputation", "generation", "stages" or "tokens"
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


BESIDE = 3  # characters of a table's column that are no text


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


@dataclass(frozen=True)
class FiguresTable:
    """One line per row, for a `rich` console: in several tables below each other where one is too wide for it."""

    rows: Mapping[str, Row]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        names = max(map(cell_len, self.rows), default=0) + BESIDE + 1
        some: list[str] = []
        room = options.max_width - names
        for column in columns_of(self.rows):
            needed = max(map(cell_len, (*column.split(), *self._cells(column)))) + BESIDE
            if some and needed > room:
                yield self._table(some)
                some, room = [], options.max_width - names
            some.append(column)
            room -= needed
        yield self._table(some)

    def _cells(self, column: str) -> list[str]:
        return [str(row[column]) if column in row else "" for row in self.rows.values()]

    def _table(self, columns: Sequence[str]) -> Table:
        cells = [self._cells(column) for column in columns]
        widths = [max(map(cell_len, (*name.split(), *found))) for name, found in zip(columns, cells, strict=True)]
        heads = [Column(name, min_width=width) for name, width in zip(columns, widths, strict=True)]
        table = Table(Column(no_wrap=True), *heads)
        for name, *line in zip(self.rows, *cells, strict=True):
            if any(line) or not columns:
                table.add_row(name, *line)
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
