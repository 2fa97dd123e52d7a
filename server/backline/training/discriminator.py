"""A small multi-resolution STFT discriminator: it hears the buzz and blur that spectral losses let pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backline.measures.spectra import stft

WINDOWS = (512, 1024, 2048)


class Opponent:
    """A discriminator that learns beside the network that it judges."""

    def __init__(self, device: torch.device, rate: float) -> None:
        self.discriminator = Discriminator().to(device)
        self.optimizer = torch.optim.AdamW(self.discriminator.parameters(), rate, betas=(0.8, 0.99))

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"discriminator": self.discriminator, "opposing": self.optimizer}

    def losses(self, found: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        """Learns from one batch [row, sample]. The judged network learns from what is returned, `verdict` aside."""
        verdict = discriminator_loss(self.discriminator(wanted), self.discriminator(found.detach()))
        self.optimizer.zero_grad(set_to_none=True)
        verdict.backward()
        self.optimizer.step()
        self.discriminator.requires_grad_(False)
        with torch.no_grad():
            real = self.discriminator(wanted)
        adversarial, features = generator_losses(real, self.discriminator(found))
        self.discriminator.requires_grad_(True)
        return {"adversarial": adversarial, "features": features, "verdict": verdict.detach()}


class Discriminator(nn.Module):
    """One stack of 2-D convolutions per window length, over real and imaginary parts."""

    def __init__(self, channels: int = 24) -> None:
        super().__init__()
        self.stacks = nn.ModuleList([make_stack(channels) for _ in WINDOWS])

    def forward(self, audio: Tensor) -> list[list[Tensor]]:
        """[row, sample] -> per window, every layer's output [row, channel, bin, frame]; the last one is the verdict."""
        verdicts = []
        for window, stack in zip(WINDOWS, self.stacks, strict=True):
            spectrum = stft(audio, window, window // 4) * window**0.5
            x = torch.stack([spectrum.real, spectrum.imag], dim=1)
            features = []
            assert isinstance(stack, nn.ModuleList)
            for layer in stack:
                x = layer(x)
                features.append(x)
                x = F.leaky_relu(x, 0.2)
            verdicts.append(features)
        return verdicts


def make_stack(channels: int) -> nn.ModuleList:
    """Convolutions that look over ever more bins and frames, down to one verdict for each patch."""

    def conv(inputs: int, outputs: int, stride: int, dilation: int) -> nn.Module:
        padding = (4, dilation)
        layer = nn.Conv2d(inputs, outputs, (9, 3), (stride, 1), padding, dilation=(1, dilation))
        return nn.utils.parametrizations.weight_norm(layer)

    return nn.ModuleList(
        [
            conv(2, channels, 1, 1),
            conv(channels, channels, 2, 1),
            conv(channels, channels, 2, 2),
            conv(channels, channels, 2, 4),
            conv(channels, 1, 1, 1),
        ]
    )


def discriminator_loss(real: list[list[Tensor]], fake: list[list[Tensor]]) -> Tensor:
    """Hinge loss of the discriminator, a mean over the windows."""
    losses = [F.relu(1 - r[-1]).mean() + F.relu(1 + f[-1]).mean() for r, f in zip(real, fake, strict=True)]
    return torch.stack(losses).mean()


def generator_losses(real: list[list[Tensor]], fake: list[list[Tensor]]) -> tuple[Tensor, Tensor]:
    """The generator's hinge loss, and the mean relative distance of the features from those of real audio."""
    adversarial = torch.stack([-f[-1].mean() for f in fake]).mean()
    matching = [
        (a.detach() - b).abs().mean() / (a.detach().abs().mean() + 1e-6)
        for r, f in zip(real, fake, strict=True)
        for a, b in zip(r[:-1], f[:-1], strict=True)
    ]
    return adversarial, torch.stack(matching).mean()
