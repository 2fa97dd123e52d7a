"""The sizes of the three published stages, and a named value for everything the paper leaves open."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, Literal, get_args

from msgspec import Meta

from backline.models.hafm.sources import TRANSPORT, VOCAL, Buckets, SourceConfig, Sources, check_stage
from backline.nn.tables import (
    Codebooks,
    Entries,
    Epsilon,
    FrameRate,
    Heads,
    HeadWidth,
    Layers,
    Positions,
    Width,
    read_table,
)
from backline.nn.transformer import TransformerConfig

Null = Literal["zero_token", "mask_token", "zero_all"]
QuantizerIndex = Literal["target", "token"]

INSTRUMENTAL = SourceConfig("instrumental", vocabulary=500, rate=50, reach="chunk_end")
COARSE_CODES = SourceConfig("coarse", vocabulary=1024, rate=75, reach="chunk_end", codebooks=4)


@dataclass(frozen=True)
class StageConfig:
    """One stage: what it is conditioned on, what it predicts, and the transformer in between.

    null: what a dropped source becomes (paper 3.4 against 3.5): `zero_token` zeroes the token embedding and keeps the
        segment's, `mask_token` is the extra entry of the token table, `zero_all` zeroes everything.
    quantizer_offset: the offset embedding at an input position is that of the quantizer it predicts (`target`), or of
        the quantizer of the token that stands there (`token`; BOS counts as the first).
    token_table: a token is embedded by the table of its own quantizer (`token`), or of the one it predicts (`target`).
    first_head: quantizer whose head predicts the first token; the n-th token's head is (n + first_head) mod quantizers.
    max_distance: distance from which on the relative bias stays the same; the paper derives it from the clip.
    window: flat positions that a position sees, in training and in serving alike.
    chunk_clock: adds an embedding of the time within the chunk to every position (not in the paper).
    """

    sources: Sources
    vocabulary: Entries  # of the predicted tokens, without BOS
    quantizers: Codebooks
    rate: FrameRate  # predicted frames per second
    layers: Layers
    width: Width
    heads: Heads
    max_distance: Positions
    window: Positions
    head_width: HeadWidth = 64
    feed_forward_multiple: Annotated[float, Meta(gt=0, le=64)] = 4.0
    buckets: Buckets = 32
    norm_epsilon: Epsilon = 1e-6
    null: Null = "zero_token"
    quantizer_offset: QuantizerIndex = "target"
    token_table: QuantizerIndex = "token"
    first_head: Annotated[int, Meta(ge=0)] = 0
    chunk_clock: bool = False

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("null", self.null, get_args(Null)),
            ("quantizer_offset", self.quantizer_offset, get_args(QuantizerIndex)),
            ("token_table", self.token_table, get_args(QuantizerIndex)),
        ):
            if value not in choices:
                raise ValueError(f"{name} is {value!r}: use one of {', '.join(choices)}")
        if not 0 <= self.first_head < self.quantizers:
            raise ValueError(f"first_head is {self.first_head}: use 0 to {self.quantizers - 1}")
        check_stage(self.sources, self.buckets, self.max_distance)
        if self.feed_forward < 1:
            raise ValueError(f"feed_forward_multiple is {self.feed_forward_multiple:g}: use {2 / self.width:g} or more")

    @property
    def feed_forward(self) -> int:
        return int(Fraction(2, 3) * self.width * Fraction(self.feed_forward_multiple))

    @property
    def transformer(self) -> TransformerConfig:
        return TransformerConfig(
            layers=self.layers,
            width=self.width,
            heads=self.heads,
            head_width=self.head_width,
            feed_forward=self.feed_forward,
            buckets=self.buckets,
            max_distance=self.max_distance,
            window=self.window,
            norm_epsilon=self.norm_epsilon,
        )

    def to_dict(self) -> dict[str, Any]:
        """As a table of pack.toml."""
        return {**dataclasses.asdict(self), "sources": [dataclasses.asdict(source) for source in self.sources]}


@dataclass(frozen=True)
class InterleavedConfig:
    """The three stages."""

    semantic: StageConfig
    coarse: StageConfig
    fine: StageConfig

    def stages(self) -> dict[str, StageConfig]:
        """By the names that prefix their tensors, in the order in which they run."""
        return {"semantic": self.semantic, "coarse": self.coarse, "fine": self.fine}

    def to_dict(self) -> dict[str, Any]:
        return {name: stage.to_dict() for name, stage in self.stages().items()}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> InterleavedConfig:
        """From the tables [network.semantic], [network.coarse] and [network.fine].

        Raises:
            TableError: names every table and entry that is missing, unknown or impossible.
        """
        return read_table(cls, table, "network", known_elsewhere=("layout",))


def three_stages(
    *,
    layers: int,
    width: int,
    heads: int,
    windows: tuple[int, int, int],
    distances: tuple[int, int, int],
    transport: bool = False,
    **options: Any,
) -> InterleavedConfig:
    """The paper's three stages at the given sizes; `windows` and `distances` (max_distance) per stage.

    Further `options` are fields of StageConfig and go to all stages.
    """
    common = {"layers": layers, "width": width, "heads": heads, **options}
    return InterleavedConfig(
        semantic=StageConfig(
            sources=(VOCAL, TRANSPORT) if transport else (VOCAL,),
            vocabulary=500,
            quantizers=1,
            rate=50,
            window=windows[0],
            max_distance=distances[0],
            **common,
        ),
        coarse=StageConfig(
            sources=(VOCAL, INSTRUMENTAL),
            vocabulary=1024,
            quantizers=4,
            rate=75,
            window=windows[1],
            max_distance=distances[1],
            **common,
        ),
        fine=StageConfig(
            sources=(COARSE_CODES,),
            vocabulary=1024,
            quantizers=4,
            rate=75,
            window=windows[2],
            max_distance=distances[2],
            **common,
        ),
    )


# The paper's sizes (table 1). Its window is the clip: 10, 5 and 3 s of conditioning and predictions.
PAPER = three_stages(layers=12, width=512, heads=8, windows=(1000, 2000, 1125), distances=(1000, 1500, 900))
PAPER_SEMANTIC, PAPER_COARSE, PAPER_FINE = PAPER.semantic, PAPER.coarse, PAPER.fine

# Small enough to learn on two cores. The fine stage adds least to what is heard, so it has the fewest parameters.
_DEFAULT = three_stages(
    layers=4,
    width=256,
    heads=4,
    windows=(1024, 512, 512),
    distances=(1024, 512, 512),
    transport=True,
    chunk_clock=True,
)
DEFAULT = dataclasses.replace(_DEFAULT, fine=dataclasses.replace(_DEFAULT.fine, layers=3, width=192, heads=3))

# As small as it gets: opens at once, plays noise.
TINY = three_stages(
    layers=2,
    width=32,
    heads=2,
    head_width=16,
    windows=(96, 128, 128),
    distances=(96, 128, 128),
    transport=True,
)
