"""What a stage can be conditioned on: tokens of the voice, of the transport, of what other stages have predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from backline.nn.tables import Codebooks, Entries, FrameRate

Reach = Literal["visibility", "chunk_end"]

BAR_STEPS = 48  # steps into which the transport source divides a bar
NOT_PLAYING = BAR_STEPS  # its token for a host that stands still, or for no host at all


@dataclass(frozen=True)
class SourceConfig:
    """One source of conditioning: tokens at a fixed rate, of one or several codebooks that are summed per frame."""

    name: Annotated[str, Meta(pattern=r"^[a-z_]{1,32}\Z", description="up to 32 small letters")]
    vocabulary: Entries  # without the mask token
    rate: FrameRate  # frames per second
    reach: Reach  # how far A_c sees: to the chunk's start plus the visibility, or to the chunk's end
    codebooks: Codebooks = 1


VOCAL = SourceConfig("vocal", vocabulary=500, rate=50, reach="visibility")
TRANSPORT = SourceConfig("transport", vocabulary=BAR_STEPS + 1, rate=25, reach="chunk_end")

Sources = Annotated[tuple[SourceConfig, ...], Meta(min_length=1, max_length=16)]
Buckets = Annotated[int, Meta(ge=2, le=1024)]


def check_stage(sources: Sequence[SourceConfig], buckets: int, max_distance: int) -> None:
    """Raises ValueError where a stage of either layout could not tell its sources or its distances apart."""
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        raise ValueError(f"sources are {', '.join(names)}: name each once")
    if max_distance <= buckets // 2:
        raise ValueError(f"max_distance is {max_distance}: use more than {buckets // 2}, half of the buckets")
