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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any

import numpy as np
import torch
from msgspec import Meta
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from backline.models.hafm.config import VOCAL, Buckets, SourceConfig, Sources, check_stage
from backline.models.hafm.hints import CHORDS
from backline.models.hafm.layout import CHUNK_QUANTUM
from backline.models.hafm.score import CODEBOOKS, VOCABULARY, VOICE_PROTOTYPES
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
from backline.nn.transformer import Transformer, TransformerConfig

LONGEST_LAG = Fraction(26, 5)  # seconds: a chunk of 3.2 s that plays 2 s ahead
LOOKAHEAD = Fraction(8, 5)  # seconds that a visibility may exceed the chunk by
EMBEDDING_STD = 0.02
IGNORED = -100  # as a target: not judged

VOICE = dataclasses.replace(VOCAL, vocabulary=VOICE_PROTOTYPES + 1, codebooks=2)  # pitch class, colour
BEAT = SourceConfig("beat", vocabulary=BEAT_STEPS + 1, rate=50, reach="chunk_end")
LAG = SourceConfig("lag", vocabulary=int((LOOKAHEAD + LONGEST_LAG) / CHUNK_QUANTUM) + 1, rate=25, reach="chunk_end")
# The chord that is to be played: the score's own in training, in serving the one that leading.py makes of the voice.
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

    def __post_init__(self) -> None:
        if not self.delays or min(self.delays) != 0:
            raise ValueError(f"delays are {list(self.delays)}: give one per codebook, the least of them 0")
        check_stage(self.sources, self.buckets, self.max_distance)

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


class AlignedNetwork(nn.Module):
    """A stage as a torch module: what training trains and the reference for the fused CPU step."""

    def __init__(self, config: AlignedStageConfig) -> None:
        super().__init__()
        self.config = config
        width, codebooks = config.width, config.codebooks
        self.conditions = nn.ParameterDict(
            {s.name: _embedding(s.codebooks, s.vocabulary + 1, width) for s in config.sources}
        )
        self.tokens = _embedding(codebooks, config.vocabulary + 1, width)  # last entry: BOS
        self.transformer = Transformer(config.transformer)
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
        return _embedded(self.tokens, tokens)

    def inputs(self, targets: Tensor) -> Tensor:
        """[row, codebook, step] what goes in when `targets` [row, codebook, frame] are predicted."""
        late = [
            F.pad(targets[:, k], (1 + d, 0), value=self.config.vocabulary) for k, d in enumerate(self.config.delays)
        ]
        return torch.stack([tokens[:, : targets.shape[2]] for tokens in late], dim=1)

    def logits(self, hidden: Tensor) -> Tensor:
        """[row, step, codebook, vocabulary] of hidden states [row, step, width]."""
        flat = hidden @ self.heads.flatten(0, 1).T
        return flat.unflatten(-1, self.heads.shape[:2])


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
