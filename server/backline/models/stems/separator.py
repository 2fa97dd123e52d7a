"""What the stream knows of a separation model: one window in, an estimate of every track out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from backline.models.stream import Audio


@dataclass(frozen=True)
class History:
    """What the model said of one whole window."""

    codes: NDArray[np.int64]  # [track, path, codebook, frame]


class Separator(Protocol):
    """Separates one window at a time. It keeps nothing of a session: equal arguments give equal results."""

    device: str  # that it computes on
    sample_rate: int  # Hz
    frame_samples: int  # of one codec frame
    window_frames: int
    tracks: tuple[str, ...]  # in the order in which they are told

    def silence(self) -> History:
        """What a session starts from: the model's answer to a window of silence."""
        ...

    def separate(self, audio: Audio, history: History, hop_frames: int) -> tuple[Audio, History]:
        """Estimates of all tracks of one window, and what the model said of it.

        Args:
            audio: [sample] of one whole window, mono.
            history: of the window `hop_frames` earlier; its codes from frame `hop_frames` on are forced.

        Returns:
            Decoded estimates [track, sample] of the whole window, and its History.
        """
        ...
