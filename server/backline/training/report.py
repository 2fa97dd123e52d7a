"""What a training run and its pack tell about themselves: pictures of losses and sounds, and the machine it ran on."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from backline.training.loop import read_log
from backline.training.spectra import stft
from backline.whole_file import whole_file

LOSSES = "losses.png"
# Names in a log, or how they begin, of what is not measured in the unit of the losses beside it.
NO_LOSSES = ("kind", "step", "seconds", "norm", "rate", "restarted", "sdr_", "mel_", "perplexity_", "buzz")

WINDOW, HOP = 2048, 512  # samples of a spectrogram's frames
LOWEST_HERTZ, LINES = 40.0, 256  # of a picture, from the bottom to half the sample rate
LOUDEST, RANGE = -20.0, 80.0  # dB of full scale that are white, and from there to black


class NoPicture(RuntimeError):
    """A picture cannot be drawn; the message says why and what to do."""


def plot_losses(run: Path) -> Path:
    """Draws the losses of every part of a run folder over the minutes that it trained, into `losses.png` there.

    Raises:
        NoPicture: matplotlib is not installed, or nothing has been logged yet.
    """
    logs = {log.parent.name: read_log(log.parent) for log in sorted(run.glob("*/log.jsonl"))}
    logs = {part: entries for part, entries in logs.items() if entries}
    if not logs:
        raise NoPicture(f"no part of {run} has been trained yet")
    picture, axes = _picture(len(logs), width=9, height=3.2)
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


def plot_spectrograms(
    path: Path, signals: Mapping[str, NDArray[np.float32]], sample_rate: int, columns: int = 1
) -> Path:
    """Draws the spectrogram of each signal [sample], line by line, the frequencies on a logarithmic scale.

    Raises:
        NoPicture: matplotlib is not installed.
    """
    picture, axes = _picture(len(signals), width=11 if columns == 1 else 4.5 * columns, height=2.8, columns=columns)
    edges = np.geomspace(LOWEST_HERTZ, sample_rate / 2, LINES + 1)
    bins = np.round(edges[:-1] * WINDOW / sample_rate).astype(int)  # where each line begins
    for axis, (name, signal) in zip(axes, signals.items(), strict=True):
        lines = np.maximum.reduceat(spectrogram(signal), bins, axis=0)  # [line, frame], the loudest bin of each
        axis.imshow(
            lines,
            extent=(0, len(signal) / sample_rate, *np.log10(edges[[0, -1]])),
            vmin=LOUDEST - RANGE,
            vmax=LOUDEST,
            origin="lower",
            aspect="auto",
            cmap="magma",
        )
        axis.set(title=name, ylabel="Hz", yticks=[2, 3, 4], yticklabels=["100", "1k", "10k"])
    for axis in axes[-columns:]:
        axis.set_xlabel("seconds")
    with whole_file(path) as fresh:
        picture.savefig(fresh, dpi=90)
    return path


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


def spectrogram(signal: NDArray[np.float32]) -> NDArray[np.float32]:
    """[bin, frame] dB of full scale of [sample]: a sine of amplitude 1 is at 0."""
    magnitude: NDArray[np.float32] = stft(torch.from_numpy(signal)[None], WINDOW, HOP)[0].abs().numpy()
    return 20 * np.log10(2 * magnitude + np.float32(1e-9))


def _picture(panels: int, width: float, height: float, columns: int = 1) -> tuple[Any, Sequence[Any]]:
    """A matplotlib figure so many inches wide and its panels, line by line, each line so many inches high."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise NoPicture("matplotlib is not installed: pip install 'backline[demo]'") from None
    lines = -(-panels // columns)
    picture = Figure(figsize=(width, height * lines), layout="constrained")
    return picture, [picture.add_subplot(lines, columns, number) for number in range(1, panels + 1)]
