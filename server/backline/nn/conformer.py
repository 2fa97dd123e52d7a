"""A Conformer encoder over whole windows: every step sees all others; nothing in it streams.

Block: half a feed-forward part, attention with rotary positions on the first heads, a gated depthwise convolution, the
other half of a feed-forward part, a norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.nn import functional as F

from backline.nn.rotary import rotation, turned
from backline.nn.tables import Expansion, Heads, Kernel, Layers, Share, Width


@dataclass(frozen=True)
class ConformerConfig:
    """Sizes of an encoder."""

    layers: Layers
    width: Width
    heads: Heads
    kernel: Kernel = 31  # odd
    expansion: Expansion = 4  # of the feed-forward parts
    rotary_heads: Annotated[int, Meta(ge=0, le=256)] = 1  # the first so many know positions, the others only contents
    norm: Literal["batch", "layer"] = "batch"  # after the depthwise convolution
    dropout: Share = 0.0

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):  # rotary positions turn pairs of dimensions
            raise ValueError(f"width is {self.width}: use a multiple of {2 * self.heads}, twice the heads")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel is {self.kernel}: use an odd number")
        if self.rotary_heads > self.heads:
            raise ValueError(f"rotary_heads is {self.rotary_heads}: use up to {self.heads}, the heads")


class Conformer(nn.Module):
    """[row, time, width] -> the same."""

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(ConformerBlock(config) for _ in range(config.layers))

    def forward(self, x: Tensor) -> Tensor:
        turn = rotation(torch.arange(x.shape[1], device=x.device), self.config.width // self.config.heads)
        for block in self.blocks:
            x = block(x, turn)
        return x


class ConformerBlock(nn.Module):
    """One block."""

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        width = config.width
        self.before = feed_forward(config)
        self.attention = Attention(config)
        self.convolution = Convolution(config)
        self.after = feed_forward(config)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        x = x + 0.5 * self.before(x)
        x = x + self.attention(x, turn)
        x = x + self.convolution(x)
        out: Tensor = self.norm(x + 0.5 * self.after(x))
        return out


class Attention(nn.Module):
    """Pre-norm attention."""

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        self.heads, self.rotary = config.heads, config.rotary_heads
        self.norm = nn.LayerNorm(config.width)
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = (torch.cat([turned(part[:, : self.rotary], turn), part[:, self.rotary :]], dim=1) for part in (q, k))
        attended = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.dropout(self.out(attended.transpose(1, 2).flatten(2)))
        return out


class Convolution(nn.Module):
    """Pre-norm, gated, depthwise."""

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        width = config.width
        self.norm = nn.LayerNorm(width)
        self.gated = nn.Linear(width, 2 * width, bias=False)
        self.depthwise = nn.Conv1d(width, width, config.kernel, padding=config.kernel // 2, groups=width, bias=False)
        self.batch = nn.BatchNorm1d(width) if config.norm == "batch" else None
        self.layer = nn.LayerNorm(width) if config.norm == "layer" else None
        self.out = nn.Linear(width, width, bias=False)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(F.glu(self.gated(self.norm(x)), dim=-1).transpose(1, 2))
        y = self.batch(y).transpose(1, 2) if self.batch is not None else y.transpose(1, 2)
        if self.layer is not None:
            y = self.layer(y)
        out: Tensor = self.dropout(self.out(F.silu(y)))
        return out


def feed_forward(config: ConformerConfig) -> nn.Sequential:
    """A pre-norm feed-forward part."""
    width, inner = config.width, config.expansion * config.width
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, inner),
        nn.SiLU(),
        nn.Dropout(config.dropout),
        nn.Linear(inner, width),
        nn.Dropout(config.dropout),
    )
