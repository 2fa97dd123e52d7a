"""What MGE-LDM is trained with, as small as it gets: a linear VAE, towers that are told, songs of three tones."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from backline.corpus.multitrack import Sound
from backline.sound_files import Audio

RATE, HOP, CHANNELS, DIMENSION = 1000, 100, 4, 4
SECONDS = 2
LABELS = {"vocals": "vocals", "drums": "drums", "bass": "electric bass"}
HERTZ = {"vocals": 210.0, "drums": 330.0, "bass": 55.0}  # lowest of each


class ToyVae:
    """Latents are a hop's projections on four fixed shapes: sums have sums, and silence has zeros."""

    sample_rate, hop, channels, latent_channels = RATE, HOP, 1, CHANNELS
    reach = decode_reach = (0, 0)

    def __init__(self) -> None:
        shapes = np.random.default_rng(0).standard_normal((CHANNELS, HOP)).astype(np.float32)
        self.shapes = torch.linalg.qr(torch.from_numpy(shapes).T)[0].T  # orthonormal

    def encode(self, audio: Tensor) -> Tensor:
        return (audio.unflatten(1, (-1, HOP)) @ self.shapes.T).transpose(1, 2)

    def posterior(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.encode(audio)
        return mean, torch.full_like(mean, -10.0)

    def sound(self, latents: Tensor) -> Tensor:
        return self.decode(latents)[:, None]

    def decode(self, latents: Tensor) -> Tensor:
        return (latents.transpose(1, 2) @ self.shapes).flatten(1)


def hear(audio: Tensor) -> Tensor:
    """[row, sample] -> [row, DIMENSION]: the levels at four frequencies, never at that of `named`."""
    turns = 2 * torch.pi * torch.tensor([55.0, 210.0, 330.0])[:, None] * torch.arange(audio.shape[1]) / RATE
    levels = torch.hypot(audio @ turns.cos().T, audio @ turns.sin().T) + 1e-3
    return F.normalize(F.pad(levels, (0, 1)), dim=1)


@dataclass(frozen=True)
class Named:
    """Reads every text as the one vector that nothing sounds like."""

    def embed(self, text: str) -> Tensor:
        return torch.tensor([0.0, 0.0, 0.0, 1.0])


named = Named()


class ThreeTones:
    """A `Multitrack`."""

    def __init__(self, seed: int) -> None:
        self.title, self.seconds, self.labels = f"tones {seed}", float(SECONDS), dict(LABELS)
        self.seed = seed

    def read(self, stem: str, sample_rate: int, begin: float = 0.0, seconds: float | None = None) -> Audio:
        assert (begin, seconds) == (0.0, None)
        random = np.random.default_rng([self.seed, len(stem)])
        hertz, level = HERTZ[stem] * random.uniform(1, 1.2), random.uniform(0.5, 1)
        sound: Sound = np.float32(level) * np.sin(
            2 * np.pi * hertz * np.arange(SECONDS * sample_rate) / sample_rate
        ).astype(np.float32)
        return sound[np.newaxis]


class Tones:
    """`Songs`, as far as training asks."""

    def song(self, seed: int) -> ThreeTones:
        return ThreeTones(seed)

    def card(self) -> dict[str, Any]:
        return {"data": "tones"}

    def options(self) -> str:
        return "--world tones"
