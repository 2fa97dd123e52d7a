"""What a Spleeter is: which tracks, which U-Nets, and how much it hears at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from backline.models.names import names_problem

SAMPLE_RATE = 44_100  # Hz
SIZE, STEP = 4096, 1024  # samples of the transform, a Hann window every STEP
BINS = 1024  # that the U-Nets hear, up to 11 kHz
CHANNELS = 2

Text = Annotated[str, Meta(max_length=64, description="a name")]


@dataclass(frozen=True)
class SpleeterConfig:
    """The [spleeter] table of pack.toml."""

    tracks: Annotated[tuple[Text, ...], Meta(min_length=2, max_length=16)] = ("vocals", "accompaniment")
    filters: Annotated[tuple[Annotated[int, Meta(ge=1, le=4096)], ...], Meta(min_length=1, max_length=8)] = (
        16, 32, 64, 128, 256, 512,
    )  # fmt: skip
    activation: Literal["relu", "elu"] = "relu"  # "relu" is leaky on the way down
    # Each track's share of the magnitudes by itself, or of all tracks' together.
    masks: Literal["sigmoid", "softmax"] = "sigmoid"
    # What becomes of the mixture above the bins: every track gets its mean share, and they sum to the mixture; or none.
    extension: Literal["average", "zeros"] = "average"
    window_frames: Annotated[int, Meta(ge=1, le=4096)] = 512  # of the transform; 512 is what it was trained on

    def __post_init__(self) -> None:
        if problem := names_problem(self.tracks):
            raise ValueError(f"tracks: {problem}")
        step = 2 ** len(self.filters)
        if self.window_frames % step:
            raise ValueError(f"window_frames is {self.window_frames}: use a multiple of {step}")
