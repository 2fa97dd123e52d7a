"""Sizes of DuoTok's language model: the paper's (section 5 and Eq. 24), with its blanks filled, and those that ship.

Both tracks share one network. A step takes in a token of each, x = W [E_v(v); E_a(a)], and has a head for each.

"paper": one track to the other, [V | A]: all tokens of the voice, then the accompaniment one after the other. Both
tracks at once: a step predicts the next frame from all before.

"aligned" plays live: the voice's token goes in at the step of its own time, `lag` later where it is heard so late, or
earlier where a session can wait; beside it stands the accompaniment's token of the step before. The lag is the chunk
less the visibility, as in models/hafm/aligned, and the network is told it; "unknown" is the song that nobody leads,
where both tokens are those of the step before.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

from msgspec import Meta

from backline.models.hafm.aligned.config import LAG, AlignedStageConfig
from backline.models.hafm.sources import Buckets, SourceConfig
from backline.models.hafm.transport import BEAT_STEPS
from backline.nn.tables import Entries, Epsilon, Heads, HeadWidth, Layers, Positions, Width

RATE = 25  # frames a second
VOCALS, ACCOMPANIMENT = range(2)  # of the predicted codebooks
TRACKS = ("vocals", "accompaniment")
PREFIX_SECONDS, SONG_SECONDS = 2, 30  # of the paper's protocol: what is given of a song, and how long it is

BEAT = SourceConfig("beat", vocabulary=BEAT_STEPS + 1, rate=RATE, reach="chunk_end")
SIDE = SourceConfig("side", vocabulary=2, rate=RATE, reach="chunk_end")  # of [V | A]; unknown: both tracks at once


@dataclass(frozen=True)
class LmConfig:
    """The [lm] table of pack.toml."""

    layers: Layers
    width: Width
    heads: Heads
    window: Positions  # steps that a step sees
    max_distance: Positions
    code_width: Width  # of the tokens' vectors, which stand for themselves at both ends
    entries: Entries = 32_768
    layout: Literal["aligned", "paper"] = "aligned"
    beats: bool = True  # whether the host's transport is heard; the paper's network knows none
    head_width: HeadWidth = 64
    kv_heads: Annotated[int, Meta(ge=0, le=256)] = 0
    feed_forward: Annotated[int, Meta(ge=0, le=65_536)] = 0
    buckets: Buckets = 32
    norm_epsilon: Epsilon = 1e-6

    def __post_init__(self) -> None:
        if self.layout == "paper" and self.beats:
            raise ValueError('beats go with layout = "aligned": with "paper" use beats = false')
        _ = self.stage

    @cached_property
    def stage(self) -> AlignedStageConfig:
        """The network that predicts both tracks at every step."""
        sources = (SIDE,) if self.layout == "paper" else (LAG, BEAT) if self.beats else (LAG,)
        return AlignedStageConfig(
            sources=sources,
            vocabulary=self.entries,
            delays=(0,) * len(TRACKS),
            rate=RATE,
            layers=self.layers,
            width=self.width,
            heads=self.heads,
            window=self.window,
            max_distance=self.max_distance,
            head_width=self.head_width,
            feed_forward=self.feed_forward,
            buckets=self.buckets,
            norm_epsilon=self.norm_epsilon,
            kv_heads=self.kv_heads,
            code_width=self.code_width,
        )

    def to_table(self) -> dict[str, Any]:
        return asdict(self)


# Qwen2's 1.5 B geometry, the nearest to the "Qwen2-1B" that the paper names: 28 layers of 1536, 12 heads that share two
# of keys. Positions are T5's relative ones and not rotary, queries and keys are normed and linear maps have no bias, as
# in all of this house; so sizes are the paper's, and weights of Qwen2 would not fit.
PAPER = LmConfig(
    layers=28,
    width=1536,
    heads=12,
    window=2 * SONG_SECONDS * RATE,
    max_distance=2 * SONG_SECONDS * RATE,
    code_width=1536,
    layout="paper",
    beats=False,
    head_width=128,
    kv_heads=2,
    feed_forward=8960,
)
SMALL = LmConfig(
    layers=6, width=256, heads=4, window=SONG_SECONDS * RATE, max_distance=SONG_SECONDS * RATE, code_width=64
)
TINY = LmConfig(layers=2, width=32, heads=2, window=48, max_distance=64, code_width=12, entries=40, head_width=16)
