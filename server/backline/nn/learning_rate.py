"""How fast a network learns at a moment of its training."""

from __future__ import annotations

import math

import torch


def cosine_rate(step: int, progress: float, peak: float, warmup_steps: int = 100, floor: float = 0.05) -> float:
    """Learning rate: linear warm-up over the first steps, then down a half cosine to `floor` * `peak`.

    Args:
        step: optimiser steps done.
        progress: 0 to 1 of the training.
    """
    falling = floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2
    return peak * falling * min(1.0, (step + 1) / warmup_steps)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Gives every parameter group the learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
