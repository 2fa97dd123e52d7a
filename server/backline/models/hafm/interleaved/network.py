"""One interleaved stage as a torch module: embeddings, transformer, one head per quantizer.

This is what training trains and the reference that the fused CPU step is tested against.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backline.models.hafm.interleaved.config import StageConfig
from backline.models.hafm.interleaved.layout import Layout
from backline.models.hafm.sources import SourceConfig
from backline.nn.transformer import Transformer

CLOCK_PERIODS = 0.04 * 2.0 ** (torch.arange(16) / 2)  # seconds: from the shortest chunk to that of a whole clip
EMBEDDING_STD = 0.02


class StageNetwork(nn.Module):
    """A decoder-only stage. All tokens are int64."""

    def __init__(self, config: StageConfig) -> None:
        super().__init__()
        self.config = config
        width, quantizers = config.width, config.quantizers
        codes = {s.name: config.table_width(s.vocabulary) for s in config.sources}
        self.conditions = nn.ParameterDict(
            {s.name: _embedding(s.codebooks, s.vocabulary + 1, codes[s.name] or width) for s in config.sources}
        )
        # From the width of a factorised table to that of the stage.
        self.entrances = nn.ParameterDict({name: _matrix(code, width) for name, code in codes.items() if code})
        code = config.table_width(config.vocabulary)
        self.prediction = _embedding(quantizers, config.vocabulary + 1, code or width)  # last entry: BOS
        self.quantizer_offset = _embedding(quantizers, width)
        self.segment = _embedding(len(config.sources) + 1, width)
        self.clock = _embedding(2 * len(CLOCK_PERIODS), width) if config.chunk_clock else None
        self.transformer = Transformer(config.transformer)
        if code:
            self.enter = _matrix(quantizers, code, width)
            self.leave = _matrix(quantizers, width, code, spread=(width * code) ** -0.5)
            self.head_bias = nn.Parameter(torch.zeros(quantizers, config.vocabulary))
        else:
            self.heads = _embedding(quantizers, config.vocabulary, width)
        self.factorised = code > 0  # what is predicted

    def forward(
        self, conditions: Sequence[Tensor], targets: Tensor, layout: Layout, drop: Tensor | None = None
    ) -> Tensor:
        """Logits under teacher forcing, all positions at once.

        Args:
            conditions: per source [row, codebook, frame], as many frames as `layout.source_frames` says.
            targets: [row, quantizer, frame], the tokens to predict.
            layout: the flat order, the same for every row.
            drop: [row, source], true where the row must do without the source (classifier-free guidance).
        Returns:
            [row, quantizer, frame, vocabulary]
        """
        order = torch.from_numpy(layout.gather()).to(targets.device)
        shifted = torch.cat([self._begin(targets), self._flat(targets)[:, :-1]], dim=1)
        clock = torch.from_numpy(layout.clock).to(targets.device)
        parts = [self._source_tokens(n, tokens, _column(drop, n)) for n, tokens in enumerate(conditions)]
        x = torch.cat([*parts, self.embed_prediction(shifted, 0)], dim=1).index_select(1, order)
        if self.clock is not None:
            dropped = self._dropped_positions(layout, drop, targets.device)
            x = x + self._clock(clock) * ~dropped[..., None]
        hidden = self.transformer(x)
        predictions = torch.from_numpy(layout.predictions).to(targets.device)
        return self.logits(hidden.index_select(1, predictions))

    def embed_source(
        self, number: int, tokens: Tensor, clock: Tensor | None = None, drop: Tensor | None = None
    ) -> Tensor:
        """Embeddings [row, frame, width] of source `number`.

        Args:
            tokens: [row, codebook, frame].
            clock: [frame] seconds within the chunk; needed where the stage has a chunk clock.
            drop: [row] true where the source is dropped.
        """
        x = self._source_tokens(number, tokens, drop)
        if self.clock is None:
            return x
        assert clock is not None, "a stage with a chunk clock needs the time of every token"
        lines = self._clock(clock).expand_as(x)
        if drop is not None and self.config.null == "zero_all":
            lines = lines * ~drop[:, None, None]
        return x + lines

    def embed_prediction(self, tokens: Tensor, first: int) -> Tensor:
        """Embeddings [row, n, width], without clock, of the tokens [row, n] that stand *before* predictions `first`..

        The token before prediction 0 is BOS (`vocabulary`).
        """
        quantizers = self.config.quantizers
        target = torch.arange(first, first + tokens.shape[1], device=tokens.device)
        own = torch.where(target > 0, target - 1, 0) % quantizers  # the quantizer of the token that stands there
        target = target % quantizers
        table = target if self.config.token_table == "target" else own
        offset = target if self.config.quantizer_offset == "target" else own
        x = F.embedding(tokens + table * (self.config.vocabulary + 1), self.prediction.flatten(0, 1))
        if self.factorised:
            entered = torch.einsum("rnc,qcd->rnqd", x, self.enter)
            x = entered[:, torch.arange(len(table), device=x.device), table]
        return x + self.quantizer_offset[offset] + self.segment[-1]

    def embed_clock(self, clock: Tensor) -> Tensor:
        """[n, width] what the chunk clock adds at `clock` [n] seconds; zeros for a stage without one."""
        if self.clock is None:
            return self.segment.new_zeros(len(clock), self.config.width)
        return self._clock(clock)

    def logits(self, hidden: Tensor) -> Tensor:
        """[row, quantizer, frame, vocabulary] from the hidden states [row, frame * quantizer, width] of predictions."""
        rows, quantizers = hidden.shape[0], self.config.quantizers
        by_frame = hidden.view(rows, -1, quantizers, self.config.width)
        if self.factorised:
            left = torch.einsum("rfqd,qdc->rqfc", by_frame, self.served(self.leave))
            return left @ self.served_heads().transpose(1, 2) + self.served(self.head_bias)[:, None]
        return torch.einsum("rfqd,qvd->rqfv", by_frame, self.served_heads())

    def served_heads(self) -> Tensor:
        """[quantizer, vocabulary, width of the table] such that prediction n is made by head n mod quantizers."""
        return self.served(self.prediction[:, :-1] if self.factorised else self.heads)

    def served(self, by_head: Tensor) -> Tensor:
        """What a head has of its own [quantizer, ..] in the order of the predictions."""
        return by_head.roll(-self.config.first_head, 0)

    @torch.no_grad()
    def served_inputs(self) -> Tensor:
        """[quantizer, vocabulary + 1, width] what goes in after a token of a quantizer, without clock. For small
        vocabularies: it is as large as a table that is not factorised.

        The last entry of the last quantizer is what goes in first of all (BOS).
        """
        config = self.config
        every = torch.arange(config.vocabulary + 1, device=self.segment.device)[:, None]
        after = torch.cat([self.embed_prediction(every, q + 1) for q in range(config.quantizers)], dim=1)
        inputs = after.transpose(0, 1).contiguous()
        inputs[-1, -1] = self.embed_prediction(every[-1:], 0)[0, 0]
        return inputs

    def _source_tokens(self, number: int, tokens: Tensor, drop: Tensor | None) -> Tensor:
        """Token and segment embedding [row, frame, width] of one source, without clock."""
        source: SourceConfig = self.config.sources[number]
        if tokens.shape[1] != source.codebooks:
            raise ValueError(
                f"source {source.name!r} has shape {tuple(tokens.shape)}: use [row, {source.codebooks}, frame]"
            )
        if drop is not None and self.config.null == "mask_token":
            tokens = torch.where(drop[:, None, None], source.vocabulary, tokens)
        base = torch.arange(source.codebooks, device=tokens.device)[:, None] * (source.vocabulary + 1)
        table = self.conditions[source.name].flatten(0, 1)
        x = F.embedding(tokens + base, table).sum(dim=1)
        if source.name in self.entrances:
            x = x @ self.entrances[source.name]
        if drop is not None and self.config.null == "zero_token":
            x = x * ~drop[:, None, None]
        x = x + self.segment[number]
        if drop is not None and self.config.null == "zero_all":
            x = x * ~drop[:, None, None]
        return x

    def _dropped_positions(self, layout: Layout, drop: Tensor | None, device: torch.device) -> Tensor:
        """[row or 1, position] true where even the clock is dropped."""
        if drop is None or self.config.null != "zero_all":
            return torch.zeros(1, len(layout), dtype=torch.bool, device=device)
        with_prediction = F.pad(drop, (0, 1), value=False)  # [row, segment]
        return with_prediction[:, torch.from_numpy(layout.segment).to(device)]

    def _clock(self, seconds: Tensor) -> Tensor:
        assert self.clock is not None
        angle = 2 * math.pi * seconds[:, None] / CLOCK_PERIODS.to(seconds.device)
        return torch.cat([angle.sin(), angle.cos()], dim=1).to(self.clock.dtype) @ self.clock

    def _begin(self, targets: Tensor) -> Tensor:
        return targets.new_full((targets.shape[0], 1), self.config.vocabulary)

    @staticmethod
    def _flat(targets: Tensor) -> Tensor:
        """[row, frame * quantizer]: frame by frame, quantizer by quantizer."""
        return targets.transpose(1, 2).flatten(1)


def quantizer_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy [row, quantizer] in nats per token; its mean is the paper's equation 6.

    Args:
        logits: [row, quantizer, frame, vocabulary].
        targets: [row, quantizer, frame].
    """
    return F.cross_entropy(logits.permute(0, 3, 1, 2).float(), targets, reduction="none").mean(dim=2)


def parameter_count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _embedding(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape) * EMBEDDING_STD)


def _matrix(*shape: int, spread: float | None = None) -> nn.Parameter:
    """Such that vectors keep their length, unless `spread` says otherwise."""
    return nn.Parameter(torch.randn(shape) * (shape[-2] ** -0.5 if spread is None else spread))


def _column(drop: Tensor | None, number: int) -> Tensor | None:
    return None if drop is None else drop[:, number]
