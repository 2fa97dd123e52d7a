"""The sizes of the three published stages, and a named value for everything the paper leaves open."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
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

FACTORISED = 4096  # entries, beyond which a table is factorised where a stage has a `code_width`

CLIPS = {"semantic": Fraction(10), "coarse": Fraction(5), "fine": Fraction(3)}  # seconds, the paper's (table 1)


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
    code_width: of the tables of more than FACTORISED entries, which a matrix brings to `width`; a predicted token goes
        in and comes out by the same one (not in the paper, whose vocabularies are small). 0: no table is factorised.
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
    code_width: Annotated[int, Meta(ge=0, le=16_384)] = 0

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

    def table_width(self, vocabulary: int) -> int:
        """Of the table of so many tokens; 0: it is the stage's own width, and no matrix follows."""
        return self.code_width if vocabulary > FACTORISED else 0

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
    """The three stages; or two, where the codes follow the voice itself and no semantic stage stands between."""

    coarse: StageConfig
    fine: StageConfig
    semantic: StageConfig | None = None

    def stages(self) -> dict[str, StageConfig]:
        """By the names that prefix their tensors, in the order in which they run."""
        first = {} if self.semantic is None else {"semantic": self.semantic}
        return {**first, "coarse": self.coarse, "fine": self.fine}

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
    windows: tuple[int, int, int] | None = None,
    distances: tuple[int, int, int] | None = None,
    transport: bool = False,
    vocabulary: int = 500,
    rate: int = 50,
    codebooks: int = 8,
    entries: int = 1024,
    **options: Any,
) -> InterleavedConfig:
    """The paper's three stages at the given sizes.

    Args:
        windows, distances: `window` and `max_distance` per stage; else all of a clip's positions, and the sequence
            lengths of table 1, which counts no conditioning in the latter two stages.
        vocabulary, rate: of the semantic tokens.
        codebooks, entries: of the codec; the coarse stage predicts the first half of the codebooks.
        options: fields of StageConfig, for all stages.
    """
    coarse, fine = codebooks - codebooks // 2, codebooks // 2
    common = {"layers": layers, "width": width, "heads": heads, **options}
    lengths = [int(seconds) for seconds in CLIPS.values()]
    positions = (rate + rate, rate + rate + 75 * coarse, 75 + 75 * fine)  # a second
    predicted = (rate + rate, 75 * coarse, 75 * fine)
    held = windows or tuple(n * each for n, each in zip(lengths, positions, strict=True))
    furthest = distances or tuple(n * each for n, each in zip(lengths, predicted, strict=True))
    vocal = replace(VOCAL, vocabulary=vocabulary, rate=rate)
    return InterleavedConfig(
        semantic=StageConfig(
            sources=(vocal, TRANSPORT) if transport else (vocal,),
            vocabulary=vocabulary,
            quantizers=1,
            rate=rate,
            window=held[0],
            max_distance=furthest[0],
            **common,
        ),
        coarse=StageConfig(
            sources=(vocal, replace(INSTRUMENTAL, vocabulary=vocabulary, rate=rate)),
            vocabulary=entries,
            quantizers=coarse,
            rate=75,
            window=held[1],
            max_distance=furthest[1],
            **common,
        ),
        fine=StageConfig(
            sources=(replace(COARSE_CODES, vocabulary=entries, codebooks=coarse),),
            vocabulary=entries,
            quantizers=fine,
            rate=75,
            window=held[2],
            max_distance=furthest[2],
            **common,
        ),
    )


def without_semantic(network: InterleavedConfig) -> InterleavedConfig:
    """Two stages of three: the coarse one hears the voice alone."""
    heard = tuple(source for source in network.coarse.sources if source.name != INSTRUMENTAL.name)
    return InterleavedConfig(coarse=replace(network.coarse, sources=heard), fine=network.fine)


# The paper's sizes (section 3.4), and the same stages small enough to be learnt on a CPU and played on one live.
SIZES: dict[str, dict[str, Any]] = {
    "paper": {"layers": 12, "width": 512, "heads": 8},
    "small": {"layers": 4, "width": 256, "heads": 4},
}
PAPER, SMALL = three_stages(**SIZES["paper"]), three_stages(**SIZES["small"])

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
