"""Channels that are out of phase: their mean would be silence, and what sounds in it could not be separated."""

from __future__ import annotations

import numpy as np

from backline.kernels.downmix import TURN
from backline.models.stream import Audio

IN_PHASE = np.ones((1, 1), np.float32)
SECOND_TURNED = np.array([[1], [-1]], np.float32)


def polarity(mixture: Audio) -> Audio:
    """[channel, 1] of 1 and -1, with which the channels of a window [channel, sample] are in phase.

    Of two channels the second is turned round where less than TURN of their energy is in the middle, as in the down-mix
    to mono; of more, whoever placed the microphones has decided.
    """
    if len(mixture) != 2:
        return IN_PHASE
    energy = float(np.square(mixture, dtype=np.float64).sum())
    middle = 0.5 * float(np.square(mixture.sum(axis=0, dtype=np.float64)).sum())
    return SECOND_TURNED if middle < TURN * energy else IN_PHASE


def middle(mixture: Audio) -> Audio:
    """[1, sample]: the mean of the channels of a window [channel, sample], in phase; for models that hear mono."""
    return (mixture * polarity(mixture)).mean(axis=0, keepdims=True, dtype=np.float32)
