"""A stage of the aligned layout as a torch module, its losses, and its sources brought to the time of its steps."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from backline.models.hafm.aligned.config import LOOKAHEAD, AlignedStageConfig
from backline.models.hafm.grid import CHUNK_QUANTUM
from backline.models.hafm.sources import SourceConfig
from backline.nn.transformer import Transformer

EMBEDDING_STD = 0.02
IGNORED = -100  # as a target: not judged


class AlignedNetwork(nn.Module):
    """A stage as a torch module: what training trains and the reference for the fused CPU step.

    With a `code_width` the predicted tokens have one table of vectors so wide, for what goes in and what comes out:
    `enter` leads from them to the width of the stage, `leave` back. A step's input is then W [E_1(c_1); ..; E_n(c_n)].
    """

    def __init__(self, config: AlignedStageConfig) -> None:
        super().__init__()
        self.config = config
        width, codebooks, code = config.width, config.codebooks, config.code_width
        self.conditions = nn.ParameterDict(
            {s.name: _embedding(s.codebooks, s.vocabulary + 1, width) for s in config.sources}
        )
        self.tokens = _embedding(codebooks, config.vocabulary + 1, code or width)  # last entry: BOS
        self.transformer = Transformer(config.transformer)
        if code:
            self.enter = nn.Parameter(torch.randn(codebooks, code, width) * code**-0.5)
            self.leave = nn.Parameter(torch.randn(codebooks, width, code) * (width * code) ** -0.5)
            self.head_bias = nn.Parameter(torch.zeros(codebooks, config.vocabulary))
        else:
            self.heads = _embedding(codebooks, config.vocabulary, width)

    def forward(self, conditions: Sequence[Tensor], targets: Tensor, played: Tensor | None = None) -> Tensor:
        """Logits [row, step, codebook, vocabulary] under teacher forcing, all steps at once.

        Args:
            conditions: per source [row, codebook, step] int64, as `aligned` makes them.
            targets: [row, codebook, frame] int64, as many frames as steps; step s answers for frame s - delay.
            played: like targets; what goes in as having been played, where that differs from what should be.
        """
        x = self.embed_conditions(conditions) + self.embed_tokens(self.inputs(targets if played is None else played))
        return self.logits(self.transformer(x))

    def embed_conditions(self, conditions: Sequence[Tensor]) -> Tensor:
        """[row, step, width] the sum over all sources [row, codebook, step]."""
        every = zip(self.config.sources, conditions, strict=True)
        parts = [_embedded(self.conditions[source.name], tokens) for source, tokens in every]
        return torch.stack(parts).sum(0)

    def embed_tokens(self, tokens: Tensor) -> Tensor:
        """[row, step, width] of what each codebook got a step earlier, [row, codebook, step]; BOS before it began."""
        if not self.config.code_width:
            return _embedded(self.tokens, tokens)
        vectors = [F.embedding(tokens[:, k], table) for k, table in enumerate(self.tokens)]
        return torch.cat(vectors, dim=2) @ self.enter.flatten(0, 1)

    def inputs(self, targets: Tensor) -> Tensor:
        """[row, codebook, step] what goes in when `targets` [row, codebook, frame] are predicted."""
        late = [
            F.pad(targets[:, k], (1 + d, 0), value=self.config.vocabulary) for k, d in enumerate(self.config.delays)
        ]
        return torch.stack([tokens[:, : targets.shape[2]] for tokens in late], dim=1)

    def logits(self, hidden: Tensor) -> Tensor:
        """[row, step, codebook, vocabulary] of hidden states [row, step, width]."""
        if self.config.code_width:
            return torch.stack([self.logits_of(k, hidden) for k in range(self.config.codebooks)], dim=2)
        flat = hidden @ self.heads.flatten(0, 1).T
        return flat.unflatten(-1, self.heads.shape[:2])

    def logits_of(self, codebook: int, hidden: Tensor) -> Tensor:
        """[.., vocabulary] of one codebook of a factorised stage, of hidden states [.., width]."""
        return hidden @ self.leave[codebook] @ self.tokens[codebook, :-1].T + self.head_bias[codebook]


def delayed_losses(logits: Tensor, targets: Tensor, delays: Sequence[int]) -> Tensor:
    """[codebook] mean cross-entropy in nats.

    Args:
        logits: [row, step, codebook, vocabulary]
        targets: [row, codebook, frame], as many frames as steps; IGNORED where it makes no difference.
    """
    _, books, steps = targets.shape
    late = [F.pad(targets[:, k, : steps - delay], (delay, 0), value=IGNORED) for k, delay in enumerate(delays)]
    wanted = torch.stack(late, dim=2)  # [row, step, codebook]
    losses = F.cross_entropy(logits.flatten(0, 2), wanted.flatten(), ignore_index=IGNORED, reduction="none")
    judged = (wanted != IGNORED).sum(dim=(0, 1))
    return losses.view(-1, books).sum(dim=0) / judged.clamp(min=1)


def aligned(
    tokens: NDArray[np.int64], source: SourceConfig, rate: int, first: int, steps: int, lag: Fraction = Fraction(0)
) -> NDArray[np.int64]:
    """[codebook, step]: a source's tokens at steps `first`.. of a stage; unknown where there are none (yet).

    Args:
        tokens: [codebook, frame] from the session's start.
        rate: steps per second.
        lag: seconds by which a source that is heard live comes later, or earlier where negative; others do neither.
    """
    late = int(lag * source.rate) if source.reach == "visibility" else 0
    frame = np.arange(first, first + steps) * source.rate // rate - late
    known = (frame >= 0) & (frame < tokens.shape[1])
    found = tokens[:, np.where(known, frame, 0)] if tokens.shape[1] else np.zeros((source.codebooks, steps), np.int64)
    return np.where(known, found, source.vocabulary)


def lag_token(lag: Fraction) -> int:
    """The token of source `lag`."""
    return int((LOOKAHEAD + lag) / CHUNK_QUANTUM)


def _embedded(table: Tensor, tokens: Tensor) -> Tensor:
    """[row, step, width] the sum over codebooks of table [codebook, entry, width] at tokens [row, codebook, step]."""
    codebooks, entries, _ = table.shape
    base = torch.arange(codebooks, device=tokens.device)[:, None] * entries
    return F.embedding(tokens + base, table.flatten(0, 1)).sum(dim=1)


def _embedding(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape) * EMBEDDING_STD)
