"""Diffusion by velocities on a cosine schedule, with a time for every track and frame, and sampling by DDIM.

A clean signal z and noise e make the noisy one a z + b e with a = cos(pi t / 2), b = sin(pi t / 2), t from 0, clean, to
1, noise; a network tells the velocity a e - b z (MGE-LDM, equations 1, 2, 9 and 10). Latents are
[row, track, channel, frame], times [row, track, frame or 1]. All noise is the caller's, as `noise_at` draws it, so what
is sampled is the same whenever it is asked for. What is longer than a window is sampled in several (`windows`).

z = sample(denoise, noise, steps=8)                                   # all of it new
z = sample(denoise, noise, steps=1, known=known, clean=given)         # Algorithm 2: what is known stays as it is
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from math import pi

import numpy as np
import torch
from torch import Tensor

from backline.kernels.random import normal_array

LEAST_TIME = 0.02  # from which on, in training and sampling, anything is noisy

Denoiser = Callable[[Tensor, Tensor], Tensor]  # noisy latents and times -> velocities
Conditional = Callable[[Tensor, Tensor, Tensor], Tensor]  # noisy latents, times and conditions -> velocities


def shares(times: Tensor) -> tuple[Tensor, Tensor]:
    """How much of the clean signal and of the noise there is at `times` [row, track, frame]: [row, track, 1, frame]."""
    angles = (pi / 2) * times[:, :, None]
    return angles.cos(), angles.sin()


def noisy(clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """The noisy latents at `times`."""
    alpha, beta = shares(times)
    return alpha * clean + beta * noise


def velocity(clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """What a network learns to tell."""
    alpha, beta = shares(times)
    return alpha * noise - beta * clean


def clean_and_noise(noisy: Tensor, velocity: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """What noisy latents and their velocity say of the clean ones, and of the noise."""
    alpha, beta = shares(times)
    return alpha * noisy - beta * velocity, beta * noisy + alpha * velocity


def schedule(steps: int) -> list[float]:
    """Times of so many steps, and the end: from 1 to 0, equally far apart; from 50 on those of the published code.

    Raises:
        ValueError: there are no steps.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}: use 1 or more")
    return [*torch.linspace(1.0, max(LEAST_TIME, 1 / steps), steps).tolist(), 0.0]


def sample(
    denoise: Denoiser,
    noise: Tensor,
    steps: int,
    known: Tensor | None = None,
    clean: Tensor | None = None,
    past: int = 0,
) -> Tensor:
    """Clean latents by DDIM with eta 0 (Algorithm 2).

    Args:
        noise: [row, track, channel, frame], what sampling begins with; only of what is not known it matters.
        known: bool [row, track, frame or 1], what is given: its time is 0 throughout, and it comes out as it went in.
        clean: latents, read where they are known.
        past: frames at the beginning that are given as well, but as noisy as all else: for networks that have one time
            for all of a track. They, too, come out as they went in.
    """
    if known is None:
        known = torch.zeros(*noise.shape[:2], 1, dtype=torch.bool, device=noise.device)
    unknown = (~known).to(noise.dtype)
    held, given = known[:, :, None], noise if clean is None else clean
    begun = torch.arange(noise.shape[-1], device=noise.device) < past
    z = torch.where(held, given, noise)
    for tau, following in pairwise(schedule(steps)):
        times = tau * unknown
        told, rest = clean_and_noise(z, denoise(z, times), times)
        if past:
            told, rest = torch.where(begun, given, told), torch.where(begun, noise, rest)
        z = torch.where(held, given, noisy(told, rest, following * unknown))
    return z


def repaint(
    denoise: Denoiser,
    draw: Callable[[], Tensor],
    steps: int,
    known: Tensor,
    clean: Tensor,
    repeats: int = 1,
) -> Tensor:
    """Clean latents by RePaint (Algorithm 1), for networks that know one time only: what is known is made as noisy.

    Args:
        draw: gives new noise [row, track, channel, frame] whenever it is called.
        known: bool [row, track, frame or 1].
        clean: latents, read where they are known.
        repeats: how often each step is taken, with noise added again in between; 1 is inpainting by a single sample.
    """
    held, z = known[:, :, None], draw()
    everywhere = torch.ones(*z.shape[:2], 1, dtype=z.dtype, device=z.device)
    for tau, following in pairwise(schedule(steps)):
        for repeat in range(repeats if following else 1):  # the last step leaves no noise to begin again from
            told, rest = clean_and_noise(z, denoise(z, tau * everywhere), tau * everywhere)
            known_then = noisy(clean, draw(), following * everywhere) if following else clean
            z = torch.where(held, known_then, noisy(told, rest, following * everywhere))
            if following and repeat < repeats - 1:
                kept = shares(tau * everywhere)[0] / shares(following * everywhere)[0]
                z = kept * z + (1 - kept**2).sqrt() * draw()
    return z


def guided(network: Conditional, condition: Tensor, scale: float) -> Denoiser:
    """Classifier-free guidance away from no condition at all, zeros for every track; scale 1 asks the network once."""

    def denoise(z: Tensor, times: Tensor) -> Tensor:
        if scale == 1:
            return network(z, times, condition)
        both = torch.cat([condition, torch.zeros_like(condition)])
        told, untold = network(torch.cat([z, z]), torch.cat([times, times]), both).chunk(2)
        return untold + scale * (told - untold)

    return denoise


def windows(frames: int, window: int, overlap: float) -> Iterator[tuple[int, int, int]]:
    """First frame of each window, the one after its last, and the first that is new; the last window ends the file."""
    hop = max(1, window - round(overlap * window))
    begun = 0
    while begun < frames:
        stop = min(frames, max(begun + hop, window))
        yield max(0, stop - window), stop, begun
        begun = stop


def noise_at(seed: int, stream: int, shape: tuple[int, int], start: int, stop: int) -> Tensor:
    """Noise [track, channel, frame] of some frames of a file: always the same for a seed."""
    tracks, channels = shape
    counters = np.arange(start, stop) * channels + np.arange(channels)[:, None]
    drawn = [normal_array(seed, stream * tracks + track, counters) for track in range(tracks)]
    return torch.from_numpy(np.stack(drawn))
