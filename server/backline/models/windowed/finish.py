"""From a window's estimates to tracks in the session's channels: consistency, then the drums' transients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backline.models.stream import Audio
from backline.models.windowed.consistency import consistent
from backline.models.windowed.polarity import polarity
from backline.models.windowed.transients import restored

DRUMS = "drums"
MARGIN = 8_192  # samples on either side of what is kept that are looked at, too; more than what reaches into it
GRID = 512  # samples; a multiple of both transforms' steps, so that frames lie where the whole window would have them


@dataclass(frozen=True)
class Finish:
    """How a session wants its tracks."""

    consistency: int  # a mode of consistency.py
    mask_exponent: float
    transients: float  # 0: as separated .. 1: all that is found

    def tracks(
        self, mixture: Audio, estimates: NDArray[np.float32], names: tuple[str, ...], kept: slice
    ) -> NDArray[np.float32]:
        """The tracks [track, channel, sample] of the `kept` part of one window.

        Args:
            mixture: [channel, sample] of the whole window.
            estimates: [track, channel, sample] of the whole window; one channel stands for all, which are in phase.
        """
        turned = polarity(mixture)
        mixture = mixture * turned
        if estimates.shape[1] > 1:
            estimates = estimates * turned
        start = max(0, kept.start - MARGIN) // GRID * GRID
        seen = slice(start, min(mixture.shape[1], kept.stop + MARGIN))
        tracks = consistent(mixture[:, seen], estimates[..., seen], self.consistency, self.mask_exponent)
        if self.transients and DRUMS in names:
            tracks = restored(tracks, mixture[:, seen], names.index(DRUMS), self.transients)
        return tracks[..., kept.start - start : kept.stop - start] * turned
