"""Choosing tokens from logits in torch: guidance, temperature, top-k, top-p, and where a given uniform number falls.

The reference for, and the same rule as, kernels/choose.py. Fixed shapes and no synchronisation, fit for a CUDA graph.
"""

from __future__ import annotations

import torch
from torch import Tensor


def guide(conditioned: Tensor, unconditioned: Tensor, scale: Tensor) -> Tensor:
    """Logits [row, vocabulary] that lie `scale` [row] times the way from unconditioned to conditioned."""
    return unconditioned + scale[:, None] * (conditioned - unconditioned)


def choose(logits: Tensor, temperature: Tensor, top_k: Tensor, u: Tensor, top_p: Tensor | None = None) -> Tensor:
    """The first token of each row whose cumulative probability exceeds `u`.

    Args:
        logits: [row, vocabulary]
        temperature: [row]; 0 takes the likeliest token.
        top_k: [row] tokens to choose from, and whatever equals the last of them; 0 for all.
        u: [row] uniform in [0, 1).
        top_p: [row] the probability that the likeliest of those must make, with whatever equals the last of them.
    Returns:
        [row] int64
    """
    vocabulary = logits.shape[1]
    likeliest = logits.argmax(dim=1)
    scaled = logits / torch.where(temperature > 0, temperature, 1.0)[:, None]
    kept = torch.where((top_k > 0) & (top_k < vocabulary), top_k, vocabulary)
    ranked = scaled.sort(dim=1, descending=True).values
    threshold = ranked.gather(1, kept[:, None] - 1)
    weights = (scaled - ranked[:, :1]).exp().masked_fill(scaled < threshold, 0.0)
    if top_p is not None:
        heaviest = weights.sort(dim=1, descending=True).values
        before = heaviest.double().cumsum(dim=1) - heaviest
        enough = (before < top_p.double()[:, None] * weights.double().sum(dim=1, keepdim=True)).sum(dim=1)
        least = heaviest.gather(1, enough.clamp(min=1)[:, None] - 1)
        weights = weights.masked_fill((weights < least) & (top_p < 1)[:, None], 0.0)
    reached = weights.double().cumsum(dim=1)
    token = (reached <= u.double()[:, None] * reached[:, -1:]).sum(dim=1)
    return torch.where(temperature > 0, token, likeliest)
