"""A Demucs as its authors' package makes it, and what of it a pack.toml says."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from msgspec import Meta

from backline.codecs.torchaudio_import import import_torchaudio
from backline.models.names import names_problem
from backline.nn.tables import SampleRate, read_fraction

STEP = 1024  # samples: the windows of all published models are whole ones of it
KINDS = ("HTDemucs", "HDemucs")

Text = Annotated[str, Meta(max_length=64, description="a name")]


@dataclass(frozen=True)
class DemucsConfig:
    """The [demucs] table of pack.toml, but for its `arguments`: those of the class in the package."""

    kind: Literal["HTDemucs", "HDemucs"]
    tracks: Annotated[tuple[Text, ...], Meta(min_length=2, max_length=16)]
    sample_rate: SampleRate = 44_100
    channels: Annotated[int, Meta(ge=1, le=64)] = 2
    window_frames: Annotated[int, Meta(ge=1, le=4096)] = 335  # of STEP samples

    def __post_init__(self) -> None:
        if problem := names_problem(self.tracks):
            raise ValueError(f"tracks: {problem}")


def make_network(kind: str, arguments: Mapping[str, Any]) -> Any:
    """The network without memory for its weights, on the device "meta".

    Args:
        kind: one of KINDS.
        arguments: of the class; what it does not know is left out, as Demucs does. Fractions may be texts ("39/5").

    Raises:
        ValueError: the package is not installed, or the arguments make no network.
    """
    made = package_class(kind)
    known = inspect.signature(made).parameters
    given = {name: value for name, value in arguments.items() if name in known}
    try:
        segment = given.get("segment")
        if isinstance(segment, str):
            given["segment"] = read_fraction(segment)
        with torch.device("meta"):
            return made(**given)
    except Exception as error:  # whatever numbers that nobody vouches for make of it
        raise ValueError(f"the arguments make no {kind} ({error}): import the checkpoint again") from error


def package_class(kind: str) -> Any:
    """Raises ValueError: the package is not installed."""
    try:
        import_torchaudio()
        from demucs.hdemucs import HDemucs
        from demucs.htdemucs import HTDemucs
    except ImportError as error:
        raise ValueError(f"it needs its authors' package ({error}): pip install demucs") from error
    return {"HTDemucs": HTDemucs, "HDemucs": HDemucs}[kind]
