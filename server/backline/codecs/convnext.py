"""The default codec: causal ConvNeXt encoder and decoder around a residual quantiser, 24 kHz mono, 75 frames a second.

The encoder reads a level-compressed complex spectrum, the decoder writes one (a gain times real and imaginary part for
every bin) and transforms it back. Zeros pad everything, so a stream needs no hold-back at its start. The encoder is
not late at all; the decoder is late by the frames that overlap in the inverse transform, 40 ms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from backline.nn.composite import Part, Pointwise, Sequential, SequentialState, convnext_block
from backline.nn.conv import CausalConv1d
from backline.nn.rvq import Quantized, ResidualQuantizer
from backline.nn.stft import InverseStft, Stft, check_window
from backline.nn.streaming import delay
from backline.nn.tables import (
    Blocks,
    Codebooks,
    Entries,
    Expansion,
    Kernel,
    SampleRate,
    Samples,
    Width,
    read_table,
)
from backline.nn.weights import mismatches, part


@dataclass(frozen=True)
class ConvNeXtCodecConfig:
    """The sizes that a pack's [codec] table gives."""

    sample_rate: SampleRate = 24_000
    hop: Samples = 320
    window: Samples = 1280
    codebooks: Codebooks = 8
    codebook_size: Entries = 1024
    latent: Width = 64
    encoder_width: Width = 256
    encoder_blocks: Blocks = 4
    decoder_width: Width = 352
    decoder_blocks: Blocks = 4
    expansion: Expansion = 3  # hidden width of a block, as a multiple of its width
    kernel: Kernel = 7

    def __post_init__(self) -> None:
        check_window(self.window, self.hop)


class ConvNeXtCodec(nn.Module):
    """A `Codec`. The state of either direction is a dataclass of tensors [row, ..]."""

    def __init__(self, config: ConvNeXtCodecConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = make_encoder(config)
        self.quantizer = ResidualQuantizer(config.latent, config.codebooks, config.codebook_size)
        self.decoder = make_decoder(config)
        self.sample_rate = config.sample_rate
        self.hop = config.hop
        self.frame_rate = Fraction(config.sample_rate, config.hop)
        self.codebooks = config.codebooks
        self.codebook_size = config.codebook_size
        self.encode_latency = self.encoder.input_latency
        self.decode_latency = delay(self.decoder)

    def forward(self, audio: Tensor) -> tuple[Tensor, Quantized]:
        """For training: [row, 1, n * hop] -> its reconstruction, and what quantisation did."""
        quantized = self.quantizer(self.encoder(audio))
        return self.decoder(quantized.vectors), quantized

    def encode(self, audio: Tensor) -> Tensor:
        return self.quantizer.encode(self.encoder(audio))

    def decode(self, codes: Tensor) -> Tensor:
        return self.decoder(self.quantizer.decode(codes))

    def init_encode_state(self, rows: int) -> SequentialState:
        return self.encoder.init_state(rows)

    def encode_step(
        self, audio: Tensor, state: SequentialState, mask: Tensor | None = None
    ) -> tuple[Tensor, SequentialState]:
        vectors, state = self.encoder.step(audio, state, mask)
        return self.quantizer.encode(vectors), state

    def init_decode_state(self, rows: int) -> SequentialState:
        return self.decoder.init_state(rows)

    def decode_step(
        self, codes: Tensor, state: SequentialState, mask: Tensor | None = None
    ) -> tuple[Tensor, SequentialState]:
        return self.decoder.step(self.quantizer.decode(codes), state, mask)


def convnext_codec(table: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ConvNeXtCodec:
    """The codec of a pack, in float32 and evaluation mode.

    Args:
        table: the pack's [codec] table; "kind" is "convnext", the rest are fields of the configuration.
        tensors: named `codec.…`, of any floating type; others are left alone.

    Raises:
        ValueError: table or tensors do not fit; every mismatch is named.
    """
    config = read_table(ConvNeXtCodecConfig, table, "codec", known_elsewhere=("kind",))
    given = part(tensors, "codec.")
    with torch.device("meta"):
        wanted = ConvNeXtCodec(config).state_dict()
    if wrong := mismatches(wanted, given, "codec."):
        raise ValueError("; ".join(wrong))
    codec = ConvNeXtCodec(config)  # as large as the tensors that are there
    codec.load_state_dict({name: value.float() for name, value in given.items()})
    return codec.eval()


def make_encoder(config: ConvNeXtCodecConfig) -> Sequential:
    """[row, 1, sample] -> [row, latent, frame]."""
    width, bins = config.encoder_width, config.window // 2 + 1
    return Sequential(
        Stft(config.window, config.hop),
        Pointwise(compressed),
        CausalConv1d(2 * bins, width, 1),
        *blocks(width, config.encoder_blocks, config),
        Pointwise(ChannelNorm(width)),
        CausalConv1d(width, config.latent, 1),
        Pointwise(normalized),  # latents that could shrink would, and take the codebooks with them
    )


def make_decoder(config: ConvNeXtCodecConfig) -> Sequential:
    """[row, latent, frame] -> [row, 1, sample]."""
    width, bins = config.decoder_width, config.window // 2 + 1
    return Sequential(
        CausalConv1d(config.latent, width, config.kernel),
        *blocks(width, config.decoder_blocks, config),
        Pointwise(ChannelNorm(width)),
        CausalConv1d(width, 3 * bins, 1),
        Pointwise(gained),
        InverseStft(config.window, config.hop),
    )


def blocks(width: int, count: int, config: ConvNeXtCodecConfig) -> list[Part]:
    return [convnext_block(width, config.expansion * width, config.kernel) for _ in range(count)]


class ChannelNorm(nn.Module):
    """Layer norm over the channels of [row, channel, time]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.transpose(1, 2)).transpose(1, 2)


def normalized(latent: Tensor) -> Tensor:
    """[row, latent, frame] with mean 0 and variance 1 over the latent dimensions of each frame."""
    return nn.functional.layer_norm(latent.transpose(1, 2), latent.shape[1:2]).transpose(1, 2)


def compressed(spectrum: Tensor) -> Tensor:
    """[row, 2 * bins, frame], magnitudes to the power 0.3: quiet partials are heard, so they must be seen."""
    real, imag = spectrum.chunk(2, dim=1)
    level = (real.square() + imag.square() + 1e-7).pow(-0.35)
    return torch.cat([real * level, imag * level], dim=1)


def gained(parts: Tensor) -> Tensor:
    """[row, 3 * bins, frame] of log gains, real and imaginary parts -> spectrum [row, 2 * bins, frame]."""
    if parts.dtype == torch.bfloat16:  # under autocast; the inverse transform has no bfloat16
        parts = parts.float()
    gain, real, imag = parts.chunk(3, dim=1)
    gain = (gain - 3.0).clamp(max=6.0).exp()  # starts at the level of quiet music, and cannot overflow untrained
    return torch.cat([gain * real, gain * imag], dim=1)
