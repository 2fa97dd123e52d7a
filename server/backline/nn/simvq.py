"""SimVQ: a codebook that is a frozen random table behind one learned linear map (Zhu et al., 2024).

Every entry moves with the map, so none is ever left behind, however many there are. The table follows from a seed, the
same on every machine, so that nobody stores it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from backline.kernels.random import uniform_array

COMMITMENT = 0.25  # weight of the loss that moves vectors to their entries, the other's being 1
GRAIN = 1024  # steps of a table to a deviation
VECTORS, ENTRIES = 1024, 4096  # of a block of the search: its distances stay in a cache


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

    @property
    def table(self) -> Tensor:
        """[entry, dim], where the map is; made when it is first asked for."""
        weight = self.map.weight
        if self._table is None or self._table.device != weight.device or self._table.dtype != weight.dtype:
            self._table = torch.from_numpy(gaussian_table(self.entries, self.dim, self.seed, self.stream)).to(weight)
        return self._table

    def codebook(self) -> Tensor:
        """[entry, dim]: the table, mapped."""
        mapped: Tensor = self.map(self.table)
        return mapped

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[.., dim] -> quantised vectors [.., dim] with a straight-through gradient, tokens int64 [..], the loss [].

        The loss is |sg(z) - q|^2 + COMMITMENT |z - sg(q)|^2, the means over all elements.
        """
        tokens = self.tokens(z)
        q = self.vectors(tokens)
        loss = F.mse_loss(q, z.detach()) + COMMITMENT * F.mse_loss(z, q.detach())
        return z + (q - z).detach(), tokens, loss

    @torch.no_grad()
    def tokens(self, z: Tensor) -> Tensor:
        """int64 [..]: the nearest entry of each of [.., dim]; the first among equals."""
        codebook = self.codebook()
        half_squares = codebook.square().sum(1) / 2
        found = []
        for vectors in z.detach().reshape(-1, self.dim).split(VECTORS):
            best = vectors.new_full((len(vectors),), -torch.inf)
            token = torch.zeros(len(vectors), dtype=torch.int64, device=z.device)
            for first in range(0, self.entries, ENTRIES):
                part = slice(first, first + ENTRIES)
                nearness, at = torch.addmm(-half_squares[part], vectors, codebook[part].T).max(1)
                nearer = nearness > best
                best, token = torch.where(nearer, nearness, best), torch.where(nearer, at + first, token)
            found.append(token)
        return torch.cat(found).view(z.shape[:-1])

    def vectors(self, tokens: Tensor) -> Tensor:
        """int64 [..] -> [.., dim]; only the entries that are asked for are mapped."""
        mapped: Tensor = self.map(F.embedding(tokens, self.table))
        return mapped


@lru_cache(maxsize=8)
def gaussian_table(entries: int, dim: int, seed: int, stream: int = 0) -> NDArray[np.float32]:
    """[entry, dim] of variance 1 / dim, the same bits on every machine; not to be written to.

    Machines differ in the last bits of a logarithm and a cosine; so deviates are rounded to steps that do not show them.
    """
    pairs = np.arange(2 * entries * dim, dtype=np.uint64).reshape(entries * dim, 2)
    radius, turn = uniform_array(seed, stream, pairs).astype(np.float64).T
    deviates = np.sqrt(-2.0 * np.log1p(-radius)) * np.cos(2.0 * np.pi * turn)  # by Box and Muller
    table: NDArray[np.float32] = (np.rint(deviates * GRAIN) / GRAIN * dim**-0.5).astype(np.float32)
    return table.reshape(entries, dim)
