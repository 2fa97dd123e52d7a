"""A whole file's stems, the slow and obvious way: what the stream must equal, and what evaluation may call."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from backline.models.stems.finish import Finish
from backline.models.stems.polarity import polarity
from backline.models.stems.separator import Separator
from backline.models.stems.windows import Windows
from backline.models.stream import Audio


def separate_file(
    separator: Separator,
    mixture: Audio,
    windows: Windows,
    finish: Finish,
    progress: Callable[[float], None] = lambda share: None,
) -> NDArray[np.float32]:
    """Stems [track, channel, sample] of `mixture` [channel, sample] at the separator's rate.

    Args:
        progress: told the share of the windows that are done.
    """
    channels, length = mixture.shape
    chunks = math.ceil(length / windows.hop)
    ahead = windows.window - windows.end(0)  # of silence before the file in its first window
    padded = np.pad(mixture, ((0, 0), (ahead, windows.end(chunks) - length)))
    whole = slice(0, windows.window)
    weights = windows.weights()

    total = np.zeros((len(separator.tracks), channels, padded.shape[1]))
    weight = np.zeros(padded.shape[1])
    history = separator.silence()
    for chunk in range(chunks):
        start = chunk * windows.hop  # of the window, in `padded`
        heard = padded[:, start : start + windows.window]
        if heard.any():
            estimates, history = separator.separate(
                (heard * polarity(heard)).mean(axis=0), history, windows.new_frames(chunk)
            )
        else:
            estimates, history = np.zeros((len(separator.tracks), windows.window), np.float32), separator.silence()
        stems = finish.stems(heard, estimates, separator.tracks, whole)
        at = slice(start + windows.kept.start, start + windows.kept.stop)
        total[..., at] += weights * stems[..., windows.kept]
        weight[at] += weights
        progress((chunk + 1) / chunks)
    played = slice(ahead, ahead + length)
    return (total[..., played] / weight[played]).astype(np.float32)
