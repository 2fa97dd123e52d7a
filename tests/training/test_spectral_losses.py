"""Losses are how far a reconstruction is from what it should be, at any level."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from backline.training.spectral_losses import reconstruction_losses


def noise(seconds: float = 1.0, seed: int = 0) -> NDArray[np.float32]:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(24_000 * seconds))).astype(np.float32)


def test_losses_vanish_on_equal_audio_and_are_relative_to_its_level() -> None:
    wanted = torch.from_numpy(noise())[None]
    found = wanted + 0.1 * torch.from_numpy(noise(seed=1))[None]
    assert all(float(value) < 1e-4 for value in reconstruction_losses(wanted, wanted, 24_000).values())
    loud = reconstruction_losses(found, wanted, 24_000)
    quiet = reconstruction_losses(found / 4, wanted / 4, 24_000)
    for name in ("magnitude", "complex", "waveform"):
        assert float(loud[name]) == pytest.approx(float(quiet[name]), rel=0.02)
