"""The diffusion transformer of MGE-LDM: several tracks' latents at once, each track with its own times and condition.

network = DiT(DiTConfig(channels=64, condition=512))            # as published
v = network(noisy, times, condition)                            # [row, track, channel, frame]

Block: norm by groups, scaled and shifted by the condition, attention with rotary positions; the same around a SwiGLU;
what either adds is gated by sigmoid(1 - gate). Shapes are those of the authors' code (MODELS.md D1), whose 1x1
convolutions by track are `GroupedLinear` here.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt
from typing import Annotated, Literal

import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.nn import functional as F

from backline.nn.rotary import rotation, turned
from backline.nn.tables import Epsilon, Expansion, Heads, Layers, Width

Condition = Annotated[int, Meta(ge=0, le=16_384)]  # dimensions of what may be left out


@dataclass(frozen=True)
class DiTConfig:
    """Sizes of a network; those that have a default are MGE-LDM's."""

    channels: Width  # of a track's latents
    condition: Condition = 512  # dimensions of a track's condition; 0: there is none
    tracks: Annotated[int, Meta(ge=1, le=16)] = 3
    width: Width = 512  # of a track
    layers: Layers = 24
    heads: Heads = 48
    expansion: Expansion = 4  # of the feed-forward parts
    time_features: Annotated[int, Meta(ge=2, le=4096)] = 256
    context: Condition = 0  # channels that are given with every frame and are not noisy, beside the latents
    # Over what a norm's statistics are taken, a track at a time: "group" over all frames of the window, so that the
    # window's length is part of what was learnt; "frame" over each frame.
    norm: Literal["group", "frame"] = "group"
    # Where times go: "token" puts one in front of the frames, for which a track has one time; "frame" adds each frame's
    # own to the condition, so that what has been said already can stand clean beside what is still noise.
    time: Literal["token", "frame"] = "token"
    # What makes scales, shifts and gates of times and condition: each block by weights of its own, or one for all of
    # them, to which a block adds what it has learnt (adaLN-single of PixArt-alpha): a quarter fewer weights.
    modulation: Literal["own", "shared"] = "own"
    norm_epsilon: Epsilon = 1e-5

    def __post_init__(self) -> None:
        if self.tracks * self.width % (2 * self.heads):  # rotary positions turn pairs of dimensions
            raise ValueError(
                f"{self.tracks} tracks of width {self.width} make {self.tracks * self.width}: use a multiple of "
                f"{2 * self.heads}, twice the heads"
            )
        if self.time_features % 2:
            raise ValueError(f"time_features is {self.time_features}: use an even number")
        if self.time == "token" and not self.condition:
            raise ValueError('time "token" leaves the norms to a condition: give it dimensions, or use time "frame"')


class DiT(nn.Module):
    """Noisy latents of all tracks -> their velocities (nn/diffusion.py)."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        tracks, width = config.tracks, config.width
        taken, given = tracks * config.channels + config.context, tracks * config.channels
        self.time_features = nn.Parameter(torch.randn(config.time_features // 2, 1))
        self.time_in = GroupedLinear(tracks, config.time_features, width, bias=True)
        self.time_out = GroupedLinear(tracks, width, width, bias=True)
        if config.condition:
            self.condition_in = GroupedLinear(tracks, config.condition, config.condition)
            self.condition_out = GroupedLinear(tracks, config.condition, width)
        self.before = nn.Linear(taken, taken, bias=False)
        self.embed = nn.Linear(taken, tracks * width, bias=False)
        if config.modulation == "shared":
            self.modulation = GroupedLinear(tracks, width, 6 * width)
            nn.init.zeros_(self.modulation.weight)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.out = nn.Linear(tracks * width, given, bias=False)
        self.after = nn.Linear(given, given, bias=False)
        for residual in (self.before, self.after):
            nn.init.zeros_(residual.weight)

    def forward(
        self,
        noisy: Tensor,
        times: Tensor,
        condition: Tensor | None = None,
        context: Tensor | None = None,
        present: Tensor | None = None,
    ) -> Tensor:
        """Velocities [row, track, channel, frame].

        Args:
            noisy: [row, track, channel, frame].
            times: [row, track, frame], 0 clean to 1 noise; with one frame they are every frame's.
            condition: [row, track, dimension]; zeros are none.
            context: [row, channel, frame], where the configuration has some.
            present: bool [row, frame], frames that there are; others are not looked at, and what comes out of them
                means nothing.

        Raises:
            ValueError: times of a frame's own with time "token", or frames that are missing with norm "group".
        """
        config = self.config
        if config.time == "token" and times.shape[-1] != 1:
            raise ValueError('this network was made with time "token": give each track one time, [row, track, 1]')
        if config.norm == "group" and present is not None:
            raise ValueError('this network was made with norm "group" and sees whole windows: leave `present` out')
        x = noisy.flatten(1, 2) if context is None else torch.cat([noisy.flatten(1, 2), context], dim=1)
        x = x.transpose(1, 2)
        x = self.embed(x + self.before(x))  # [row, frame, width of all tracks]
        time = self.embedded(times)  # [row, 1 or frame, track, width]
        conditioned = torch.zeros_like(time[:, :1])
        if config.condition:
            assert condition is not None
            conditioned = self.condition_out(F.silu(self.condition_in(condition)))[:, None]
        if config.time == "token":
            x = torch.cat([time.flatten(2).to(x.dtype), x], dim=1)
        else:
            conditioned = conditioned + time
        turn = rotation(torch.arange(x.shape[1], device=x.device), config.tracks * config.width // config.heads)
        seen = None if present is None else present[:, None, None, :]
        modulating = F.silu(conditioned)
        if config.modulation == "shared":
            modulating = self.modulation(modulating)
        for block in self.blocks:
            x = block(x, modulating, turn, seen)
        y = self.out(x[:, x.shape[1] - noisy.shape[-1] :])
        y = y + self.after(y)
        return y.transpose(1, 2).unflatten(1, (config.tracks, config.channels))

    def embedded(self, times: Tensor) -> Tensor:
        """Times [row, track, frame] as vectors [row, frame, track, width]."""
        angles = 2 * pi * times.transpose(1, 2)[..., None] * self.time_features[:, 0]
        features = torch.cat([angles.cos(), angles.sin()], dim=-1)
        embedded: Tensor = self.time_out(F.silu(self.time_in(features)))
        return embedded


class LatentDiT(nn.Module):
    """A DiT, and the mean and scale of the latents that it tells.

    Noise has variance 1, so latents have to. One deviation for all channels: a channel in which little happens then
    counts for little, as it does for the VAE's decoder.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.dit = DiT(config)
        self.register_buffer("mean", torch.zeros(config.channels))
        self.register_buffer("deviation", torch.ones(()))

    def normed(self, latents: Tensor) -> Tensor:
        """The VAE's latents [.., channel, frame] as the network knows them."""
        return (latents - self.mean[:, None]) / self.deviation

    def unnormed(self, latents: Tensor) -> Tensor:
        """And back."""
        return latents * self.deviation + self.mean[:, None]


class Block(nn.Module):
    """One block on [row, frame, width of all tracks]."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.heads, width = config.heads, config.tracks * config.width
        self.norm1, self.norm2 = TrackNorm(config), TrackNorm(config)
        if config.modulation == "own":
            self.modulation = GroupedLinear(config.tracks, config.width, 6 * config.width)
            nn.init.zeros_(self.modulation.weight)
        else:
            self.offset = nn.Parameter(torch.zeros(config.tracks, 6 * config.width))
        self.shared = config.modulation == "shared"
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up_gate = nn.Linear(width, 2 * config.expansion * width)
        self.down = nn.Linear(config.expansion * width, width)
        for zero in (self.out.weight, self.down.weight, self.down.bias):
            nn.init.zeros_(zero)

    def forward(self, x: Tensor, modulating: Tensor, turn: tuple[Tensor, Tensor], seen: Tensor | None) -> Tensor:
        """`modulating` is [row, 1 or frame, track, width], six times as wide where blocks share what makes it; `seen`
        is what can be looked at [row, 1, 1, frame].
        """
        six = modulating + self.offset if self.shared else self.modulation(modulating)
        parts = (part.flatten(2) for part in six.chunk(6, dim=-1))
        scale1, shift1, gate1, scale2, shift2, gate2 = parts
        y = self.attention(self.norm1(x) * (1 + scale1) + shift1, turn, seen)
        x = x + y * torch.sigmoid(1 - gate1)
        up, gate = self.up_gate(self.norm2(x) * (1 + scale2) + shift2).chunk(2, dim=-1)
        return x + self.down(up * F.silu(gate)) * torch.sigmoid(1 - gate2)

    def attention(self, x: Tensor, turn: tuple[Tensor, Tensor], seen: Tensor | None) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(turned(q, turn), turned(k, turn), v, attn_mask=seen)
        out: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return out


class TrackNorm(nn.Module):
    """Each track [row, frame, track * width] to mean 0 and variance 1, over all frames or over each."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.tracks, self.over, self.epsilon = config.tracks, config.norm, config.norm_epsilon
        self.scale = nn.Parameter(torch.ones(config.tracks * config.width))

    def forward(self, x: Tensor) -> Tensor:
        if self.over == "group":
            return F.group_norm(x.transpose(1, 2), self.tracks, self.scale, eps=self.epsilon).transpose(1, 2)
        by_track = x.unflatten(-1, (self.tracks, -1))
        return F.layer_norm(by_track, by_track.shape[-1:], eps=self.epsilon).flatten(-2) * self.scale


class GroupedLinear(nn.Module):
    """[.., track, in] -> [.., track, out], each track by weights of its own; held as those of a grouped convolution."""

    def __init__(self, tracks: int, taken: int, given: int, bias: bool = False) -> None:
        super().__init__()
        self.tracks = tracks
        edge = 1 / sqrt(taken)
        self.weight = nn.Parameter(torch.empty(tracks * given, taken, 1).uniform_(-edge, edge))
        self.bias = nn.Parameter(torch.empty(tracks * given).uniform_(-edge, edge)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        weights = self.weight[..., 0].unflatten(0, (self.tracks, -1))
        y = torch.einsum("...ti,toi->...to", x, weights)
        return y if self.bias is None else y + self.bias.unflatten(0, (self.tracks, -1))


def to_bfloat16(network: DiT) -> None:
    """Keeps the weights of matrix products in bfloat16, for autocast: they need not be converted each time."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear | GroupedLinear):
            layer.to(torch.bfloat16)
