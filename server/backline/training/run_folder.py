"""What a run folder says of itself, for the card of the pack that comes out of it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from backline.training.loop import Losses, read_log

UNMEASURED = {"kind", "step", "seconds"}  # of a line of a log


def commit() -> str:
    """The commit of the source tree that trains, or "unknown" outside one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def last_entry(part: Path) -> dict[str, Any]:
    """The newest line of a part's log."""
    entries = read_log(part)
    return entries[-1] if entries else {"step": 0, "seconds": 0.0}


def seconds(part: Path) -> float:
    """That a part has been trained for."""
    return float(last_entry(part)["seconds"])


def validations(part: Path) -> list[dict[str, float]]:
    """All validation results of a part, the first one first."""
    results = [entry for entry in read_log(part) if entry["kind"] == "validation"]
    return [{name: value for name, value in entry.items() if name not in UNMEASURED} for entry in results]


def best_validation(part: Path, watched: str | Callable[[Losses], float]) -> dict[str, float]:
    """The validation results of the weights that are exported: those with the lowest `watched`, as the loop has it."""
    key = watched if callable(watched) else lambda found: found[watched]
    return rounded(min(validations(part), key=key, default={}))


def rounded(results: Losses) -> dict[str, float]:
    """As a card has them."""
    return {name: round(value, 4) for name, value in results.items()}


def best_weights(part: Path) -> Any:
    """The state dict of a part's model at its best validation, or its latest where there was none yet.

    Raises:
        ValueError: the part has not been trained.
    """
    path = part / "best.pt" if (part / "best.pt").exists() else part / "checkpoint.pt"
    if not path.exists():
        raise ValueError(f"{path} is missing: train the part {part.name!r} first")
    return torch.load(path, map_location="cpu", weights_only=False)["state"]["model"]


def hold_to_songs(folder: Path, told: str) -> None:
    """Holds a folder of shards to the songs that it was begun with, by how a command is told of them.

    Raises:
        ValueError: it was begun with others, which would go on being learnt from.
    """
    noted = folder / "songs.txt"
    if noted.exists() and (before := noted.read_text(encoding="utf-8")) != told:
        raise ValueError(f"{folder} holds songs of {before}, not of {told}: use another run folder, or move it away")
    noted.write_text(told, encoding="utf-8")
