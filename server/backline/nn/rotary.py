"""Rotary positions: heads turned by angles that grow with the position, so that products depend on the distance."""

from __future__ import annotations

import torch
from torch import Tensor


def rotation(positions: Tensor, dim: int, base: float = 10_000.0) -> tuple[Tensor, Tensor]:
    """Cosines and sines [position, dim / 2] of the angles by which heads of `dim` turn at integer positions."""
    half = dim // 2
    speeds = base ** (-torch.arange(half, device=positions.device, dtype=torch.float32) / half)
    angles = positions[:, None] * speeds
    return angles.cos(), angles.sin()


def turned(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """[row, head, time, dim] turned by what `rotation` gave for its times; the halves of `dim` are pairs."""
    cos, sin = turn
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x.dtype)
