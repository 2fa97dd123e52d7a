"""Spectrograms as pictures, where matplotlib is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from backline.measures.spectra import stft
from backline.whole_file import whole_file

WINDOW, HOP = 2048, 512  # samples of a spectrogram's frames
LOWEST_HERTZ, LINES = 40.0, 256  # of a picture, from the bottom to half the sample rate
LOUDEST, RANGE = -20.0, 80.0  # dB of full scale that are white, and from there to black


class NoPicture(RuntimeError):
    """A picture cannot be drawn; the message says why and what to do."""


def plot_spectrograms(
    path: Path, signals: Mapping[str, NDArray[np.float32]], sample_rate: int, columns: int = 1
) -> Path:
    """Draws the spectrogram of each signal [sample], line by line, the frequencies on a logarithmic scale.

    Raises:
        NoPicture: matplotlib is not installed.
    """
    picture, axes = panels(len(signals), width=11 if columns == 1 else 4.5 * columns, height=2.8, columns=columns)
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


def spectrogram(signal: NDArray[np.float32]) -> NDArray[np.float32]:
    """[bin, frame] dB of full scale of [sample]: a sine of amplitude 1 is at 0."""
    magnitude: NDArray[np.float32] = stft(torch.from_numpy(signal)[None], WINDOW, HOP)[0].abs().numpy()
    return 20 * np.log10(2 * magnitude + np.float32(1e-9))


def panels(count: int, width: float, height: float, columns: int = 1) -> tuple[Any, Sequence[Any]]:
    """A matplotlib figure so many inches wide and its `count` panels, line by line, each line so many inches high."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise NoPicture("matplotlib is not installed: pip install 'backline[demo]'") from None
    lines = -(-count // columns)
    picture = Figure(figsize=(width, height * lines), layout="constrained")
    return picture, [picture.add_subplot(lines, columns, number) for number in range(1, count + 1)]
