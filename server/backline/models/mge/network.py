"""The network of MGE-LDM: joint latents of mixture, submixture and source, denoised together under three conditions.

denoise = guided(network, network.asked(prompt, task), scale=2.0)
z = sample(denoise, noise, steps, task.known(rows), network.normed(given))          # nn/diffusion.py
sound = vae.decode(network.unnormed(z)[:, SOURCE])
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from backline.models.mge.config import MgeConfig
from backline.models.mge.tasks import TRACKS, Task
from backline.nn.dit import DiT
from backline.nn.weights import filled, part

PREFIX = "mge."


class MgeNetwork(nn.Module):
    """Noisy latents [row, track, channel, frame] at times [row, track, frame or 1], conditions -> velocities."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: MgeConfig) -> None:
        super().__init__()
        self.config = config
        self.dit = DiT(config.network)
        # Noise has variance 1, so latents have to. One deviation for all channels: a channel in which little happens
        # then counts for little, as it does for the VAE's decoder.
        self.register_buffer("mean", torch.zeros(config.network.channels))
        self.register_buffer("deviation", torch.ones(()))

    def forward(self, noisy: Tensor, times: Tensor, condition: Tensor) -> Tensor:
        velocity: Tensor = self.dit(noisy, times, condition)
        return velocity

    def normed(self, latents: Tensor) -> Tensor:
        """The VAE's latents [.., channel, frame] as the network knows them."""
        return (latents - self.mean[:, None]) / self.deviation

    def unnormed(self, latents: Tensor) -> Tensor:
        """And back."""
        return latents * self.deviation + self.mean[:, None]

    def asked(self, prompts: Tensor, task: Task) -> Tensor:
        """Conditions [row, track, dimension] with prompts [row, dimension] where the task asks, and none elsewhere."""
        condition = prompts.new_zeros(len(prompts), len(TRACKS), prompts.shape[-1])
        condition[:, task.asked] = prompts
        return condition


def read_network(config: MgeConfig, tensors: Mapping[str, Tensor]) -> MgeNetwork:
    """The network with the tensors named `mge.…`, in float32 and evaluation mode.

    Raises:
        ValueError: names every tensor that is missing, unknown, of another shape or type, or not finite.
    """
    return filled(lambda: MgeNetwork(config), part(tensors, PREFIX), PREFIX).eval()
