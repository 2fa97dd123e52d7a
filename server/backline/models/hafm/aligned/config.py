"""HAFM's stages in the aligned layout: every step takes in all that is known of its own moment and predicts one frame.

The paper's layout, and the chunk-interleaved one, put conditioning into the same sequence as predictions; a stage must
first learn which position far back belongs to the one at hand. Here the tokens of every source at the step's own time
are added to its input, and all codebooks of a frame are predicted in one step, the later ones some steps behind:

    step            s-1   s    s+1
    codebook 0      f-1   f    f+1
    codebook 1      f-2   f-1  f
    source (50 Hz)  the frame in which the step's time lies, `lag` earlier where the source is heard live

The lag is the chunk less the visibility, so that what a step needs has been heard when its chunk is played; the stage
is told it. One lag stands for every chunk and visibility with that difference. It may be negative, where a session can
wait: whoever has heard the first note of a bar knows its chord better.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any

from msgspec import Meta

from backline.models.hafm.grid import CHUNK_QUANTUM
from backline.models.hafm.listening.hints import CHORDS
from backline.models.hafm.score import CODEBOOKS, VOCABULARY, VOICE_PROTOTYPES
from backline.models.hafm.sources import VOCAL, Buckets, SourceConfig, Sources, check_stage
from backline.models.hafm.transport import BEAT_STEPS
from backline.nn.tables import (
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

LONGEST_LAG = Fraction(26, 5)  # seconds: a chunk of 3.2 s that plays 2 s ahead
LOOKAHEAD = Fraction(8, 5)  # seconds that a visibility may exceed the chunk by

VOICE = dataclasses.replace(VOCAL, vocabulary=VOICE_PROTOTYPES + 1, codebooks=2)  # pitch class, colour
BEAT = SourceConfig("beat", vocabulary=BEAT_STEPS + 1, rate=50, reach="chunk_end")
LAG = SourceConfig("lag", vocabulary=int((LOOKAHEAD + LONGEST_LAG) / CHUNK_QUANTUM) + 1, rate=25, reach="chunk_end")
# The chord that is to be played: the score's own in training, in serving what listening/leading.py makes of the voice.
CHORD = SourceConfig("chord", vocabulary=CHORDS, rate=50, reach="chunk_end")
BAND = SourceConfig("band", vocabulary=VOCABULARY, rate=50, reach="chunk_end", codebooks=len(CODEBOOKS))


Delays = Annotated[tuple[Annotated[int, Meta(ge=0, le=128)], ...], Meta(min_length=1, max_length=128)]


@dataclass(frozen=True)
class AlignedStageConfig:
    """One stage. A source's token `vocabulary` stands for unknown."""

    sources: Sources
    vocabulary: Entries  # of the predicted tokens, without BOS
    delays: Delays  # by codebook, in steps
    rate: FrameRate  # predicted frames per second
    layers: Layers
    width: Width
    heads: Heads
    window: Positions  # steps that a step sees, in training and in serving alike
    max_distance: Positions  # from which on the relative bias stays the same
    head_width: HeadWidth = 64
    feed_forward: Annotated[int, Meta(ge=0, le=65_536)] = 0  # 0: 8/3 of the width
    buckets: Buckets = 32
    norm_epsilon: Epsilon = 1e-6
    kv_heads: Annotated[int, Meta(ge=0, le=256)] = 0  # shared by the heads' queries; 0: each has its own
    code_width: Annotated[int, Meta(ge=0, le=16_384)] = 0  # of the predicted tokens' factorised tables; 0: they are not

    def __post_init__(self) -> None:
        if not self.delays or min(self.delays) != 0:
            raise ValueError(f"delays are {list(self.delays)}: give one per codebook, the least of them 0")
        check_stage(self.sources, self.buckets, self.max_distance)
        _ = self.transformer

    @property
    def codebooks(self) -> int:
        return len(self.delays)

    @property
    def transformer(self) -> TransformerConfig:
        return TransformerConfig(
            layers=self.layers,
            width=self.width,
            heads=self.heads,
            head_width=self.head_width,
            feed_forward=self.feed_forward or 8 * self.width // 3,
            buckets=self.buckets,
            max_distance=self.max_distance,
            window=self.window,
            norm_epsilon=self.norm_epsilon,
            kv_heads=self.kv_heads,
        )

    def to_dict(self) -> dict[str, Any]:
        """As a table of pack.toml."""
        sources = [dataclasses.asdict(source) for source in self.sources]
        return {**dataclasses.asdict(self), "sources": sources, "delays": list(self.delays)}


@dataclass(frozen=True)
class AlignedConfig:
    """The two stages: the voice's semantics to the band's, and those to codes."""

    semantic: AlignedStageConfig
    acoustic: AlignedStageConfig

    def stages(self) -> dict[str, AlignedStageConfig]:
        """By the names that prefix their tensors, in the order in which they run."""
        return {"semantic": self.semantic, "acoustic": self.acoustic}

    def to_dict(self) -> dict[str, Any]:
        return {"layout": "aligned", **{name: stage.to_dict() for name, stage in self.stages().items()}}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> AlignedConfig:
        """From the tables [network.semantic] and [network.acoustic].

        Raises:
            TableError: names every table and entry that is missing, unknown or impossible.
        """
        return read_table(cls, table, "network", known_elsewhere=("layout",))


# What the shipped pack is trained with.
DEFAULT = AlignedConfig(
    semantic=AlignedStageConfig(
        sources=(VOICE, BEAT, LAG, CHORD),
        vocabulary=VOCABULARY,
        delays=(0,) * len(CODEBOOKS),
        rate=50,
        layers=4,
        width=256,
        heads=4,
        window=384,
        max_distance=640,
    ),
    acoustic=AlignedStageConfig(
        sources=(BAND, BEAT),
        vocabulary=1024,
        delays=tuple(range(4)),
        rate=75,
        layers=6,
        width=320,
        heads=5,
        window=384,
        max_distance=512,
    ),
)

TINY = AlignedConfig(
    semantic=dataclasses.replace(
        DEFAULT.semantic, layers=2, width=32, heads=2, head_width=16, window=96, max_distance=96
    ),
    acoustic=dataclasses.replace(
        DEFAULT.acoustic, layers=2, width=32, heads=2, head_width=16, window=96, max_distance=96
    ),
)
