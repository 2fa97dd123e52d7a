"""What a training run and its pack tell about themselves: its losses as a picture, and the machine it ran on."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backline.measures.pictures import NoPicture, panels
from backline.training.loop import read_log
from backline.whole_file import whole_file

LOSSES = "losses.png"
# Names in a log, or how they begin, of what is not measured in the unit of the losses beside it.
NO_LOSSES = ("kind", "step", "seconds", "norm", "rate", "restarted", "sdr_", "mel_", "perplexity_", "buzz")


def plot_losses(run: Path) -> Path:
    """Draws the losses of every part of a run folder over the minutes that it trained, into `losses.png` there.

    Raises:
        NoPicture: matplotlib is not installed, or nothing has been logged yet.
    """
    logs = {log.parent.name: read_log(log.parent) for log in sorted(run.glob("*/log.jsonl"))}
    logs = {part: entries for part, entries in logs.items() if entries}
    if not logs:
        raise NoPicture(f"no part of {run} has been trained yet")
    picture, axes = panels(len(logs), width=9, height=3.2)
    for axis, (part, entries) in zip(axes, logs.items(), strict=True):
        for number, (name, kinds) in enumerate(curves(entries).items()):
            colour = f"C{number % 10}"
            axis.plot(*np.reshape(kinds["train"], (-1, 2)).T, color=colour, linewidth=0.8, alpha=0.6)
            axis.plot(*np.reshape(kinds["validation"], (-1, 2)).T, "o:", color=colour, markersize=4, label=name)
        axis.set(title=part, ylabel="loss")
        axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize="small")
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("minutes of training; thin: training, dotted: validation")
    with whole_file(run / LOSSES) as fresh:
        picture.savefig(fresh, dpi=100)
    return run / LOSSES


def drawn_losses(run: Path, progress: Callable[[str], None]) -> list[Path]:
    """The picture of the losses; none where it cannot be drawn, which is no reason to lose a pack."""
    try:
        return [plot_losses(run)]
    except NoPicture as error:
        progress(f"no picture of the losses: {error}")
        return []


def finish_pack(out: Path, pictures: Iterable[Path], progress: Callable[[str], None]) -> Path:
    """Puts the pictures of a run beside the pack that came out of it, which is returned, and says where it lies."""
    for picture in pictures:
        shutil.copy(picture, out)
    progress(f"pack written to {out}")
    return out


def hardware() -> str:
    """The machine that runs this, in a line: processor, cores, GPU, version of torch."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    parts = [names[0] if names else platform.processor() or platform.machine(), f"{os.cpu_count()} cores"]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join([*parts, f"torch {torch.__version__}"])


def curves(entries: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """What a part's log says of every loss: by its name and "train" or "validation", points of minutes and value."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for entry in entries:
        for name, value in entry.items():
            if not name.startswith(NO_LOSSES):
                points = found.setdefault(name, {"train": [], "validation": []})
                points[entry["kind"]].append((entry["seconds"] / 60, value))
    return found
