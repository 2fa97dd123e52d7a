"""The ring KV cache: the last `capacity` keys and values of every row, with the positions they stand for.

Slots are fixed: position p lives in slot p mod capacity, so nothing ever moves and eviction is overwriting. Positions
count from the row's start; keys carry no position themselves, which is why a relative bias at read is enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class RingCache:
    """Keys and values of every layer of a transformer, and how far each row has come."""

    keys: Tensor  # [row, layer, head, slot, head_width]
    values: Tensor  # [row, layer, head, slot, head_width]
    offset: Tensor  # [row] int64: positions written so far

    @property
    def capacity(self) -> int:
        return self.keys.shape[3]

    @classmethod
    def empty(
        cls, rows: int, layers: int, heads: int, capacity: int, head_width: int, device: torch.device | None = None
    ) -> RingCache:
        """A cache in which no row has written anything."""
        shape = (rows, layers, heads, capacity, head_width)
        return cls(
            keys=torch.zeros(shape, device=device),
            values=torch.zeros(shape, device=device),
            offset=torch.zeros(rows, dtype=torch.int64, device=device),
        )

    def clone(self) -> RingCache:
        return RingCache(self.keys.clone(), self.values.clone(), self.offset.clone())

    def positions(self) -> Tensor:
        """[row, slot] the position that each slot holds; negative where none has been written."""
        slots = torch.arange(self.capacity, device=self.offset.device)
        newest = self.offset[:, None] - 1
        return newest - (newest - slots) % self.capacity

    def write_(self, layer: int, keys: Tensor, values: Tensor, mask: Tensor) -> None:
        """Puts a block [row, head, time, head_width] behind the offset of the rows in `mask` [row], in place.

        Of a block longer than the ring only the last `capacity` positions are kept. The offset stays: see `advance_`.
        """
        time = keys.shape[2]
        first = max(0, time - self.capacity)
        steps = torch.arange(first, time, device=self.offset.device)
        slots = (self.offset[:, None] + steps) % self.capacity  # [row, time]
        index = slots[:, None, :, None].expand(-1, keys.shape[1], -1, keys.shape[3])
        moves = mask[:, None, None, None]
        for ring, block in ((self.keys[:, layer], keys), (self.values[:, layer], values)):
            ring.scatter_(2, index, torch.where(moves, block[:, :, first:].to(ring.dtype), ring.gather(2, index)))

    def advance_(self, count: int, mask: Tensor) -> None:
        """Moves the offset of the rows in `mask` [row] past a block of `count` positions, in place."""
        self.offset += count * mask

    def reset_(self, row: int) -> None:
        """Forgets everything that the row has written, in place."""
        self.keys[row].zero_()
        self.values[row].zero_()
        self.offset[row] = 0
