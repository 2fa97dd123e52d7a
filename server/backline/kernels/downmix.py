"""Several channels as one, so that a voice is heard at its level wherever it lies: the running sum and its gain.

Frames of a fixed length, counted from the first sample, are weighed by running averages: what a frame is multiplied by
follows from the frames before it, and the change is spread over the frame. Neither depends on how the audio is cut into
blocks. This is the energy-preserving mix of parametric stereo coders, with its usual limit (6 dB for two channels), but
of one band, and with a sign for the second of two channels.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

Audio = NDArray[np.float32]  # [channel, sample]

FRAME_SECONDS = 0.01
AVERAGE_SECONDS = 0.3  # time constant of the averages, weighted by energy: an onset outweighs the silence before it
TURN = 0.25  # share of the energy that is left in the middle when the second of two channels is turned round


class Together:
    """The sum of `channels` channels, sample by sample, with one gain for all of them.

    With S the sum of the channels' energies and M the energy of their mean, averaged over the past, the gain on the
    mean is the root of ((1 + 1/n) S - n M) / M, from 1 to n. So identical channels give themselves, bit for bit; one
    channel alone and unrelated channels are heard at their levels. Of two channels, the second is turned round as soon
    as less than a quarter of their energy is in the middle, and until less than a quarter is in the sides.
    """

    def __init__(self, channels: int, rate: int) -> None:
        self._frame = max(1, round(rate * FRAME_SECONDS))
        self._decay = math.exp(-self._frame / (rate * AVERAGE_SECONDS))
        self._place = np.zeros(1, np.int64)  # samples of the frame that have passed
        self._sums = np.zeros(2)  # S and M of the frame so far
        self._averages = np.zeros(2)  # S and M of the frames before
        # On the first channel and on the others: at the frame's beginning, and at its end.
        self._weights = np.full((2, 2), 1.0 / channels)

    def process(self, audio: Audio) -> Audio:
        """[channel, sample] as [sample]."""
        audio = np.require(audio, np.float32, ["C", "W"])  # one array type, so that one compilation serves all
        out = np.empty(audio.shape[1], np.float32)
        _sum(audio, out, self._place, self._sums, self._averages, self._weights, self._frame, self._decay)
        return out


@njit(nogil=True, cache=True)  # no fast math: the sums must be the same however the audio comes
def _sum(
    audio: Audio,
    out: Audio,
    place: NDArray[np.int64],
    sums: NDArray[np.float64],
    averages: NDArray[np.float64],
    weights: NDArray[np.float64],
    frame: int,
    decay: float,
) -> None:
    channels = audio.shape[0]
    for n in range(audio.shape[1]):
        first, others = float(audio[0, n]), 0.0
        energy = first * first
        for channel in range(1, channels):
            sample = float(audio[channel, n])
            others += sample
            energy += sample * sample
        middle = (first + others) / channels
        sums[0] += energy
        sums[1] += middle * middle
        place[0] += 1
        share = place[0] / frame
        on_first = weights[0, 0] + share * (weights[1, 0] - weights[0, 0])
        on_others = weights[0, 1] + share * (weights[1, 1] - weights[0, 1])
        out[n] = on_first * first + on_others * others
        if place[0] == frame:
            place[0] = 0
            weights[0] = weights[1]
            if sums[0] > 0.0:  # silence says nothing about where a voice lies
                averages *= decay
                averages += sums
                sums[:] = 0.0
                _weigh(averages, weights[1], channels)


@njit(nogil=True, cache=True)
def _weigh(averages: NDArray[np.float64], weights: NDArray[np.float64], channels: int) -> None:
    """Sets the weights of the first channel and of the others to what the averages say."""
    common = channels * averages[1] / averages[0]  # 1: all channels are the same
    sign = 1.0 if weights[1] > 0.0 else -1.0
    if channels == 2:
        if common < TURN:
            sign = -1.0
        elif common > 1.0 - TURN:
            sign = 1.0
        if sign < 0.0:
            common = 1.0 - common
    gain = float(channels)
    if common * channels > 1.0:
        gain = min(gain, math.sqrt(max(1.0, (channels + 1.0 - channels * common) / common)))
    weights[0] = gain / channels
    weights[1] = sign * gain / channels
