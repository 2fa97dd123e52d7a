"""From a window's mono estimates to stems in the session's channels: consistency, then the drums' transients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backline.models.stems.consistency import consistent
from backline.models.stems.polarity import polarity
from backline.models.stems.transients import restored
from backline.models.stream import Audio

DRUMS = "drums"
MARGIN = 8_192  # samples on either side of what is kept that are looked at, too; more than what reaches into it
GRID = 512  # samples; a multiple of both transforms' steps, so that frames lie where the whole window would have them


@dataclass(frozen=True)
class Finish:
    """How a session wants its stems."""

    consistency: int  # a mode of consistency.py
    mask_exponent: float
    transients: float  # 0: as separated .. 1: all that is found

    def stems(self, mixture: Audio, estimates: Audio, tracks: tuple[str, ...], kept: slice) -> NDArray[np.float32]:
        """Stems [track, channel, sample] of the `kept` part of one window.

        Args:
            mixture: [channel, sample] of the whole window.
            estimates: [track, sample] of the whole window, its channels in phase.
        """
        turned = polarity(mixture)
        mixture = mixture * turned
        start = max(0, kept.start - MARGIN) // GRID * GRID
        seen = slice(start, min(mixture.shape[1], kept.stop + MARGIN))
        stems = consistent(mixture[:, seen], estimates[:, seen], self.consistency, self.mask_exponent)
        if self.transients and DRUMS in tracks:
            stems = restored(stems, mixture[:, seen], tracks.index(DRUMS), self.transients)
        return stems[..., kept.start - start : kept.stop - start] * turned
