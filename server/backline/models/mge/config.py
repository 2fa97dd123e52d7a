"""What an MGE-LDM network is: the [mge] table of a pack. The defaults are the paper's (appendix E.3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta

from backline.models.mge.tasks import TRACKS
from backline.nn.dit import DiTConfig


@dataclass(frozen=True)
class MgeConfig:
    """A network; latents and conditions are of the pack's VAE and towers."""

    network: DiTConfig = field(default_factory=lambda: DiTConfig(channels=64))
    window_frames: Annotated[int, Meta(ge=2, le=4096)] = 80  # latent frames that are heard and told at a time: 10.24 s

    def __post_init__(self) -> None:
        if self.network.tracks != len(TRACKS):
            raise ValueError(f"network has {self.network.tracks} tracks: use {len(TRACKS)}, {', '.join(TRACKS)}")
        if self.network.context or not self.network.condition:
            raise ValueError("network hears prompts: give it a condition, and no context")


PAPER = MgeConfig()  # 1,023 million parameters
# What two cores train (MGE.md 8): 5.12 s at 12.5 frames a second. Each frame is normed by itself and has its own times,
# so that windows can be of any length and the past can be given.
SMALL = MgeConfig(
    DiTConfig(channels=32, condition=128, width=96, layers=6, heads=6, norm="frame", time="frame"), window_frames=64
)
TINY = MgeConfig(
    DiTConfig(channels=4, condition=8, width=8, layers=1, heads=2, time_features=8, norm="frame", time="frame"),
    window_frames=8,
)
