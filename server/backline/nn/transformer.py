"""A causal transformer with a sliding window: the whole sequence at once, or step by step over a ring KV cache.

Block: pre-RMSNorm, fused QKV, RMSNorm per head on queries and keys, T5 relative position bias, GEGLU. The bias is a
function of the distance alone and one table serves all layers; keys carry no position.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backline.nn.ring import RingCache

QUERY_BLOCK = 128  # queries whose attention is computed at once


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of a transformer."""

    layers: int
    width: int
    heads: int
    head_width: int
    feed_forward: int  # inner width of the GEGLU
    buckets: int
    max_distance: int  # distances from here on share the last bucket
    window: int  # positions that a position sees, itself included
    norm_epsilon: float
    kv_heads: int = 0  # of keys and values, each shared by as many queries; 0: one each

    def __post_init__(self) -> None:
        if self.kv_heads and self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} heads cannot share {self.kv_heads} of keys: use a divisor")


class Transformer(nn.Module):
    """Blocks and the final norm, on embeddings [row, time, width]. A streaming layer (nn/streaming.py)."""

    time_axis = 1
    input_latency = 0
    output_ratio = Fraction(1)
    min_block = 1

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.receptive_field = config.layers * (config.window - 1) + 1
        self.bias = nn.Parameter(torch.empty(config.buckets, config.heads))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width, eps=config.norm_epsilon)
        nn.init.normal_(self.bias, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """The whole sequence [row, time, width]; every position sees the `window` last positions in each layer."""
        bias = self.strip_bias(min(self.config.window, x.shape[1]), QUERY_BLOCK)
        for block in self.blocks:
            x = block(x, bias)
        return self.norm(x)

    def strip_bias(self, window: int, block: int) -> Tensor:
        """[head, query, key] bias of a block of queries to the `window` keys before the block and those in it.

        -inf where the key is later than the query or no longer in the window. One strip serves all blocks and layers.
        Rows of a Toeplitz matrix are one line, shifted: laid out with a period one shorter than the line, copies of it
        shift by themselves. Unlike a gather by distance this has a cheap gradient.
        """
        by_distance = self._by_distance(torch.arange(window, device=self.bias.device)).T  # [head, window]
        line = F.pad(by_distance.flip(1), (1, 2 * block - 1), value=-math.inf)  # key - query = -window, then rising
        length = line.shape[1]
        lines = line[:, None].expand(-1, block, -1).reshape(line.shape[0], -1)
        return lines[:, : block * (length - 1)].view(-1, block, length - 1)[:, :, : window + block]

    def init_state(self, batch: int) -> RingCache:
        config = self.config
        return RingCache.empty(
            batch,
            config.layers,
            config.kv_heads or config.heads,
            config.window,
            config.head_width,
            device=self.bias.device,
        )

    def step(self, x: Tensor, state: RingCache, mask: Tensor | None = None) -> tuple[Tensor, RingCache]:
        """The next block [row, time, width] of every row; rows outside `mask` [row] do not move."""
        state = state.clone()
        return self.step_(x, state, mask), state

    def step_(self, x: Tensor, state: RingCache, mask: Tensor | None = None) -> Tensor:
        """`step` that moves `state` itself: fixed shapes, no synchronisation, fit for a CUDA graph."""
        if mask is None:
            mask = torch.ones_like(state.offset, dtype=torch.bool)
        time = x.shape[1]
        queries = state.offset[:, None] + torch.arange(time, device=x.device)  # [row, time]
        held = state.positions()
        distance = queries[:, :, None] - torch.cat([held, queries], dim=1)[:, None]  # [row, query, key]
        visible = (distance >= 0) & (distance < self.config.window)
        visible[:, :, : held.shape[1]] &= (held >= 0)[:, None]
        bias = self._by_distance(distance.clamp(min=0)).masked_fill(~visible[..., None], -math.inf)
        bias = bias.permute(0, 3, 1, 2)  # [row, head, query, key]
        for layer, block in enumerate(cast("list[Block]", self.blocks)):
            x = block.step_(x, bias, state, layer, mask)
        state.advance_(time, mask)
        return self.norm(x)

    def _by_distance(self, distance: Tensor) -> Tensor:
        """[.., head] bias for distances [..] of 0 and more."""
        return F.embedding(relative_bucket(distance, self.config.buckets, self.config.max_distance), self.bias)


class Block(nn.Module):
    """One pre-norm block: attention, then GEGLU, each added to what comes in."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads, self.head_width = config.heads, config.head_width
        self.kv_heads = config.kv_heads or config.heads
        inner = config.heads * config.head_width
        self.norm1 = nn.RMSNorm(config.width, eps=config.norm_epsilon)
        self.qkv = nn.Linear(config.width, inner + 2 * self.kv_heads * config.head_width, bias=False)
        self.q_norm = nn.RMSNorm(config.head_width, eps=config.norm_epsilon)
        self.k_norm = nn.RMSNorm(config.head_width, eps=config.norm_epsilon)
        self.out = nn.Linear(inner, config.width, bias=False)
        self.norm2 = nn.RMSNorm(config.width, eps=config.norm_epsilon)
        self.gate = nn.Linear(config.width, config.feed_forward, bias=False)
        self.up = nn.Linear(config.width, config.feed_forward, bias=False)
        self.down = nn.Linear(config.feed_forward, config.width, bias=False)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """x [row, time, width], bias [head, query, window + query] as `Transformer.strip_bias` gives it.

        Attention in blocks of queries: what the window hides is not computed, and the scores of a block stay in cache.
        """
        q, k, v = self._project(x)
        k, v = self._shared(k), self._shared(v)
        q = q * self.head_width**-0.5
        block = bias.shape[1]
        window = bias.shape[2] - block
        attended = []
        for start in range(0, x.shape[1], block):
            stop, first = min(start + block, x.shape[1]), max(0, start - window)
            scores = q[:, :, start:stop] @ k[:, :, first:stop].transpose(2, 3)
            scores += bias[:, : stop - start, first - start + window : stop - start + window]
            attended.append(scores.softmax(dim=-1) @ v[:, :, first:stop])
        return self._finish(x, torch.cat(attended, dim=2))

    def step_(self, x: Tensor, bias: Tensor, state: RingCache, layer: int, mask: Tensor) -> Tensor:
        """x [row, time, width] after what `state` holds, bias [row, head, time, slot + time]."""
        q, k, v = self._project(x)
        keys = torch.cat([state.keys[:, layer], k], dim=2)
        values = torch.cat([state.values[:, layer], v], dim=2)
        attended = F.scaled_dot_product_attention(q, self._shared(keys), self._shared(values), attn_mask=bias)
        state.write_(layer, k, v, mask)
        return self._finish(x, attended)

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each [row, head, time, head_width]."""
        qkv = self.qkv(self.norm1(x)).unflatten(2, (-1, self.head_width)).transpose(1, 2)
        q, k, v = qkv.split((self.heads, self.kv_heads, self.kv_heads), dim=1)
        return self.q_norm(q), self.k_norm(k), v

    def _shared(self, x: Tensor) -> Tensor:
        """Keys or values, one for every query's head."""
        return x if self.kv_heads == self.heads else x.repeat_interleave(self.heads // self.kv_heads, dim=1)

    def _finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Adds the attention [row, head, time, head_width], then the feed-forward part."""
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        y = self.norm2(x)
        return x + self.down(F.gelu(self.gate(y)) * self.up(y))


def relative_bucket(distance: Tensor, buckets: int, max_distance: int) -> Tensor:
    """T5's causal bucket of a distance: exact below half of the buckets, then logarithmic up to `max_distance`."""
    exact = buckets // 2
    ratio = distance.clamp(min=exact).double() / exact
    log = exact + (exact * ratio.log() / math.log(max_distance / exact)).floor().long()
    return torch.where(distance < exact, distance, log.clamp(max=buckets - 1))
