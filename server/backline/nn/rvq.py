"""Residual vector quantisation: each codebook quantises what the ones before it left over.

`ResidualQuantizer` is what a pack carries. `CodebookLearner` moves its codebooks during training, by exponential
moving averages of the vectors that fell to each entry; entries that none fall to are restarted from the data.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass
class Quantized:
    """What training needs of one quantisation."""

    vectors: Tensor  # [row, dim, frame], with the gradient of the input
    codes: Tensor  # int64 [row, codebook, frame]
    residuals: list[Tensor]  # per codebook [row * frame, dim]: what it was given
    commitment: Tensor  # []: mean squared distance of the residuals from their entries


class ResidualQuantizer(nn.Module):
    """Vectors [row, dim, frame] to codes int64 [row, codebook, frame] and back."""

    codebooks: Tensor  # [codebook, entry, dim]

    def __init__(self, dim: int, codebooks: int, entries: int) -> None:
        super().__init__()
        self.register_buffer("codebooks", torch.randn(codebooks, entries, dim) / dim**0.5)

    def encode(self, vectors: Tensor) -> Tensor:
        residual = vectors.transpose(1, 2)  # [row, frame, dim]
        codes = []
        for codebook in self.codebooks:
            code = nearest(residual, codebook)
            residual = residual - F.embedding(code, codebook)
            codes.append(code)
        return torch.stack(codes, dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """The sum of the entries; `codes` may hold fewer codebooks than there are, the first ones."""
        vectors = sum(F.embedding(codes[:, index], self.codebooks[index]) for index in range(codes.shape[1]))
        assert isinstance(vectors, Tensor)
        return vectors.transpose(1, 2)

    def forward(self, vectors: Tensor) -> Quantized:
        """Quantises with a straight-through gradient."""
        flat = vectors.transpose(1, 2).reshape(-1, vectors.shape[1])  # [row * frame, dim]
        total = torch.zeros_like(flat)
        codes, residuals, losses = [], [], []
        for codebook in self.codebooks:
            residual = flat - total
            code = nearest(residual.detach(), codebook)
            chosen = F.embedding(code, codebook)
            codes.append(code.view(vectors.shape[0], -1))
            residuals.append(residual.detach())
            losses.append(F.mse_loss(residual, chosen))
            total = total + chosen
        quantized = flat + (total - flat).detach()
        return Quantized(
            quantized.view(vectors.shape[0], -1, vectors.shape[1]).transpose(1, 2),
            torch.stack(codes, dim=1),
            residuals,
            torch.stack(losses).mean(),
        )


def nearest(vectors: Tensor, codebook: Tensor) -> Tensor:
    """int64 [..]: the entry of `codebook` [entry, dim] closest to each of `vectors` [.., dim]; ties go to the first."""
    half_squares = codebook.square().sum(dim=-1) / 2
    return (vectors @ codebook.T - half_squares).argmax(dim=-1)


class CodebookLearner(nn.Module):
    """Moves the codebooks of a quantizer towards the vectors that fall to them. It has state, but no parameters."""

    counts: Tensor  # [codebook, entry] moving average of how many vectors fell to an entry in a batch
    sums: Tensor  # [codebook, entry, dim] moving average of their sums
    started: Tensor  # [] bool: the codebooks were drawn from data

    def __init__(self, quantizer: ResidualQuantizer, decay: float = 0.98, dead_below: float = 0.1) -> None:
        """For codebooks of the shape that `quantizer` has.

        Args:
            quantizer: gives the shapes; it is handed to each call again.
            decay: of the moving averages, per update.
            dead_below: an entry is restarted when its count falls below this.
        """
        super().__init__()
        self.decay = decay
        self.dead_below = dead_below
        books, entries, dim = quantizer.codebooks.shape
        self.register_buffer("counts", torch.ones(books, entries))
        self.register_buffer("sums", torch.zeros(books, entries, dim))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def start(self, quantizer: ResidualQuantizer, vectors: Tensor) -> None:
        """Draws each codebook from what those before it leave of `vectors` [row, dim, frame], by a short k-means."""
        residual = vectors.transpose(1, 2).reshape(-1, vectors.shape[1])
        entries = self.counts.shape[1]
        for book, codebook in enumerate(quantizer.codebooks):
            codebook.copy_(draw(residual, entries))
            for _ in range(4):
                code = nearest(residual, codebook)
                counts, sums = gather(residual, code, entries)
                used = counts > 0
                codebook[used] = sums[used] / counts[used, None]
            self.counts[book] = counts.clamp(min=1.0)
            self.sums[book] = codebook * self.counts[book][:, None]
            residual = residual - codebook[nearest(residual, codebook)]
        self.started.fill_(True)

    @torch.no_grad()
    def carry_on(self, quantizer: ResidualQuantizer) -> None:
        """Goes on from the codebooks as they are, as if one vector of each batch had fallen to every entry."""
        self.counts.fill_(1.0)
        self.sums.copy_(quantizer.codebooks)
        self.started.fill_(True)

    @torch.no_grad()
    def update(self, quantizer: ResidualQuantizer, quantized: Quantized) -> int:
        """Learns from one batch; returns how many dead entries were restarted."""
        restarted = 0
        for book, residual in enumerate(quantized.residuals):
            code = quantized.codes[:, book].reshape(-1)
            counts, sums = gather(residual, code, self.counts.shape[1])
            self.counts[book].lerp_(counts, 1 - self.decay)
            self.sums[book].lerp_(sums, 1 - self.decay)
            dead = self.counts[book] < self.dead_below
            number = int(dead.sum())
            if number:
                fresh = draw(residual, number)
                self.counts[book, dead] = 1.0
                self.sums[book, dead] = fresh
                restarted += number
            quantizer.codebooks[book] = self.sums[book] / self.counts[book][:, None]
        return restarted


def draw(vectors: Tensor, number: int) -> Tensor:
    """`number` of `vectors` [n, dim] at random, with a little noise so that no two are equal."""
    chosen = vectors[torch.randint(len(vectors), (number,), device=vectors.device)]
    return chosen + 0.01 * vectors.std() * torch.randn_like(chosen)


def gather(vectors: Tensor, code: Tensor, entries: int) -> tuple[Tensor, Tensor]:
    """How many of `vectors` [n, dim] fell to each entry [entry], and their sums [entry, dim]."""
    counts = torch.bincount(code, minlength=entries).to(vectors.dtype)
    sums = vectors.new_zeros(entries, vectors.shape[1]).index_add_(0, code, vectors)
    return counts, sums
