"""Whole sounds to latents and back, a block at a time and the same as at once."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backline.codecs.vae.config import Vae

Sound = NDArray[np.float32]  # [sample]
Audio = NDArray[np.float32]  # [channel, sample]
BLOCK = 256  # latent frames at a time


@torch.inference_mode()
def encoded(vae: Vae, sound: Audio, frames: int) -> Tensor:
    """Latents [channel, frame] of a sound, [sample] or [channel, sample], and the silence after it."""
    silence = [*((0, 0) for _ in sound.shape[:-1]), (0, frames * vae.hop - sound.shape[-1])]
    padded = torch.from_numpy(np.pad(sound, silence))
    before, after = (ceil(samples / vae.hop) for samples in vae.reach)

    def block(start: int, stop: int) -> Tensor:
        return vae.encode(padded[None, ..., start * vae.hop : stop * vae.hop])[0]

    return by_blocks(block, frames, before, after, 1)


@torch.inference_mode()
def decoded(vae: Vae, latents: Tensor) -> Sound:
    """The sound [sample] of latents [channel, frame], the mean of its channels, by a VAE on the CPU."""
    mean: Sound = decoded_channels(vae, latents.cpu()).mean(axis=0)
    return mean


@torch.inference_mode()
def decoded_channels(vae: Vae, latents: Tensor) -> Audio:
    """The sound [channel, sample] of latents [channel, frame] that are where the VAE is."""

    def block(start: int, stop: int) -> Tensor:
        return vae.sound(latents[None, :, start:stop])[0].cpu()

    return by_blocks(block, latents.shape[1], *vae.decode_reach, vae.hop).numpy()


def by_blocks(block: Callable[[int, int], Tensor], frames: int, before: int, after: int, scale: int) -> Tensor:
    """What `block(start, stop)` gives of all frames, of each block without what hears too little of its neighbours.

    Args:
        before, after: frames that each frame's output depends on, beside its own.
        scale: steps of output a frame.
    """
    pieces = []
    for start in range(0, frames, BLOCK):
        stop = min(frames, start + BLOCK)
        first = max(0, start - before)
        heard = block(first, min(frames, stop + after))
        pieces.append(heard[..., (start - first) * scale : (stop - first) * scale])
    return torch.cat(pieces, dim=-1)
