"""BEST-RQ: what a masked encoder is to predict are codes that chance alone defines (Chiu et al., 2022). Training only.

Normalised features go through a frozen random projection to the nearest of frozen random entries, both of length 1.
Masks are MusicFM's: blocks of the sound itself, long enough that their middles are heard in no window beside them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backline.nn.simvq import gaussian_table

MASK_SECONDS = 0.4
MASK_SHARE = 0.6  # of the blocks
MASK_DEVIATION = 0.1  # of the noise in their place


class BestRQ(nn.Module):
    """Features [row, frame, dim] -> targets int64 [row, frame]. Nothing in it learns, and no checkpoint holds it."""

    projection: Tensor  # [dim, code_dim]
    codebook: Tensor  # [entry, code_dim], each of length 1

    def __init__(self, dim: int, code_dim: int = 16, entries: int = 4096, seed: int = 0) -> None:
        super().__init__()
        spread = (2.0 * dim / (dim + code_dim)) ** 0.5  # Xavier's, of a table of variance 1 / dim
        projection = spread * torch.from_numpy(gaussian_table(code_dim, dim, seed, 0)).T
        codebook = F.normalize(torch.from_numpy(gaussian_table(entries, code_dim, seed, 1)), dim=1)
        self.register_buffer("projection", projection.contiguous(), persistent=False)
        self.register_buffer("codebook", codebook, persistent=False)

    @torch.no_grad()
    def forward(self, features: Tensor) -> Tensor:
        # Of vectors of length 1 the nearest is the one in the same direction, whatever the length of the other.
        with torch.autocast(features.device.type, enabled=False):
            return (features @ self.projection @ self.codebook.T).argmax(-1)


def stacked(mels: Tensor, frames: int) -> Tensor:
    """[row, n * frames, band] -> [row, n, frames * band]: what is known of each token's time."""
    return mels.unflatten(1, (-1, frames)).flatten(2)


def masked(
    audio: Tensor,
    sample_rate: int,
    samples_per_token: int,
    generator: torch.Generator | None = None,
    seconds: float = MASK_SECONDS,
    share: float = MASK_SHARE,
    deviation: float = MASK_DEVIATION,
) -> tuple[Tensor, Tensor]:
    """Audio [row, sample] with blocks of it replaced by noise, and which tokens [row, token] are in such a block.

    Blocks are whole tokens long; what is left over at the end, less than a block, is never masked.

    Args:
        generator: on the audio's device.
        share: the chance of each block.
    """
    rows, samples = audio.shape
    tokens = max(1, round(seconds * sample_rate / samples_per_token))  # of a block
    blocks = samples // (tokens * samples_per_token)
    drawn = torch.rand(rows, blocks, generator=generator, device=audio.device) < share
    hidden = F.pad(drawn.repeat_interleave(tokens, dim=1), (0, samples // samples_per_token - blocks * tokens))
    spots = F.pad(
        hidden.repeat_interleave(samples_per_token, dim=1), (0, samples - hidden.shape[1] * samples_per_token)
    )
    noise = deviation * torch.randn(audio.shape, generator=generator, device=audio.device, dtype=audio.dtype)
    return torch.where(spots, noise, audio), hidden
