"""A VAE of HCodec's encoders and decoder (MODELS.md B1, MGE.md 3): no quantiser, but a few Gaussian channels.

Both paths of the codec hear the sound, the acoustic one log magnitudes and phases, the semantic one a log-mel
spectrogram. What they say of a frame is projected to a mean and a variance for each latent channel, and the latents
back to what the decoder takes. With principal components for projections, a trained codec is a VAE (training/vae.py).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from backline.codecs.hcodec.layers import SemanticEncoder
from backline.codecs.hcodec.network import (
    FEATURE_FLOOR,
    FEATURE_WINDOW,
    PATHS,
    AcousticEncoder,
    Decoder,
    normalized,
    spectra_of,
)
from backline.codecs.vae.config import SpectralConfig, by_channel
from backline.codecs.vae.reach import span
from backline.nn.mel import LogMel


class SpectralVae(nn.Module):
    """A `Vae`."""

    def __init__(self, config: SpectralConfig) -> None:
        super().__init__()
        self.config = config
        codec = config.codec
        self.sample_rate, self.hop = codec.sample_rate, codec.hop * codec.frames_per_code
        self.channels, self.latent_channels = 1, config.latent_channels
        self.acoustic = AcousticEncoder(codec)
        self.mel = LogMel(codec.sample_rate, codec.feature_width, FEATURE_WINDOW, codec.hop, FEATURE_FLOOR)
        self.semantic = SemanticEncoder(codec.feature_width, codec.semantic_width, codec.latent)
        told = len(PATHS) * codec.latent
        self.projection = nn.Conv1d(told, 2 * config.latent_channels, 1)  # to means, then logarithms of variances
        self.expansion = nn.Conv1d(config.latent_channels, told, 1)
        self.decoder = Decoder(codec)
        self.reach, self.decode_reach = self._reaches()

    def encode(self, audio: Tensor) -> Tensor:
        return self.posterior(audio)[0]

    def posterior(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        told: Tensor = self.projection(self.vectors(audio))
        mean, variance = told.chunk(2, dim=1)
        return mean, variance

    def decode(self, latents: Tensor) -> Tensor:
        return self.sound(latents)[:, 0]

    def sound(self, latents: Tensor) -> Tensor:
        return self.decoder.sound(self.spectra(latents)).float()

    def vectors(self, audio: Tensor) -> Tensor:
        """What the encoders say of [row, frame * hop]: [row, path * dim, frame]."""
        signal = by_channel(audio, self.hop, self.channels)
        with torch.autocast(signal.device.type, enabled=False):  # where training is in bfloat16: logarithms are not
            features = self.mel(signal)
        told = [self.acoustic(signal), self.semantic(features)]
        return torch.cat([normalized(each) if self.config.codec.normalized else each for each in told], dim=1)

    def spectra(self, latents: Tensor) -> Tensor:
        """Latents to what the decoder writes before windows overlap: complex [row, hop of the transform, bin]."""
        return self.decoder.spectra(self.expansion(latents))

    def true_spectra(self, audio: Tensor) -> Tensor:
        """Those of [row, frame * hop], as the decoder has them."""
        return spectra_of(audio[:, None], self.decoder.window, self.config.codec.hop)

    def _reaches(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Samples that a latent frame hears, and latent frames that a hop is made of, beyond their own."""
        codec, step = self.config.codec, self.config.codec.frames_per_code
        heard = []
        for path, window in ((self.acoustic, codec.window), (self.semantic, FEATURE_WINDOW)):
            first, last = span(path, 0, 0)  # hops of the transform
            edge = (window - codec.hop) // 2
            heard.append((edge - first * codec.hop, (last + 1) * codec.hop + edge - self.hop))
        overlap = -(-(codec.window - codec.hop) // (2 * codec.hop))  # hops of the transform that reach into the next
        first, last = span(self.decoder.blocks, -overlap, step - 1 + overlap)
        if codec.upsampling == "repeat":
            first, last = (hop // step for hop in span(self.decoder.embed, first, last))
        else:
            first, last = span(self.decoder.embed, first // step, last // step)
        return (max(first for first, _ in heard), max(last for _, last in heard)), (-first, last)
