"""A codec that hears and says whole signals, as a stream: windows of it, of which the middle counts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from backline.codecs.hcodec.network import PATHS, HCodec

WINDOW = 50  # codes, 4 s: what the separators that write such codes are trained on
GUARD = 6  # codes at a window's end that are not used, because what follows is missing there
LONGEST = WINDOW - 2 * GUARD  # codes that are taken from one window
FADE = 480  # samples over which one window's sound passes into the next one's


@dataclass
class Heard:
    """What a row of the encoder remembers."""

    audio: Tensor  # [row, 1, WINDOW * hop], the newest


@dataclass
class Said:
    """What a row of the decoder remembers."""

    codes: Tensor  # int64 [row, codebook, WINDOW], the newest
    tail: Tensor  # [row, 1, FADE], how the last window would go on


class WindowedHCodec:
    """A `Codec`. Codebooks alternate between the paths, so that the first 2 n are the first n of either.

    `encode` and `decode` are the network's own, over the whole signal. A step moves the window by the block that it is
    given, so what a stream gives depends on its blocks, though not by much. At first the window is silent.
    """

    def __init__(self, network: HCodec) -> None:
        self.network = network
        self.sample_rate = network.sample_rate
        self.hop = network.samples_per_code
        self.frame_rate = network.frame_rate
        self.codebooks = len(PATHS) * network.config.codebooks
        self.codebook_size = network.config.codebook_size
        self.encode_latency = self.decode_latency = GUARD * self.hop

    def encode(self, audio: Tensor) -> Tensor:
        return self.network.encode(audio).transpose(1, 2).flatten(1, 2)

    def decode(self, codes: Tensor) -> Tensor:
        return self.network.decode_vectors(self.vectors(codes))

    def vectors(self, codes: Tensor) -> Tensor:
        """Codes, or the first ones, -> what the network decodes [row, path * latent, n]."""
        by_path = [codes[:, at :: len(PATHS)] for at in range(len(PATHS))]
        vectors = [
            self.network.quantizer(path).decode(own)
            if own.shape[1]
            else codes.new_zeros(len(codes), self.network.config.latent, codes.shape[-1], dtype=torch.float32)
            for path, own in zip(PATHS, by_path, strict=True)
        ]
        return torch.cat(vectors, dim=1)

    def init_encode_state(self, rows: int) -> Heard:
        return Heard(torch.zeros(rows, 1, WINDOW * self.hop, device=self._device))

    def encode_step(self, audio: Tensor, state: Heard, mask: Tensor | None = None) -> tuple[Tensor, Heard]:
        pieces, history = [], state.audio
        for piece in audio.split(LONGEST * self.hop, dim=-1):
            history = torch.cat([history, piece], dim=-1)[..., -WINDOW * self.hop :]
            count = piece.shape[-1] // self.hop
            pieces.append(self.encode(history)[..., WINDOW - GUARD - count : WINDOW - GUARD])
        return torch.cat(pieces, dim=-1), Heard(_where(mask, history, state.audio))

    def init_decode_state(self, rows: int) -> Said:
        silence = self.encode(torch.zeros(rows, 1, WINDOW * self.hop, device=self._device))
        return Said(silence, torch.zeros(rows, 1, FADE, device=self._device))

    def decode_step(self, codes: Tensor, state: Said, mask: Tensor | None = None) -> tuple[Tensor, Said]:
        pieces, history, tail = [], state.codes, state.tail
        rising = torch.linspace(0.0, 1.0, FADE, device=self._device)
        end = (WINDOW - GUARD) * self.hop
        for piece in codes.split(LONGEST, dim=-1):
            history = torch.cat([history, piece], dim=-1)[..., -WINDOW:]
            sound = self.decode(history)
            fresh = sound[..., end - piece.shape[-1] * self.hop : end].clone()
            fresh[..., :FADE] = tail + rising * (fresh[..., :FADE] - tail)
            tail = sound[..., end : end + FADE]
            pieces.append(fresh)
        said = Said(_where(mask, history, state.codes), _where(mask, tail, state.tail))
        return torch.cat(pieces, dim=-1), said

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device


def _where(mask: Tensor | None, moved: Tensor, left: Tensor) -> Tensor:
    """[row, ..] as moved where `mask` [row] says so."""
    return moved if mask is None else torch.where(mask[:, None, None], moved, left)
