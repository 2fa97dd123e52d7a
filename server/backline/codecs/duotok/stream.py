"""Tokens of tracks as they play: exact where the encoder is causal, by windows where it hears whole clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from backline.codecs.duotok.config import ROLES, Role
from backline.codecs.duotok.encoder import Encoder
from backline.codecs.duotok.tokenizer import Tokenizer
from backline.nn.composite import Sequential
from backline.nn.streaming import keep_rows

WINDOW_SECONDS = 10  # that an encoder of whole clips hears of a stream
GUARD_SECONDS = 1  # at a window's end that are not used, because what follows is missing there

Quantize = Callable[[Tensor], Tensor]  # hidden states [row, frame, width] -> tokens int64 [row, frame]


@dataclass
class Heard:
    """What a row of a windowed encoder remembers."""

    audio: Tensor  # [row, 1, sample], the newest


class WindowedEncoder:
    """An encoder of whole clips as a stream [row, 1, sample] -> [row, width, frame]: the middles of windows.

    A step moves the window by the block that it is given, so what comes depends on the blocks, though not by much. At
    first the window is silent.
    """

    time_axis = -1
    receptive_field = 0

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.min_block = encoder.config.samples_per_token
        self.output_ratio = Fraction(1, self.min_block)
        rate = encoder.config.frame_rate
        self.window, self.guard = round(WINDOW_SECONDS * rate), round(GUARD_SECONDS * rate)  # tokens
        self.longest = self.window - 2 * self.guard  # tokens that are taken from one window
        self.input_latency = self.guard * self.min_block

    def init_state(self, batch: int) -> Heard:
        example = self.encoder.mel.mean
        return Heard(example.new_zeros(batch, 1, self.window * self.min_block))

    def step(self, x: Tensor, state: Heard, mask: Tensor | None = None) -> tuple[Tensor, Heard]:
        if x.shape[-1] % self.min_block:
            raise ValueError(f"a block of {x.shape[-1]} samples is no whole number of tokens of {self.min_block}")
        pieces, history = [], state.audio
        for piece in x.split(self.longest * self.min_block, dim=-1):
            history = torch.cat([history, piece], dim=-1)[..., -self.window * self.min_block :]
            end, count = self.window - self.guard, piece.shape[-1] // self.min_block
            pieces.append(self.encoder(history[:, 0])[:, end - count : end])
        return torch.cat(pieces, dim=1).transpose(1, 2), Heard(keep_rows(history, state.audio, mask))

    def __call__(self, x: Tensor) -> Tensor:
        y: Tensor = self.encoder(x[:, 0])
        return y.transpose(1, 2)


class TokenStream:
    """Audio [row, 1, sample] -> tokens int64 [row, frame]; a streaming layer of any encoder.

    Rows come in groups, one for each quantizer: with those of both tracks, rows 0 and 1 are one session's voice and
    accompaniment. They share the encoder's pass.
    """

    time_axis = -1
    receptive_field = 0

    def __init__(self, encoder: Encoder, quantizers: Sequence[Quantize]) -> None:
        self.layer: Sequential | WindowedEncoder = (
            encoder.streaming() if encoder.config.attention == "causal" else WindowedEncoder(encoder)
        )
        self.quantizers = tuple(quantizers)
        self.min_block = encoder.config.samples_per_token
        self.input_latency = self.layer.input_latency
        self.output_ratio = self.layer.output_ratio

    @property
    def delay(self) -> int:
        """Tokens by which `step` is late; what it gives before is to be dropped."""
        return self.input_latency // self.min_block

    def init_state(self, batch: int) -> Any:
        return self.layer.init_state(batch)

    @torch.no_grad()
    def step(self, x: Tensor, state: Any, mask: Tensor | None = None) -> tuple[Tensor, Any]:
        """The next whole number of tokens of every row; rows outside `mask` [row] do not move."""
        hidden, state = self.layer.step(x, state, mask)
        return self._tokens(hidden), state

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        return self._tokens(self.layer(x))

    def _tokens(self, hidden: Tensor) -> Tensor:
        """Of [row, width, frame]."""
        group = len(self.quantizers)
        if len(hidden) % group:
            raise ValueError(f"{len(hidden)} rows are no whole number of groups of {group} tracks")
        tracks = [quantize(hidden[at::group].transpose(1, 2)) for at, quantize in enumerate(self.quantizers)]
        return torch.stack(tracks, dim=1).flatten(0, 1)


def token_stream(tokenizer: Tokenizer, roles: Sequence[Role] = ROLES) -> TokenStream:
    """The tokens of `roles`, a row of a group each."""

    def of(role: Role) -> Quantize:
        return lambda hidden: tokenizer.tokens(hidden, role)

    return TokenStream(tokenizer.encoder, [of(role) for role in roles])
