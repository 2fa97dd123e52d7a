"""Sizes of a DuoTok tokenizer: the paper's, with its blanks filled, and the one that ships (DUOTOK.md 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Annotated, Any, Literal

from msgspec import Meta

from backline.nn.conformer import ConformerConfig
from backline.nn.tables import (
    Bands,
    Entries,
    Expansion,
    Heads,
    Kernel,
    Layers,
    SampleRate,
    Samples,
    Share,
    Width,
    read_table,
)

Role = Literal["vocals", "accompaniment"]

ROLES: tuple[Role, ...] = ("vocals", "accompaniment")  # the tracks, each with a codebook of its own
SUBSAMPLING = 4  # mel frames of a token
MOST_ROW_BYTES = 1 << 28  # of the keys and values that a stream holds; the paper's layers with SMALL's context: 38 MB


@dataclass(frozen=True)
class DuoTokConfig:
    """The sizes that a pack's [tokenizer] table gives; the defaults are `PAPER`'s."""

    sample_rate: SampleRate = 24_000
    window: Annotated[int, Meta(ge=2, le=8192)] = 2048  # samples, of the transform
    hop: Samples = 240
    bands: Bands = 128
    channels: Width = 512  # of the first of the two convolutions that halve the rate; of "full" ones, of both
    layers: Layers = 12
    width: Width = 1024
    heads: Heads = 16
    kernel: Kernel = 31  # of the depthwise convolutions
    expansion: Expansion = 4  # of the feed-forward parts
    # What a token hears: "full", the whole clip, and as a stream a window of it; or "causal", `context` tokens back and
    # as many ahead in each layer as `ahead` says, which is the same as a stream.
    attention: Literal["full", "causal"] = "full"
    context: Annotated[int, Meta(ge=0, le=65_536)] = 0
    ahead: tuple[Annotated[int, Meta(ge=0, le=1024)], ...] = ()
    code_dim: Width = 1024
    projection: bool = False  # whether each track has a linear map from `width` to `code_dim`
    entries: Entries = 32_768
    shared_codebook: bool = False  # ablation: one for both tracks
    seed: Annotated[int, Meta(ge=0, le=2**53)] = 0  # of the codebooks' tables, which no pack stores
    dropout: Share = 0.0

    def __post_init__(self) -> None:
        wrong = []
        if self.window < self.hop or (self.window - self.hop) % 2:
            wrong.append(f"window is {self.window}: use one that is longer than the hop by an even number")
        elif self.window - self.hop > 2 * self.samples_per_token:
            wrong.append(f"window is {self.window}: use at most {2 * self.samples_per_token + self.hop}, or more hop")
        if self.attention == "causal" and len(self.ahead) != self.layers:
            wrong.append(f"ahead lists {len(self.ahead)} layers, there are {self.layers}: give one number each")
        if self.row_bytes > MOST_ROW_BYTES:
            wrong.append(f"context is {self.context}: a stream would hold {self.row_bytes / 1e6:.0f} MB; use less")
        if self.attention == "full" and (self.context or self.ahead):
            wrong.append('context and ahead are for attention = "causal": leave them out')
        if self.attention == "full" and self.bands % SUBSAMPLING:
            wrong.append(f"bands is {self.bands}: use a multiple of {SUBSAMPLING}, as they are halved twice")
        if not self.projection and self.code_dim != self.width:
            wrong.append(f"code_dim is {self.code_dim}: without a projection it is the width, {self.width}")
        try:
            _ = self.conformer
        except ValueError as error:
            wrong.append(str(error))
        if wrong:
            raise ValueError("; ".join(wrong))

    @property
    def conformer(self) -> ConformerConfig:
        return ConformerConfig(
            self.layers,
            self.width,
            self.heads,
            self.kernel,
            self.expansion,
            rotary_heads=self.heads,
            norm="layer" if self.attention == "causal" else "batch",
            dropout=self.dropout,
        )

    @property
    def row_bytes(self) -> int:
        """Of keys and values that a causal encoder holds for a stream."""
        return sum(2 * 4 * self.width * (self.context + steps) for steps in self.ahead)

    @property
    def samples_per_token(self) -> int:
        return self.hop * SUBSAMPLING

    @property
    def frame_rate(self) -> Fraction:
        """Tokens a second."""
        return Fraction(self.sample_rate, self.samples_per_token)

    def to_table(self) -> dict[str, Any]:
        """As a pack's table holds it."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def read_tokenizer_table(table: Mapping[str, Any]) -> DuoTokConfig:
    """What `to_table` wrote. Raises TableError with everything that does not fit."""
    return read_table(DuoTokConfig, table, "tokenizer", known_elsewhere=("kind",))


PAPER = DuoTokConfig()
SMALL = DuoTokConfig(
    window=1024,
    bands=80,
    channels=128,
    layers=4,
    width=192,
    heads=4,
    kernel=9,
    attention="causal",
    context=384,
    ahead=(0, 4, 0, 4),
    code_dim=64,
    projection=True,
)
