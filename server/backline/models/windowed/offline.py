"""A whole file's tracks, the slow and obvious way: what the stream must equal, and what evaluation may call."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from backline.models.rows import raised
from backline.models.stream import Audio
from backline.models.windowed.finish import Finish
from backline.models.windowed.separator import Separator, Window
from backline.models.windowed.windows import Windows


def separate_file(
    separator: Separator,
    mixture: Audio,
    windows: Windows,
    finish: Finish,
    parameters: Mapping[str, float] = MappingProxyType({}),
    progress: Callable[[float], None] = lambda share: None,
) -> NDArray[np.float32]:
    """Tracks [track, channel, sample] of `mixture` [channel, sample] at the separator's rate.

    Args:
        parameters: the separator's.
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
            (told,) = separator.separate([Window(0, heard, history, windows.new_frames(chunk), parameters)])
            estimates, history = raised(told).estimates, raised(told).history
        else:
            estimates, history = np.zeros((len(separator.tracks), 1, windows.window), np.float32), separator.silence()
        tracks = finish.tracks(heard, estimates, separator.tracks, whole)
        at = slice(start + windows.kept.start, start + windows.kept.stop)
        total[..., at] += weights * tracks[..., windows.kept]
        weight[at] += weights
        progress((chunk + 1) / chunks)
    played = slice(ahead, ahead + length)
    return (total[..., played] / weight[played]).astype(np.float32)
