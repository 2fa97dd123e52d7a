"""How a session's time is cut into chunks, and how far each of them hears."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from backline.models.hafm.sources import SourceConfig

CHUNK_QUANTUM = Fraction(1, 25)  # seconds: 2 semantic frames, 3 acoustic frames, 1 of the transport


@dataclass(frozen=True)
class Grid:
    """How a session's time is cut: chunk c covers [c * chunk, (c + 1) * chunk) seconds.

    visibility: newest usable input minus the chunk's start, in seconds; negative plays ahead.
    """

    chunk: Fraction
    visibility: Fraction

    @classmethod
    def of(
        cls,
        chunk_seconds: Fraction | float,
        visibility_seconds: Fraction | float,
        lookahead: Fraction = Fraction(0),
    ) -> Grid:
        """A grid from numbers as users write them.

        Raises:
            ValueError: the chunk is no multiple of 40 ms, or the visibility exceeds the chunk by more than `lookahead`.
        """
        chunk = Fraction(chunk_seconds).limit_denominator(10**6)
        visibility = Fraction(visibility_seconds).limit_denominator(10**6)
        if chunk <= 0 or chunk % CHUNK_QUANTUM:
            raise ValueError(f"chunk of {float(chunk):g} s: use a multiple of {float(CHUNK_QUANTUM):g} s")
        if visibility > chunk + lookahead:
            raise ValueError(f"visibility of {float(visibility):g} s: use at most {float(chunk + lookahead):g} s")
        return cls(chunk, visibility)

    def source_frames(self, source: SourceConfig, chunk: int) -> int:
        """Frames of `source` that lie before the predictions of chunk number `chunk` (from 0): A_0 to A_chunk."""
        past_start = self.chunk if source.reach == "chunk_end" else self.visibility
        return max(0, math.floor((chunk * self.chunk + past_start) * source.rate))

    def frames(self, rate: int) -> int:
        """Frames at `rate` in one chunk."""
        return int(self.chunk * rate)
