"""Streaming overlap-add of windowed frames, and cross-fades."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from backline.kernels.compiled import compiled

Audio = NDArray[np.float32]  # [channel, sample]
FadeKind = Literal["equal_power", "linear"]

KERNEL_ARRAY: list[Literal["C", "W"]] = ["C", "W"]  # one array type, so that one compilation serves all
LEAST_WEIGHT = np.float32(1e-6)  # where the windows sum to less, there is nothing to divide


class OverlapAdd:
    """Frames of len(window) samples, each laid `hop` after the one before, weighed and divided by the sum of windows.

    The division makes any window and hop reconstruct: a signal cut into frames comes back as it was wherever the
    windows sum to more than nothing, from the first sample on.
    """

    def __init__(self, window: NDArray[np.floating], hop: int, channels: int) -> None:
        if not 0 < hop <= len(window):
            raise ValueError(f"hop is {hop}: use 1 to {len(window)}, the length of the window")
        self.window = np.ascontiguousarray(window, np.float32)
        self.hop, self.channels = hop, channels
        self._sum = np.zeros((channels, len(window)), np.float32)
        self._weight = np.zeros(len(window), np.float32)

    def process(self, frame: Audio) -> Audio:
        """Lays the next frame [channel, len(window)]; returns the `hop` samples that no later frame changes."""
        if frame.shape != self._sum.shape:
            raise ValueError(f"frame is {frame.shape}: give {self._sum.shape}, [channel, sample]")
        out = np.empty((self.channels, self.hop), np.float32)
        _overlap_add(np.require(frame, np.float32, KERNEL_ARRAY), self.window, self._sum, self._weight, out)
        return out

    @property
    def memory_bytes(self) -> int:
        """Of what it holds of earlier frames."""
        return self._sum.nbytes + self._weight.nbytes

    def flush(self) -> Audio:
        """The samples after the last hop [channel, len(window) - hop]; the next frame begins anew."""
        left = len(self.window) - self.hop
        weight = np.maximum(self._weight[:left], LEAST_WEIGHT)
        out = np.asarray(self._sum[:, :left] / weight, np.float32)
        self.reset()
        return out

    def reset(self) -> None:
        """Forgets all frames."""
        self._sum[:] = 0.0
        self._weight[:] = 0.0


@compiled
def _overlap_add(frame: Audio, window: Audio, total: Audio, weight: Audio, out: Audio) -> None:
    length, hop = len(window), out.shape[1]
    for i in range(length):
        weight[i] += window[i]
        for channel in range(frame.shape[0]):
            total[channel, i] += window[i] * frame[channel, i]
    for channel in range(frame.shape[0]):
        for i in range(hop):
            out[channel, i] = total[channel, i] / max(weight[i], LEAST_WEIGHT)
        for i in range(length):
            total[channel, i] = total[channel, i + hop] if i + hop < length else np.float32(0.0)
    for i in range(length):
        weight[i] = weight[i + hop] if i + hop < length else np.float32(0.0)


def crossfade(a: Audio, b: Audio, kind: FadeKind = "equal_power") -> Audio:
    """From `a` to `b` over their common length; both [channel, sample].

    "equal_power" keeps the loudness of unrelated signals, "linear" the sum of equal ones.
    """
    if a.shape != b.shape:
        raise ValueError(f"cannot cross-fade {a.shape} and {b.shape}: give equal shapes")
    out = np.empty(a.shape, np.float32)
    a, b = np.require(a, np.float32, KERNEL_ARRAY), np.require(b, np.float32, KERNEL_ARRAY)
    _crossfade(a, b, out, kind == "equal_power")
    return out


@compiled
def _crossfade(a: Audio, b: Audio, out: Audio, equal_power: bool) -> None:
    length = a.shape[1]
    for i in range(length):
        share = (i + 0.5) / length
        if equal_power:
            gain_a, gain_b = np.float32(np.cos(0.5 * np.pi * share)), np.float32(np.sin(0.5 * np.pi * share))
        else:
            gain_a, gain_b = np.float32(1.0 - share), np.float32(share)
        for channel in range(a.shape[0]):
            out[channel, i] = gain_a * a[channel, i] + gain_b * b[channel, i]
