"""Tokens of one track back to sound: a diffusion transformer tells a VAE's latents beside the tokens' vectors.

DuoTok's fourth stage (DUOTOK.md 3): each track has a network of its own, and both play in the latents of one VAE.

    renderer = Renderer(network, vae, partial(tokenizer.vectors, role="vocals"))
    sound = renderer.render(tokens, steps=50)               # a whole track: [channel, sample]

Live, windowed.py renders hop by hop. A latent frame is given the vectors of the tokens that fall into it, side by side;
where tokens are longer than latent frames, as with Ear-VAE's 50 frames a second, they are repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from math import ceil
from typing import Annotated, Any, Literal

import numpy as np
import torch
from msgspec import Meta
from numpy.typing import NDArray
from torch import Tensor

from backline.codecs.duotok.config import ROLES, Role
from backline.codecs.vae.config import Config as VaeConfig
from backline.codecs.vae.config import Vae
from backline.codecs.vae.whole import decoded_channels
from backline.nn.diffusion import noise_at, sample, windows
from backline.nn.dit import DiTConfig, LatentDiT, to_bfloat16
from backline.nn.precision import faster_in_bfloat16
from backline.nn.tables import read_table
from backline.nn.weights import mismatches, part

TOKEN_RATE = 25  # Hz
PREFIX = "renderer."
STEPS, LIVE_STEPS = 50, 4  # of denoising: the paper's, and what a core has time for
OVERLAP = 0.25  # share of a window that the one before has told already

Tokens = NDArray[np.int64]  # [token]
Sound = NDArray[np.float32]  # [channel, sample]
Vectors = Callable[[Tensor], Tensor]  # int64 [row, token] -> [row, token, code_dim]
Precision = Literal["auto", "float32", "bfloat16"]

# Of the paper's 400 million parameters no size is named: 24 layers of 1024 are Stable Audio's transformer without what
# hears texts.
PAPER_NETWORK = DiTConfig(
    channels=64, condition=0, tracks=1, width=1024, layers=24, heads=16, context=1024, norm="frame", time="frame",
    modulation="shared",
)  # fmt: skip


@dataclass(frozen=True)
class RendererConfig:
    """Sizes of a track's network, and how its latent frames lie beside tokens; the defaults are the paper's."""

    network: DiTConfig = PAPER_NETWORK
    window_frames: Annotated[int, Meta(ge=2, le=8192)] = 1500  # latent frames that are told at a time: 30 s
    tokens: Annotated[int, Meta(ge=1, le=64)] = 1  # of a latent frame, whose vectors stand side by side
    frames: Annotated[int, Meta(ge=1, le=64)] = 2  # latent frames of a token, which all have its vector

    def __post_init__(self) -> None:
        network = self.network
        if network.tracks != 1 or network.condition:
            raise ValueError("network tells one track and is told nothing but tokens: give it 1 track and no condition")
        if network.norm != "frame" or network.time != "frame":
            raise ValueError('network goes on from what it has said: give it norm "frame" and time "frame"')
        if self.tokens > 1 and self.frames > 1:
            raise ValueError(f"tokens and frames are {self.tokens} and {self.frames}: one of them must be 1")
        if not network.context or network.context % self.tokens:
            raise ValueError(f"network has a context of {network.context}: use a multiple of {self.tokens}, the tokens")
        if self.window_frames % self.frames:
            raise ValueError(
                f"window_frames is {self.window_frames}: use a multiple of {self.frames}, a token's frames"
            )

    @property
    def code_dim(self) -> int:
        """Of a token's vector."""
        return self.network.context // self.tokens

    def tokens_of(self, frames: int) -> int:
        """So many tokens cover so many latent frames."""
        return frames * self.tokens // self.frames if self.tokens > 1 else -(-frames // self.frames)

    def fitted(self, vae: Vae | VaeConfig, code_dim: int) -> RendererConfig:
        """With as long a window, for other latents and vectors.

        Raises:
            ValueError: neither fits a whole number of the other.
        """
        ratio = Fraction(TOKEN_RATE * vae.hop, vae.sample_rate)
        if 1 not in (ratio.numerator, ratio.denominator):
            raise ValueError(
                f"the VAE has {float(Fraction(vae.sample_rate, vae.hop)):g} latent frames a second and DuoTok "
                f"{TOKEN_RATE} tokens: use a VAE whose rate is a multiple of that, or a part of it"
            )
        tokens, frames = ratio.numerator, ratio.denominator
        network = replace(self.network, channels=vae.latent_channels, context=tokens * code_dim)
        seen = self.window_frames * self.tokens * frames // (self.frames * tokens)
        return RendererConfig(network, max(2, seen // frames) * frames, tokens, frames)


PAPER = RendererConfig()  # 413 million parameters
SMALL = RendererConfig(  # 5.7 million: two tokens' vectors of 64 beside 12.5 latent frames a second; 5.12 s
    DiTConfig(
        channels=32, condition=0, tracks=1, width=256, layers=6, heads=4, expansion=3, context=128, norm="frame",
        time="frame", modulation="shared",
    ),
    window_frames=64, tokens=2, frames=1,
)  # fmt: skip
TINY = RendererConfig(
    DiTConfig(
        channels=4, condition=0, tracks=1, width=8, layers=1, heads=2, expansion=2, time_features=8, context=12,
        norm="frame", time="frame", modulation="shared",
    ),
    window_frames=16, tokens=2, frames=1,
)  # fmt: skip


class RendererNetwork(LatentDiT):
    """Noisy latents [row, 1, channel, frame] at times [row, 1, frame], beside what tokens say -> velocities."""

    code_mean: Tensor
    code_deviation: Tensor

    def __init__(self, config: RendererConfig) -> None:
        super().__init__(config.network)
        self.config = config
        # Tokens' vectors are normed as latents are: no loss has said how long they are to be.
        self.register_buffer("code_mean", torch.zeros(config.code_dim))
        self.register_buffer("code_deviation", torch.ones(()))

    def forward(self, noisy: Tensor, times: Tensor, context: Tensor, present: Tensor | None = None) -> Tensor:
        velocity: Tensor = self.dit(noisy, times, None, context, present)
        return velocity

    def context(self, vectors: Tensor) -> Tensor:
        """Vectors [row, token, code_dim] beside latent frames: [row, channel, frame]."""
        known = (vectors - self.code_mean) / self.code_deviation
        if self.config.tokens > 1:
            beside = known.unflatten(1, (-1, self.config.tokens)).flatten(2)
        else:
            beside = known.repeat_interleave(self.config.frames, dim=1)
        return beside.transpose(1, 2)


class Renderer:
    """A track's network with its VAE and what says tokens' vectors; all of them at rest between calls."""

    def __init__(
        self, network: RendererNetwork, vae: Vae, vectors: Vectors, device: str = "cpu", precision: Precision = "auto"
    ) -> None:
        """
        Args:
            vae: of this device; both tracks may have the same.
            vectors: of int64 [row, token], of this device, too.
            precision: of the network's products; "auto" is bfloat16 where this machine is faster in it.

        Raises:
            ValueError: the network was made for another VAE.
        """
        place = torch.device(device)
        config = network.config
        if config != config.fitted(vae, config.code_dim):
            raise ValueError(
                f"the network tells {config.network.channels} channels and has {config.tokens} tokens for "
                f"{config.frames} of its latent frames, the VAE has {vae.latent_channels} channels and "
                f"{vae.sample_rate / vae.hop:g} frames a second: use the VAE that the network was trained with"
            )
        self.network, self.device = network.eval().requires_grad_(False).to(place), device
        self.vae, self.vectors = vae, vectors
        self.bfloat16 = faster_in_bfloat16(place) if precision == "auto" else precision == "bfloat16"
        if self.bfloat16:
            to_bfloat16(self.network.dit)

    def render(
        self,
        tokens: Tokens,
        steps: int = STEPS,
        seed: int = 0,
        overlap: float = OVERLAP,
        progress: Callable[[float], None] = lambda share: None,
    ) -> Sound:
        """A whole track [channel, sample], window by window: each goes on from what the one before has ended with.

        Args:
            progress: is told the share of the windows that are done.

        Raises:
            ValueError: there are no tokens, or one that its table has not.
        """
        latents = self.latents(tokens, steps, seed, overlap, progress)
        config, vae = self.network.config, self.vae
        return decoded_channels(vae, latents)[:, : len(tokens) * config.frames * vae.hop // config.tokens]

    @torch.inference_mode()
    def latents(
        self, tokens: Tokens, steps: int, seed: int, overlap: float, progress: Callable[[float], None]
    ) -> Tensor:
        """The VAE's latents [channel, frame] of a whole track; the last token is held to a latent frame's end."""
        if tokens.ndim != 1 or not len(tokens):
            raise ValueError(f"tokens are {list(tokens.shape)}: give [token], at least one")
        config = self.network.config
        padded = np.pad(tokens, (0, -len(tokens) % config.tokens), mode="edge")
        context = self.context(padded[None])
        frames = context.shape[-1]
        clean = torch.zeros(1, config.network.channels, frames, device=self.device)
        hop = max(1, config.window_frames - round(overlap * config.window_frames))
        parts = max(1, ceil((frames - config.window_frames) / hop) + 1)
        for number, (start, stop, begun) in enumerate(windows(frames, config.window_frames, overlap)):
            known = torch.arange(start, stop, device=self.device) < begun
            noise = noise_at(seed, 0, (1, config.network.channels), start, stop)[None]
            clean[..., start:stop] = self.told(
                noise, context[..., start:stop], known[None, None], clean[None, ..., start:stop], steps
            )[0]
            progress((number + 1) / parts)
        return self.network.unnormed(clean[0])

    def context(self, tokens: NDArray[np.int64]) -> Tensor:
        """Tokens [row, token] beside latent frames: [row, channel, frame]."""
        vectors = self.vectors(torch.from_numpy(np.ascontiguousarray(tokens, np.int64)).to(self.device))
        return self.network.context(vectors.to(self.device, torch.float32))

    def told(
        self, noise: Tensor, context: Tensor, known: Tensor, clean: Tensor, steps: int, present: Tensor | None = None
    ) -> Tensor:
        """Latents [row, 1, channel, frame] as the network knows them: what is `known` [row, 1, frame] as in `clean`.

        Args:
            context: [row, channel, frame].
            present: bool [row, frame]; None: all frames are there.
        """

        def denoise(z: Tensor, times: Tensor) -> Tensor:
            if not self.bfloat16:
                velocity: Tensor = self.network(z, times, context, present)
                return velocity
            with torch.autocast(torch.device(self.device).type, torch.bfloat16):
                return self.network(z, times, context, present).float()

        return sample(denoise, noise.to(self.device), steps, known, clean)


def packed(
    networks: Mapping[Role, RendererNetwork], dtype: torch.dtype = torch.float16
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a pack carries of its renderers: the [renderer] table, and tensors named `renderer.ROLE.…`.

    Raises:
        ValueError: they differ in their sizes, or there are none.
    """
    sizes = {network.config for network in networks.values()}
    if len(sizes) != 1:
        raise ValueError(f"there are renderers of {len(sizes)} sizes: give both tracks the same")
    tensors = {
        f"{PREFIX}{role}.{name}": value.detach().to("cpu", dtype).contiguous()
        for role, network in networks.items()
        for name, value in network.state_dict().items()
    }
    return asdict(sizes.pop()), tensors


def read_renderers(table: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[Role, RendererNetwork]:
    """The network of each track that a pack has one of, by role, in float32 and evaluation mode.

    Raises:
        ValueError: names everything in the table that is impossible, or every tensor that is missing, unknown, of
            another shape or type, or not finite, in all tracks.
    """
    config = read_table(RendererConfig, table, "renderer")
    given = part(tensors, PREFIX)
    there = [role for role in ROLES if any(name.startswith(f"{role}.") for name in given)]
    known = tuple(f"{role}." for role in ROLES)
    wrong = [f"{PREFIX}{name} is of no track: use {' or '.join(ROLES)}" for name in given if not name.startswith(known)]
    if not there:
        wrong.append(f"there is no tensor {PREFIX}{ROLES[0]}.… or {PREFIX}{ROLES[1]}.…: give the renderer of a track")
    networks: dict[Role, RendererNetwork] = {}
    for role in there:
        with torch.device("meta"):
            network = RendererNetwork(config)
        own = part(given, f"{role}.")
        found = mismatches(network.state_dict(), own, f"{PREFIX}{role}.")
        deviations = ("deviation", "code_deviation")
        if not found:
            found = [f"{PREFIX}{role}.{name} must be more than 0" for name in deviations if not float(own[name]) > 0]
        wrong += found
        if not found:
            network.load_state_dict({name: tensor.detach().float() for name, tensor in own.items()}, assign=True)
            networks[role] = network.eval().requires_grad_(False)
    if wrong:
        raise ValueError("; ".join(wrong))
    return networks
