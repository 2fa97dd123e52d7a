"""What the tests of the VST3 plugin play, and what they expect to hear of it."""

import numpy as np
from numpy.typing import NDArray

Audio = NDArray[np.float32]  # [channel, sample]


def noise(frames: int, seed: int = 0) -> Audio:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (2, frames)).astype(np.float32)


def factor(gain_db: float) -> np.float32:
    return np.float32(10.0 ** (gain_db / 20.0))
