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


def exponential_rate(step: int, peak: float, warmup_steps: int, decay: float = 0.99998, floor: float = 0.02) -> float:
    """Learning rate: linear warm-up over the first steps, then times `decay` with every step, down to `floor` * `peak`.

    Args:
        step: optimiser steps done.
        decay: of MSS-LM "exponential" is all that is said; this and the floor are UniSE's, by the same group.
    """
    return peak * max(floor, decay ** max(0, step + 1 - warmup_steps)) * min(1.0, (step + 1) / warmup_steps)


def inverse_rate(step: int, peak: float, slowness: float, power: float, warmup: float) -> float:
    """Learning rate: `peak` * (1 + step / slowness)^-power, after a warm-up that lacks `warmup`^(step + 1).

    Args:
        step: optimiser steps done.
    """
    return peak * (1 + step / slowness) ** -power * (1 - warmup ** (step + 1))


def counted_rate(step: int, steps: int, peak: float, warmup_steps: int, least: float) -> float:
    """Learning rate where steps are counted: linear warm-up to `peak`, then half a cosine to `least` at the last step.

    Args:
        step: optimiser steps done, from 0 to `steps` - 1.
        steps: in all.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    done = min(1.0, (step + 1 - warmup_steps) / (steps - warmup_steps))
    return least + (peak - least) * (1 + math.cos(math.pi * done)) / 2


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Gives every parameter group the learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
