"""The tokenizer: one encoder for both tracks, and for each a projection and a codebook of its own (section 3.3)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from backline.codecs.duotok.config import ROLES, DuoTokConfig, Role
from backline.codecs.duotok.encoder import Encoder
from backline.nn.simvq import SimVQ

SHARED = "both"  # the track of the ablation's single codebook


class Tokenizer(nn.Module):
    """Audio of a track [row, sample] -> tokens int64 [row, frame], `entries` different ones, and vectors of these."""

    def __init__(self, config: DuoTokConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        names = (SHARED,) if config.shared_codebook else ROLES
        self.tracks = nn.ModuleDict({name: Track(config, stream) for stream, name in enumerate(names)})

    def track(self, role: Role) -> Track:
        """Projection and codebook of a role."""
        if role not in ROLES:
            raise ValueError(f"role is {role!r}: use one of {', '.join(ROLES)}")
        return cast(Track, self.tracks[SHARED if self.config.shared_codebook else role])

    @torch.no_grad()
    def encode(self, audio: Tensor, role: Role) -> Tensor:
        """[row, sample], a whole number of tokens long -> int64 [row, frame]."""
        return self.tokens(self.encoder(audio), role)

    def tokens(self, hidden: Tensor, role: Role) -> Tensor:
        """Hidden states [row, frame, width] -> int64 [row, frame]."""
        track = self.track(role)
        return track.codebook.tokens(track.projection(hidden))

    def quantized(self, hidden: Tensor, role: Role) -> tuple[Tensor, Tensor, Tensor]:
        """For training, of hidden states [row, frame, width].

        Returns:
            Vectors [row, frame, code_dim], whose gradient goes straight through; tokens int64 [row, frame]; the loss of
            projection and codebook [].
        """
        track = self.track(role)
        quantized: tuple[Tensor, Tensor, Tensor] = track.codebook(track.projection(hidden))
        return quantized

    def vectors(self, tokens: Tensor, role: Role) -> Tensor:
        """int64 [row, frame] -> [row, frame, code_dim]: what a renderer is conditioned on and heads go on from."""
        return self.track(role).codebook.vectors(tokens)


class Track(nn.Module):
    """What a track has of its own."""

    def __init__(self, config: DuoTokConfig, stream: int) -> None:
        super().__init__()
        self.projection = nn.Linear(config.width, config.code_dim) if config.projection else nn.Identity()
        self.codebook = SimVQ(config.entries, config.code_dim, config.seed, stream)
