"""SimVQ: a codebook that is a frozen random table behind one learned linear map (Zhu et al., 2024).

Every entry moves with the map, so none is ever left behind, however many there are. The table follows from a seed, the
same on every machine, so that nobody stores it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from backline.kernels.random import uniform_array

COMMITMENT = 0.25  # weight of the loss that moves vectors to their entries, the other's being 1
GRAIN = 1024  # steps of a table to a deviation
VECTORS, DISTANCES = 1024, 1 << 20  # at most so many in a block of the search: they stay in a cache


@dataclass(frozen=True)
class Codebook:
    """A table, mapped, and the weights that it was mapped by."""

    weight: Tensor
    bias: Tensor
    versions: tuple[int, ...]  # of these, by torch's count of changes
    vectors: Tensor  # [entry, dim]
    half_squares: Tensor  # [entry], of their lengths


class SimVQ(nn.Module):
    """Vectors [.., dim] to the nearest of `entries`, and back."""

    def __init__(self, entries: int, dim: int, seed: int, stream: int = 0) -> None:
        """
        Args:
            seed: of the table.
            stream: which of the seed's tables.
        """
        super().__init__()
        self.entries, self.dim, self.seed, self.stream = entries, dim, seed, stream
        self.map = nn.Linear(dim, dim)
        self._table: Tensor | None = None
        self._kept: Codebook | None = None

    @property
    def table(self) -> Tensor:
        """[entry, dim], where the map is; made when it is first asked for."""
        weight = self.map.weight
        if self._table is None or self._table.device != weight.device or self._table.dtype != weight.dtype:
            self._table = torch.from_numpy(gaussian_table(self.entries, self.dim, self.seed, self.stream)).to(weight)
        return self._table

    def codebook(self) -> Codebook:
        """The table, mapped; made only once where nothing trains."""
        weight, bias = self.map.weight, self.map.bias
        # Not every optimizer counts its changes: what may learn is never kept.
        frozen = not (weight.requires_grad or bias.requires_grad)
        versions = tuple(0 if part.is_inference() else part._version for part in (weight, bias))
        kept = self._kept if frozen else None
        if kept is None or kept.weight is not weight or kept.bias is not bias or kept.versions != versions:
            with torch.no_grad():
                vectors = self.map(self.table)
                kept = Codebook(weight, bias, versions, vectors, vectors.square().sum(1) / 2)
            self._kept = kept if frozen else None
        return kept

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SimVQ:
        """Moves, or changes its type, and makes its codebook anew."""
        self._kept = None
        super()._apply(fn, recurse)
        return self

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[.., dim] -> quantised vectors [.., dim] with a straight-through gradient, tokens int64 [..], the loss [].

        The loss is |sg(z) - q|^2 + COMMITMENT |z - sg(q)|^2, the means over all elements.
        """
        with exactly(z):
            z = z.to(self.map.weight.dtype)
            tokens = self.tokens(z)
            q = self.vectors(tokens)
            loss = F.mse_loss(q, z.detach()) + COMMITMENT * F.mse_loss(z, q.detach())
            return z + (q - z).detach(), tokens, loss

    @torch.no_grad()
    def tokens(self, z: Tensor) -> Tensor:
        """int64 [..]: the nearest entry of each of [.., dim]; the first among equals."""
        flat = z.detach().to(self.map.weight.dtype).reshape(-1, self.dim)
        with exactly(z):
            codebook = self.codebook()
            found = [_nearest(vectors, codebook) for vectors in flat.split(VECTORS)]
        return torch.cat(found).view(z.shape[:-1])

    def vectors(self, tokens: Tensor) -> Tensor:
        """int64 [..] -> [.., dim]; where the map learns, with a gradient into it alone."""
        if not (self.map.weight.requires_grad or self.map.bias.requires_grad):
            return F.embedding(tokens, self.codebook().vectors)
        with exactly(tokens):
            mapped: Tensor = self.map(F.embedding(tokens, self.table))
        return mapped


def exactly(tensor: Tensor) -> torch.autocast:
    """Where training is in bfloat16: entries lie too close together for that."""
    return torch.autocast(tensor.device.type, enabled=False)


def _nearest(vectors: Tensor, codebook: Codebook) -> Tensor:
    """int64 [vector] of [vector, dim]."""
    count = max(1, DISTANCES // max(1, len(vectors)))  # entries of a block
    best = vectors.new_full((len(vectors),), -torch.inf)
    token = torch.zeros(len(vectors), dtype=torch.int64, device=vectors.device)
    first = 0
    for entries, squares in zip(codebook.vectors.split(count), codebook.half_squares.split(count), strict=True):
        nearness, at = torch.addmm(-squares, vectors, entries.T).max(1)
        nearer = nearness > best
        best, token = torch.where(nearer, nearness, best), torch.where(nearer, at + first, token)
        first += len(entries)
    return token


@lru_cache(maxsize=4)
def gaussian_table(entries: int, dim: int, seed: int, stream: int = 0) -> NDArray[np.float32]:
    """[entry, dim] of variance 1 / dim, the same bits on every machine; not to be written to.

    Machines differ in the last bits of a logarithm and a cosine; deviates are rounded to steps that do not show them.
    """
    pairs = np.arange(2 * entries * dim, dtype=np.uint64).reshape(entries * dim, 2)
    radius, turn = uniform_array(seed, stream, pairs).astype(np.float64).T
    deviates = np.sqrt(-2.0 * np.log1p(-radius)) * np.cos(2.0 * np.pi * turn)  # by Box and Muller
    table: NDArray[np.float32] = (np.rint(deviates * GRAIN) / GRAIN / np.sqrt(dim)).astype(np.float32)
    return table.reshape(entries, dim)
