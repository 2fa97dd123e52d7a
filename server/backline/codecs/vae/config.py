"""What every VAE offers, and the sizes of the two that there are: the [vae] table of a pack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Annotated, Any, Protocol

from msgspec import Meta
from torch import Tensor

from backline.codecs.hcodec.network import HCodecConfig
from backline.nn.tables import SampleRate, TableError, Width, read_table, shortened

Factor = Annotated[int, Meta(ge=1, le=64)]


class Vae(Protocol):
    """Sound to latents and back. All that a signal's ends lack is silence.

    A stream plays it in windows, of which only the middle counts: what lies within `reach` of a window's ends, or
    within `decode_reach` of a run of latents' ends, is other than in a longer one.
    """

    sample_rate: int
    hop: int  # samples of a latent frame
    channels: int  # of sound, that it hears and says apart
    latent_channels: int
    reach: tuple[int, int]  # samples before and after its own hop that a latent frame hears
    decode_reach: tuple[int, int]  # latent frames before and after its own that a hop of sound is made of

    def encode(self, audio: Tensor) -> Tensor:
        """[row, frame * hop], which all channels hear, or [row, channel, frame * hop] -> the posterior's mean
        [row, channel, frame], which is what serving takes.
        """
        ...

    def posterior(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Likewise, its mean and the logarithm of its variance, each [row, channel, frame]."""
        ...

    def sound(self, latents: Tensor) -> Tensor:
        """[row, channel, frame] -> float32 [row, channel, frame * hop]."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """The mean of that over its channels, [row, frame * hop]."""
        ...


@dataclass(frozen=True)
class OobleckConfig:
    """Sizes of Stable Audio's autoencoder; the default is MGE-LDM's (appendix E.3): 16 kHz, 7.8125 frames a second."""

    sample_rate: SampleRate = 16_000
    audio_channels: Annotated[int, Meta(ge=1, le=2)] = 1
    width: Width = 128  # channels at the full rate
    multiples: Annotated[tuple[Factor, ...], Meta(min_length=1, max_length=16)] = (1, 2, 4, 8, 16)  # of them, by level
    strides: Annotated[tuple[Factor, ...], Meta(min_length=1, max_length=16)] = (2, 4, 4, 8, 8)
    latent_channels: Width = 64
    final_tanh: bool = False

    def __post_init__(self) -> None:
        if len(self.multiples) != len(self.strides):
            counts = f"multiples are {len(self.multiples)} and strides {len(self.strides)}"
            raise ValueError(f"{counts}: give one of either for each level")

    @property
    def hop(self) -> int:
        """Samples of a latent frame."""
        return prod(self.strides)


@dataclass(frozen=True)
class SpectralConfig:
    """An HCodec whose vectors pass through a few continuous channels in place of its quantisers."""

    codec: HCodecConfig = field(default_factory=HCodecConfig)
    latent_channels: Width = 32

    def __post_init__(self) -> None:
        if self.codec.transformer_layers or self.codec.features != "mel":
            raise ValueError(
                'codec has transformer_layers, or features other than "mel": use one without, whose reach is finite'
            )

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.codec.sample_rate

    @property
    def hop(self) -> int:
        """Samples of a latent frame."""
        return self.codec.hop * self.codec.frames_per_code


Config = OobleckConfig | SpectralConfig
CONFIGS: Mapping[str, type[OobleckConfig | SpectralConfig]] = {"oobleck": OobleckConfig, "spectral": SpectralConfig}


def read_vae_table(table: Any) -> Config:
    """The sizes that a [vae] table gives. Raises TableError with everything that does not fit."""
    kind = table.get("kind") if isinstance(table, Mapping) else None
    if not isinstance(kind, str) or kind not in CONFIGS:
        raise TableError([f"[vae] kind is {shortened(kind)}: use one of {', '.join(CONFIGS)}"])
    return read_table(CONFIGS[kind], table, "vae", known_elsewhere=("kind",))


def by_channel(audio: Tensor, hop: int, channels: int) -> Tensor:
    """[row, sample], or what has its channels already, as [row, channel, sample].

    Raises:
        ValueError: it has others, or no whole number of latent frames.
    """
    whole = audio.dim() in (2, 3) and audio.shape[-1] and not audio.shape[-1] % hop
    if not whole or (audio.dim() == 3 and audio.shape[1] != channels):
        raise ValueError(
            f"audio is {list(audio.shape)}: give [row, sample], or [row, {channels}, sample], a multiple of {hop} "
            "samples; pad its end"
        )
    return audio if audio.dim() == 3 else audio[:, None].expand(-1, channels, -1)
