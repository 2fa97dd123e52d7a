"""A Conformer encoder over whole windows, and one that streams.

Block: half a feed-forward part, attention with rotary positions on the first heads, a gated depthwise convolution, the
other half of a feed-forward part, a norm. In `Conformer` every step sees all others. `streaming_conformer` has causal
convolutions, and attention to so many steps back and so few ahead; it is exact as a stream, whatever its length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Literal

import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.nn import functional as F

from backline.nn.composite import Pointwise, Residual, Sequential, Swapped
from backline.nn.conv import CausalConv1d
from backline.nn.rotary import rotation, turned
from backline.nn.streaming import keep_rows
from backline.nn.tables import Expansion, Heads, Kernel, Layers, Share, Width

QUERY_BLOCK = 256  # steps whose attention is computed at once


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


def streaming_conformer(config: ConformerConfig, context: int, ahead: Sequence[int]) -> Sequential:
    """A streaming layer (nn/streaming.py) [row, time, width] -> the same.

    Args:
        config: its norm is "layer": what a batch norm learns from a row depends on the others.
        context: steps back that each layer's attention sees.
        ahead: steps that it looks ahead, for every layer; their sum is the latency.

    Raises:
        ValueError: there are not as many `ahead` as layers, or the norm is another.
    """
    if len(ahead) != config.layers:
        raise ValueError(f"ahead lists {len(ahead)} layers, there are {config.layers}: give one number each")
    if config.norm != "layer":
        raise ValueError(f'norm is {config.norm!r}: use "layer", which treats every step alone')
    return Sequential(*(part for steps in ahead for part in _streaming_block(config, context, steps)))


def _streaming_block(config: ConformerConfig, context: int, ahead: int) -> tuple[Residual | Pointwise, ...]:
    """The parts of one block."""
    width = config.width
    depthwise = CausalConv1d(width, width, config.kernel, groups=width, bias=False)
    convolution = Sequential(
        Pointwise(nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width, bias=False), nn.GLU()), time_axis=1),
        Swapped(depthwise),
        Pointwise(
            nn.Sequential(
                nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, width, bias=False), nn.Dropout(config.dropout)
            ),
            time_axis=1,
        ),
    )
    return (
        Residual(Pointwise(Half(feed_forward(config)), time_axis=1), width),
        Residual(BandedAttention(config, context, ahead), width),
        Residual(convolution, width),
        Residual(Pointwise(Half(feed_forward(config)), time_axis=1), width),
        Pointwise(nn.LayerNorm(width), time_axis=1),
    )


class Half(nn.Module):
    """Half of what a module gives."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * self.module(x)


@dataclass
class BandState:
    """What attention remembers: its newest input, projected."""

    queries: Tensor  # [row, head, ahead, head_width]: of steps that still wait for what follows them
    keys: Tensor  # [row, head, context + ahead, head_width], turned
    values: Tensor  # [row, head, context + ahead, head_width]
    offset: Tensor  # [row] int64: steps seen; negative before the signal's start


class BandedAttention(nn.Module):
    """Pre-norm attention to `context` steps back, the step itself, and `ahead` more. A streaming layer."""

    time_axis = 1
    output_ratio = Fraction(1)
    min_block = 1

    def __init__(self, config: ConformerConfig, context: int, ahead: int) -> None:
        super().__init__()
        self.heads, self.rotary, self.head_width = config.heads, config.rotary_heads, config.width // config.heads
        self.norm = nn.LayerNorm(config.width)
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.context, self.input_latency = context, ahead
        self.receptive_field = context + 1 + ahead

    def reach(self, first: int, last: int) -> tuple[int, int]:
        return first - self.context, last + self.input_latency

    def init_state(self, batch: int, lead: int = 0) -> BandState:
        def empty(steps: int) -> Tensor:
            return self.qkv.weight.new_zeros(batch, self.heads, steps, self.head_width)

        held = self.context + self.input_latency
        offset = torch.full((batch,), -lead, dtype=torch.int64, device=self.qkv.weight.device)
        return BandState(empty(self.input_latency), empty(held), empty(held), offset)

    def step(self, x: Tensor, state: BandState, mask: Tensor | None = None) -> tuple[Tensor, BandState]:
        """The next block [row, time, width]; what comes out is `ahead` steps older."""
        time, held = x.shape[1], state.keys.shape[2]
        steps = torch.arange(-held, time, device=x.device)
        q, k, v = self._projected(x, state.offset[:, None] + steps[held:])
        queries, keys, values = (
            torch.cat([old, new], dim=2) for old, new in ((state.queries, q), (state.keys, k), (state.values, v))
        )
        asking = steps[held:, None] - self.input_latency
        band = (steps >= asking - self.context) & (steps <= asking + self.input_latency)  # [query, key]
        begun = state.offset[:, None] + steps >= 0  # [row, key]
        # A query from before the start sees nothing that is there, and nobody hears what it gets: it sees itself.
        visible = (band & begun[:, None]) | (steps == asking)
        y = self._attended(queries[:, :, :time], keys, values, visible[:, None])
        moved = BandState(
            keep_rows(queries[:, :, time:], state.queries, mask),
            keep_rows(keys[:, :, time:], state.keys, mask),
            keep_rows(values[:, :, time:], state.values, mask),
            keep_rows(state.offset + time, state.offset, mask),
        )
        return y, moved

    def forward(self, x: Tensor) -> Tensor:
        """The whole signal [row, time, width], in blocks of queries: what nobody sees is not computed."""
        time = x.shape[1]
        steps = torch.arange(time, device=x.device)
        q, k, v = self._projected(x, steps[None])
        pieces = []
        for start in range(0, time, QUERY_BLOCK):
            stop = min(start + QUERY_BLOCK, time)
            first, last = max(0, start - self.context), min(stop + self.input_latency, time)
            distance = steps[first:last] - steps[start:stop, None]
            visible = (distance >= -self.context) & (distance <= self.input_latency)
            pieces.append(self._attended(q[:, :, start:stop], k[:, :, first:last], v[:, :, first:last], visible))
        return torch.cat(pieces, dim=1)

    def _projected(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [row, head, time, head_width], turned by int64 positions [row or 1, time]."""
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        # In double: a stream of hours has positions whose angles no float32 tells apart.
        angles = rotation(positions.flatten().double(), self.head_width)
        turn = tuple(part.to(x.dtype).view(*positions.shape, -1)[:, None] for part in angles)
        q, k = (
            torch.cat([turned(part[:, : self.rotary], (turn[0], turn[1])), part[:, self.rotary :]], dim=1)
            for part in (q, k)
        )
        return q, k, v

    def _attended(self, q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
        out: Tensor = self.dropout(self.out(attended.transpose(1, 2).flatten(2)))
        return out
