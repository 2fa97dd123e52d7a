"""What a stems network is: sizes, layout and readout. The defaults are the paper's (MODELS.md B1)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from msgspec import Meta

from backline.models.names import names_problem
from backline.nn.conformer import ConformerConfig
from backline.nn.llama import LlamaConfig
from backline.nn.tables import Bands, Codebooks, Entries, Epsilon, SampleRate, Samples, Width

TRACKS = ("vocals", "drums", "bass", "other")
Order = Literal["parallel", "delay", "flat"]


@dataclass(frozen=True)
class MelConfig:
    """What the encoder hears."""

    sample_rate: SampleRate = 48_000
    bands: Bands = 120
    window: Annotated[int, Meta(ge=2, le=16_384)] = 2048
    hop: Samples = 960  # samples: 50 Hz
    floor: Epsilon = 1e-10

    def __post_init__(self) -> None:
        if self.window < self.hop or (self.window - self.hop) % 2:
            raise ValueError(f"window is {self.window}: use {self.hop}, the hop, or more by an even number")


@dataclass(frozen=True)
class StemsConfig:
    """A network."""

    encoder: ConformerConfig = field(default_factory=lambda: ConformerConfig(8, 768, 12, dropout=0.1))
    decoder: LlamaConfig = field(default_factory=lambda: LlamaConfig(16, 2048, 16, 8192, dropout=0.1))
    mel: MelConfig = field(default_factory=MelConfig)
    # Who hears the mixture: the Conformer, or a HuBERT that learns nothing (ablation), whose states are so wide.
    listener: Literal["conformer", "hubert"] = "conformer"
    hubert_width: Width = 768
    stems: Annotated[tuple[str, ...], Meta(min_length=1, max_length=32)] = TRACKS  # in the order in which they are told
    window_frames: Annotated[int, Meta(ge=2, le=1024)] = 50  # codec frames that are heard and told at a time: 4 s
    codebooks: Codebooks = 16  # of either path
    codebook_size: Entries = 1024
    hops_per_frame: Annotated[int, Meta(ge=1, le=64)] = 4  # mel frames per codec frame
    order: Order = "parallel"  # in which a frame's codebooks are told
    tracks: Literal["sequential", "parallel"] = "sequential"  # one after the other, or all at once (ablation)
    # Where the encoder's frames go. The paper puts them in front. "aligned" adds to each position those of the time
    # that it tells of: no position has to find them, which a small model would spend its training on.
    condition: Literal["prefix", "aligned"] = "prefix"
    track_embedding: bool = False  # positions know which track they tell of; else they count
    # What the codec decodes: the codes told, or what the network expects of them. The mean of what is uncertain is
    # closer to the truth than a guess; the codes told still go on to the next position.
    readout: Literal["codes", "mean"] = "codes"
    # Of the estimates: the decoder's own, or the mixture's under the decoder's magnitudes. Phases do not fit into 160
    # codes of a frame; the mixture's are nearly those of whatever is loudest in it.
    phase: Literal["codec", "mixture"] = "codec"

    def __post_init__(self) -> None:
        if problem := names_problem(self.stems):
            raise ValueError(f"stem {problem}")

    @property
    def window_seconds(self) -> float:
        """That are heard and told at a time."""
        return self.window_frames * self.hops_per_frame * self.mel.hop / self.mel.sample_rate

    @property
    def lanes(self) -> int:
        """Tracks that one position tells of."""
        return len(self.stems) if self.tracks == "parallel" else 1

    @property
    def segments(self) -> int:
        """Runs of positions that follow each other."""
        return len(self.stems) // self.lanes
