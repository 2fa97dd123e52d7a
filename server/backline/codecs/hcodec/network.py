"""HCodec 2.0 as published: two encoders, a residual quantiser behind each, one decoder with an inverse STFT.

The acoustic path hears log magnitudes and phases, the semantic path features of what is played: the mean of HuBERT's
hidden states (published), or a log-mel spectrogram. Nothing in it is causal, so a stream plays it in windows.
The default configuration is the published one, 48 kHz, 4 kbit/s (MODELS.md B1).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Literal

import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.nn import functional as F

from backline.codecs.hcodec.layers import (
    HEAD_WIDTH,
    ConvNeXtBlock,
    ResidualBlock,
    SemanticDecoder,
    SemanticEncoder,
    Transformer,
)
from backline.codecs.hcodec.semantics import HubertFeatures
from backline.nn.mel import LogMel
from backline.nn.rvq import ResidualQuantizer
from backline.nn.tables import Blocks, Codebooks, Entries, FeedForward, SampleRate, Samples, Width

PATHS = ("acoustic", "semantic")
FEATURE_WINDOW = 2048  # samples, of log-mel features
FEATURE_FLOOR = 1e-5
MOST_BANDS = 1024


@dataclass(frozen=True)
class HCodecConfig:
    """The sizes that a pack's [codec] table gives."""

    sample_rate: SampleRate = 48_000
    hop: Samples = 960  # samples, of the transforms
    window: Samples = 1920
    frames_per_code: Annotated[int, Meta(ge=1, le=64)] = 4  # hops
    width: Width = 1536
    feed_forward: FeedForward = 4608  # of the ConvNeXt blocks
    encoder_blocks: Blocks = 24
    decoder_blocks: Blocks = 32
    transformer_layers: Blocks = 2  # in encoder and decoder; 0: neither these nor the residual blocks around them
    latent: Width = 512  # dimensions of either path
    codebooks: Codebooks = 16  # of either path
    codebook_size: Entries = 1024
    features: Literal["hubert", "mel"] = "hubert"
    feature_width: Width = 768  # bands, of log-mel features
    semantic_width: Width = 1536
    head_limit: Annotated[float, Meta(gt=0, le=1e6)] = 1e2  # of magnitudes; a sine that peaks at 1 has window / 4
    # How the decoder gets from a code to its hops: the published one repeats it, and must find out from the neighbours
    # which repetition is which; "learned" gives each hop weights of its own.
    upsampling: Literal["repeat", "learned"] = "repeat"
    normalized: bool = False  # latents have mean 0 and variance 1; else they are as the encoders make them

    def __post_init__(self) -> None:
        if self.window < self.hop or self.window % 2 or self.hop % 2:
            raise ValueError(
                f"window is {self.window} and hop {self.hop}: use even numbers, a window of the hop or more"
            )
        if self.upsampling == "repeat" and self.frames_per_code % 2:
            raise ValueError(f'frames_per_code is {self.frames_per_code}: use an even number with upsampling "repeat"')
        if self.transformer_layers and (self.width < HEAD_WIDTH or self.width % HEAD_WIDTH):
            raise ValueError(f"width is {self.width}: use a multiple of {HEAD_WIDTH} with transformer_layers")
        if self.features == "mel" and (self.feature_width > MOST_BANDS or self.hop > FEATURE_WINDOW):
            raise ValueError(
                f"feature_width is {self.feature_width} and hop {self.hop}: use up to {MOST_BANDS} mel bands, and a "
                f"hop of up to {FEATURE_WINDOW}"
            )


class HCodec(nn.Module):
    """Audio [row, 1, n * samples_per_code] to codes int64 [row, path, codebook, n] and back, whole signals."""

    def __init__(self, config: HCodecConfig) -> None:
        super().__init__()
        self.config = config
        self.sample_rate = config.sample_rate
        self.samples_per_code = config.hop * config.frames_per_code
        self.frame_rate = Fraction(config.sample_rate, self.samples_per_code)
        self.acoustic = AcousticEncoder(config)
        self.semantic = SemanticEncoder(config.feature_width, config.semantic_width, config.latent)
        self.feature_decoder = SemanticDecoder(config.latent, config.semantic_width, config.feature_width)
        self.quantizers = nn.ModuleDict(
            {path: ResidualQuantizer(config.latent, config.codebooks, config.codebook_size) for path in PATHS}
        )
        self.decoder = Decoder(config)
        self.hubert: HubertFeatures | None = None  # gives HuBERT's features, where the codec is to hear them by itself
        self.dropped: tuple[str, ...] = ()
        if config.features == "mel":
            self.mel = LogMel(config.sample_rate, config.feature_width, FEATURE_WINDOW, config.hop, FEATURE_FLOOR)

    def features(self, audio: Tensor) -> Tensor:
        """What the semantic path hears of [row, 1, n * samples_per_code]: [row, feature, hop]."""
        self.require_encoding()
        listener = self.mel if self.hubert is None else self.hubert
        features: Tensor = listener(audio)
        return features

    def require_encoding(self, features_given: bool = False) -> None:
        """Raises ValueError where the codec came without what encoding needs."""
        if "acoustic" in self.dropped:
            raise ValueError("this codec came without its encoders and only decodes: use a pack that has them")
        if self.config.features == "hubert" and self.hubert is None and not features_given:
            raise ValueError("this codec hears HuBERT's features and came without it: import it again with HuBERT base")

    def drop(self, parts: Iterable[str]) -> None:
        """Lets go of what only encoding or training needs: "acoustic", "semantic", "feature_decoder"."""
        for part in parts:
            delattr(self, part)
            self.dropped += (part,)

    def latents(self, audio: Tensor, features: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Acoustic and semantic [row, latent, n], before quantisation."""
        self.require_encoding(features is not None)
        if features is None:
            features = self.features(audio)
        acoustic, semantic = self.acoustic(audio), self.semantic(features)
        if self.config.normalized:
            acoustic, semantic = normalized(acoustic), normalized(semantic)
        return acoustic, semantic

    def encode(self, audio: Tensor, features: Tensor | None = None) -> Tensor:
        """Audio, and its features [row, feature, hop] where they are known already -> codes."""
        latents = self.latents(audio, features)
        codes = [self.quantizer(path).encode(latent) for path, latent in zip(PATHS, latents, strict=True)]
        return torch.stack(codes, dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        return self.decode_vectors(self.vectors(codes))

    def vectors(self, codes: Tensor) -> Tensor:
        """Codes -> what the decoder takes [row, path * latent, n]."""
        return torch.cat([self.quantizer(path).decode(codes[:, at]) for at, path in enumerate(PATHS)], dim=1)

    def spectra(self, audio: Tensor) -> Tensor:
        """Those of [row, 1, n * samples_per_code] as encoder and decoder have them: complex [row, hop, bin]."""
        return spectra_of(audio, self.decoder.window, self.config.hop)

    def decode_vectors(self, vectors: Tensor) -> Tensor:
        """[row, path * latent, n] -> [row, 1, n * samples_per_code]."""
        audio: Tensor = self.decoder(vectors)
        return audio

    def quantizer(self, path: str) -> ResidualQuantizer:
        quantizer = self.quantizers[path]
        assert isinstance(quantizer, ResidualQuantizer)
        return quantizer


class AcousticEncoder(nn.Module):
    """[row, 1, sample] -> [row, latent, code]."""

    window: Tensor

    def __init__(self, config: HCodecConfig) -> None:
        super().__init__()
        self.config = config
        width, step = config.width, config.frames_per_code
        self.register_buffer("window", hann(config.window), persistent=False)
        self.embed = nn.Conv1d(config.window + 2, width, 3, padding=1)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.blocks = nn.Sequential(*convnext_blocks(config.encoder_blocks, config))
        self.transformer = Transformer(width, config.transformer_layers)
        self.final_norm = nn.LayerNorm(width, eps=1e-6)
        self.out = nn.Conv1d(width, config.latent, 2 * step + 1, stride=step, padding=step)

    def forward(self, audio: Tensor) -> Tensor:
        spectra = spectra_of(audio, self.window, self.config.hop)
        heard = torch.cat([spectra.abs().clamp(min=1e-5).log(), spectra.angle() / torch.pi], dim=-1)
        x = self.norm(self.embed(heard.transpose(1, 2)).transpose(1, 2))
        x = self.transformer(self.blocks(x.transpose(1, 2)).transpose(1, 2))
        latent: Tensor = self.out(self.final_norm(x).transpose(1, 2))
        return latent


class Decoder(nn.Module):
    """[row, path * latent, code] -> [row, 1, sample]."""

    window: Tensor

    def __init__(self, config: HCodecConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.register_buffer("window", hann(config.window), persistent=False)
        taken, step = len(PATHS) * config.latent, config.frames_per_code
        if config.upsampling == "repeat":
            self.embed = nn.Conv1d(taken, width, step + 1, padding=step // 2)
        else:
            self.embed = nn.Conv1d(taken, step * width, 3, padding=1)
        self.context = Context(width, config.transformer_layers) if config.transformer_layers else nn.Identity()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.blocks = nn.Sequential(*convnext_blocks(config.decoder_blocks, config))
        self.final_norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, config.window + 2)

    def forward(self, vectors: Tensor) -> Tensor:
        return self.sound(self.spectra(vectors))

    def spectra(self, vectors: Tensor) -> Tensor:
        """Complex [row, hop, bin], before they overlap: of frames that are centred on their hops."""
        config = self.config
        if config.upsampling == "repeat":
            x = self.embed(vectors.repeat_interleave(config.frames_per_code, dim=-1))
        else:
            x = self.embed(vectors).unflatten(1, (-1, config.frames_per_code)).transpose(2, 3).flatten(2)
        x = self.context(x)
        x = self.norm(x.transpose(1, 2)).transpose(1, 2)
        x = self.head(self.final_norm(self.blocks(x).transpose(1, 2)))  # [row, hop, 2 * bin]
        level, phase = x.float().chunk(2, dim=-1)
        return torch.polar(level.exp().clamp(max=config.head_limit), phase)

    def sound(self, spectra: Tensor) -> Tensor:
        """[row, hop, bin] -> [row, 1, sample]."""
        frames = torch.fft.irfft(spectra, self.config.window) * self.window
        return overlapped(frames, self.window, self.config.hop)


class Context(nn.Module):
    """What looks over the whole window [row, width, hop]: residual blocks around a transformer, and a group norm."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.before = nn.Sequential(ResidualBlock(width), ResidualBlock(width))
        self.transformer = Transformer(width, layers)
        self.after = nn.Sequential(ResidualBlock(width), ResidualBlock(width))
        self.norm = nn.GroupNorm(32, width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.transformer(self.before(x).transpose(1, 2)).transpose(1, 2)
        out: Tensor = self.norm(self.after(x))
        return out


def hann(length: int) -> Tensor:
    """[sample]; real even where a network is made without memory, because no checkpoint holds it."""
    return torch.hann_window(length, device="cpu")


def convnext_blocks(count: int, config: HCodecConfig) -> list[ConvNeXtBlock]:
    return [ConvNeXtBlock(config.width, config.feed_forward, scale=1 / count) for _ in range(count)]


def spectra_of(audio: Tensor, window: Tensor, hop: int) -> Tensor:
    """[row, 1, n * hop] -> complex [row, n, bin] of frames that are centred on their hops."""
    edge = (len(window) - hop) // 2
    return torch.fft.rfft(F.pad(audio[:, 0], (edge, edge)).unfold(-1, len(window), hop) * window)


def overlapped(frames: Tensor, window: Tensor, hop: int) -> Tensor:
    """Windowed frames [row, n, window] added up where they lie, by the squared windows' sum: [row, 1, n * hop]."""
    _, count, length = frames.shape
    edge = (length - hop) // 2

    def laid(x: Tensor) -> Tensor:
        out = F.fold(x.transpose(1, 2), (1, (count - 1) * hop + length), (1, length), stride=(1, hop))
        return out[:, :, 0, edge : edge + count * hop]

    weight = window.square().expand(1, count, -1)
    return laid(frames) / laid(weight)


def normalized(latent: Tensor) -> Tensor:
    """[row, latent, code] with mean 0 and variance 1 over the dimensions of each code."""
    return F.layer_norm(latent.transpose(1, 2), latent.shape[1:2]).transpose(1, 2)
