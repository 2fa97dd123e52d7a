"""What the stream knows of a model that takes a window apart: windows in, an estimate of every track of each out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from backline.models.stream import Audio


@dataclass(frozen=True)
class History:
    """What the model said of one whole window."""

    codes: NDArray[np.int64]  # [.., frame]


@dataclass(frozen=True)
class Window:
    """What one row hears for one chunk."""

    row: int
    audio: Audio  # [channel, sample] of one whole window
    history: History  # of the window `new_frames` earlier; its codes from frame `new_frames` on are forced
    new_frames: int
    parameters: Mapping[str, float] = field(default_factory=dict)  # the session's; what is not there is as in the pack


@dataclass(frozen=True)
class Separated:
    """What the model makes of one window."""

    estimates: NDArray[np.float32]  # [track, channel, sample]; one channel: the same in all, once they are in phase
    history: History


class Separator(Protocol):
    """Takes windows apart. It keeps nothing of a session: equal windows give equal results, whatever is beside them; on
    a CPU to the bit.
    """

    device: str  # that it computes on
    sample_rate: int  # Hz
    frame_samples: int  # in whole ones of which windows move: of a codec frame, where there is a codec
    window_frames: int
    tracks: tuple[str, ...]  # in the order of the estimates

    def silence(self) -> History:
        """What a session starts from: the model's answer to a window of silence."""
        ...

    def separate(self, windows: Sequence[Window]) -> Sequence[Separated | Exception]:
        """Every window, each row at most once, of as many channels as its session has; answered in this order. They may
        be out of step: of the window before, each row keeps its own number of frames.

        What a row fails of is its answer. Where `separate` itself raises, the engine asks again, row by row.
        """
        ...
