"""Where every token of a stage stands: the chunk-interleaved layout, of which the paper's is the case of one chunk.

    [A1][P1][A2][P2]...

A_c holds, source by source, the conditioning that has become usable since A_(c-1); P_c predicts chunk c frame by frame,
quantizer by quantizer. Each prediction position takes in the token before its own (BOS first). With one chunk, as long
as the clip and fully visible, this is `[conditioning | prediction]`. Plain index arithmetic; no tensors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from backline.models.hafm.grid import Grid
from backline.models.hafm.interleaved.config import StageConfig


@dataclass(frozen=True)
class Layout:
    """The flat sequence of one stage over one clip, as indices.

    Segment s < number of sources is source s; the last segment is the prediction. `token` counts the frames of a
    source, or the flat prediction tokens, from the clip's start.
    """

    segment: NDArray[np.int64]  # [position]
    token: NDArray[np.int64]  # [position] index within the segment
    clock: NDArray[np.float32]  # [position] seconds since the start of the chunk in which the token's time lies
    source_frames: tuple[int, ...]  # frames of each source that the clip has; not all of them need be used
    frames: int  # predicted frames
    quantizers: int

    def __len__(self) -> int:
        return len(self.segment)

    @property
    def predictions(self) -> NDArray[np.int64]:
        """[frame * quantizers] flat positions of the predictions, in order."""
        return np.flatnonzero(self.segment == len(self.source_frames))

    def gather(self) -> NDArray[np.int64]:
        """[position] index into the concatenation of all sources' frames and all prediction tokens."""
        starts = np.cumsum([0, *self.source_frames])
        return starts[self.segment] + self.token


@lru_cache(maxsize=256)
def interleaved(stage: StageConfig, clip_seconds: Fraction, grid: Grid) -> Layout:
    """The layout of `stage` over a clip; a last chunk that the clip cuts short is cut short.

    Raises:
        ValueError: the clip is no whole number of frames.
    """
    frames = _whole(clip_seconds * stage.rate, "predicted", clip_seconds)
    source_frames = tuple(_whole(clip_seconds * s.rate, s.name, clip_seconds) for s in stage.sources)
    segments: list[NDArray[np.int64]] = []
    tokens: list[NDArray[np.int64]] = []

    def put(segment: int, start: int, stop: int) -> None:
        tokens.append(np.arange(start, stop))
        segments.append(np.full(stop - start, segment))

    seen = [0] * len(stage.sources)
    for chunk in range(math.ceil(clip_seconds / grid.chunk)):
        for number, source in enumerate(stage.sources):
            stop = min(grid.source_frames(source, chunk), source_frames[number])
            put(number, seen[number], stop)
            seen[number] = stop
        first = chunk * grid.frames(stage.rate)
        stop = min(first + grid.frames(stage.rate), frames)
        put(len(stage.sources), first * stage.quantizers, stop * stage.quantizers)

    segment, token = np.concatenate(segments), np.concatenate(tokens)
    rates = np.array([*(source.rate for source in stage.sources), stage.rate])
    frame = np.where(segment == len(stage.sources), token // stage.quantizers, token)
    return Layout(
        segment=segment,
        token=token,
        clock=clock_seconds(frame, rates[segment], grid),
        source_frames=source_frames,
        frames=frames,
        quantizers=stage.quantizers,
    )


def paper(stage: StageConfig, clip_seconds: Fraction) -> Layout:
    """`[conditioning | prediction]`: one chunk as long as the clip, all of it visible."""
    return interleaved(stage, clip_seconds, Grid(clip_seconds, clip_seconds))


def clock_seconds(frame: NDArray[np.int64], rate: int | NDArray[np.int64], grid: Grid) -> NDArray[np.float32]:
    """Seconds by which frames at `rate` begin after the chunk in which they lie. Exact before the rounding."""
    chunk = grid.chunk
    ticks = frame * chunk.denominator  # time in 1 / (rate * denominator) seconds
    return (ticks % (chunk.numerator * rate) / (rate * chunk.denominator)).astype(np.float32)


def _whole(count: Fraction, name: str, clip_seconds: Fraction) -> int:
    if count.denominator != 1:
        raise ValueError(
            f"a clip of {float(clip_seconds):g} s holds {float(count):g} {name} frames: use a multiple of 0.04 s"
        )
    return int(count)
