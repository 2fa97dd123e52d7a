"""A LLaMA-style causal transformer: a whole sequence at once, or block by block over a KV cache that keeps it all.

Block: pre-RMSNorm, attention with rotary positions, SwiGLU; no biases. Keys are cached as they are turned: a position
never changes, since a window model begins its cache anew for every window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.nn import functional as F

from backline.nn.rotary import rotation, turned
from backline.nn.tables import Epsilon, FeedForward, Heads, Layers, Share, Width


@dataclass(frozen=True)
class LlamaConfig:
    """Sizes of a decoder."""

    layers: Layers
    width: Width
    heads: Heads
    feed_forward: FeedForward
    dropout: Share = 0.0
    rope_base: Annotated[float, Meta(gt=1, le=1e9)] = 10_000.0
    norm_epsilon: Epsilon = 1e-6

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):  # rotary positions turn pairs of dimensions
            raise ValueError(f"width is {self.width}: use a multiple of {2 * self.heads}, twice the heads")


@dataclass
class KeyValueCache:
    """Keys and values of the positions so far, in buffers of a fixed capacity."""

    keys: Tensor  # [layer, row, head, capacity, dim]
    values: Tensor
    length: int = 0  # positions held


class Llama(nn.Module):
    """Blocks and the final norm on embeddings [row, time, width]."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width, eps=config.norm_epsilon)

    def forward(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        """The whole sequence [row, time, width]; every step sees those before it and itself.

        Args:
            positions: [time] by which heads are turned; without them steps are counted. Two stretches that belong
                together in time may have the same.
        """
        turn = self._turned_to(torch.arange(x.shape[1], device=x.device) if positions is None else positions)
        for block in self.blocks:
            x = block(x, turn)
        out: Tensor = self.norm(x)
        return out

    def empty_cache(self, rows: int, capacity: int) -> KeyValueCache:
        """For `capacity` positions; on the weights' device, in their precision."""
        config, weight = self.config, self.norm.weight
        shape = (config.layers, rows, config.heads, capacity, config.width // config.heads)
        return KeyValueCache(weight.new_zeros(shape), weight.new_zeros(shape))

    def extend(self, x: Tensor, cache: KeyValueCache) -> Tensor:
        """The next positions [row, time, width] after those in `cache`, which then holds them too.

        Raises:
            ValueError: the cache is full.
        """
        start, stop = cache.length, cache.length + x.shape[1]
        if stop > cache.keys.shape[3]:
            raise ValueError(f"a cache of {cache.keys.shape[3]} positions cannot take position {stop}")
        turn = self._turned_to(torch.arange(start, stop, device=x.device))
        causal = None
        if x.shape[1] > 1:
            causal = torch.ones(x.shape[1], stop, dtype=torch.bool, device=x.device).tril(start)
        for layer, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            x = block.extend(x, turn, causal, cache.keys[layer, :, :, :stop], cache.values[layer, :, :, :stop])
        cache.length = stop
        out: Tensor = self.norm(x)
        return out

    def _turned_to(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        return rotation(positions, self.config.width // self.config.heads, self.config.rope_base)


class Block(nn.Module):
    """One pre-norm block."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        width, inner = config.width, config.feed_forward
        self.heads, self.dropout = config.heads, config.dropout
        self.norm1 = nn.RMSNorm(width, eps=config.norm_epsilon)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.norm2 = nn.RMSNorm(width, eps=config.norm_epsilon)
        self.gate_up = nn.Linear(width, 2 * inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        q, k, v = self._project(x, turn)
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=dropout)
        return self._finish(x, attended)

    def extend(
        self, x: Tensor, turn: tuple[Tensor, Tensor], causal: Tensor | None, keys: Tensor, values: Tensor
    ) -> Tensor:
        """`keys` and `values` [row, head, so far and these, dim] are written where these belong."""
        q, k, v = self._project(x, turn)
        keys[:, :, -x.shape[1] :] = k
        values[:, :, -x.shape[1] :] = v
        return self._finish(x, F.scaled_dot_product_attention(q, keys, values, attn_mask=causal))

    def _project(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each [row, head, time, dim]; the first two turned."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return turned(q, turn), turned(k, turn), v

    def _finish(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + F.dropout(self.out(attended.transpose(1, 2).flatten(2)), self.dropout, self.training)
        gate, up = self.gate_up(self.norm2(x)).chunk(2, dim=-1)
        return x + F.dropout(self.down(F.silu(gate) * up), self.dropout, self.training)
