"""Which window answers for which chunk, and what of it is played. Times count from the session's start.

    window of chunk c:   |<----------------------- window ----------------------->|
                         |  earlier sound   | chunk c: hop |fade|      ...        |
                                            ^ c * hop      ^ (c + 1) * hop        ^ (c + 1) * hop + guard

MODELS.md F(b): what lies at a window's end has been estimated without what follows it, so the last `guard` samples are
not played. Of each window the chunk is taken and `fade` samples more, in which it gives way to the next one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Windows:
    """All in samples at the separator's rate; `hop` and `guard` are whole frames, so that windows share them."""

    window: int
    hop: int
    guard: int
    fade: int
    frame: int

    def __post_init__(self) -> None:
        if self.window % self.frame or self.hop % self.frame or self.guard % self.frame:
            raise ValueError(
                f"window, hop and guard are {self.window}, {self.hop} and {self.guard} samples: "
                f"use whole frames of {self.frame}"
            )
        if not 0 < self.fade <= min(self.guard, self.hop):
            raise ValueError(
                f"fade is {self.fade} samples: use 1 to {min(self.guard, self.hop)}, the lesser of hop and guard"
            )
        if not self.hop + 2 * self.guard <= self.window:
            raise ValueError(
                f"hop is {self.hop} samples: use at most {self.window - 2 * self.guard}, the window of {self.window} "
                f"without a guard of {self.guard} at either end"
            )

    def end(self, chunk: int) -> int:
        """Where the window of a chunk ends."""
        return (chunk + 1) * self.hop + self.guard

    @property
    def kept(self) -> slice:
        """What is taken of a window: the chunk and the fade after it."""
        start = self.window - self.guard - self.hop
        return slice(start, start + self.hop + self.fade)

    @property
    def kept_frames(self) -> slice:
        """The chunk's frames in its window."""
        start = (self.window - self.guard - self.hop) // self.frame
        return slice(start, start + self.hop // self.frame)

    def new_frames(self, chunk: int) -> int:
        """By how many frames the window of a chunk lies after the one before; the first, after one that ends at 0.

        That one has heard nothing, so that no code of silence is forced where the session's sound is.
        """
        return (self.hop if chunk else self.hop + self.guard) // self.frame

    def weights(self) -> NDArray[np.float32]:
        """For OverlapAdd: [hop + fade], sine-shaped at both edges.

        The edges of two windows are of equal power. OverlapAdd divides by their sum, so that estimates that sum to the
        mixture still do within the fade.
        """
        rising = np.sin(0.5 * np.pi * (np.arange(self.fade) + 0.5) / self.fade)
        flat = np.ones(self.hop - self.fade)
        return np.concatenate((rising, flat, rising[::-1])).astype(np.float32)
