"""One window of MGE-LDM, answered: what is new at its end is denoised beside what is given and what has been said.

    answerer = Answerer(network, vae, "cpu")
    (answered,) = answerer.answer([Asked(...)])          # keeps nothing of a session: a stream keeps what is between

Of a window, the given track is heard anew, with as much before it as the VAE's encoder reaches; the past of the others
is what the window before has said, where a task goes on from that. Networks with a time for every frame are told all of
that clean; others get the past as noisy as the rest, as the authors' code does. Noise is drawn by seed and absolute
frame (offline.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import ceil
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backline.codecs.vae.config import Vae
from backline.models.mge.network import MgeNetwork
from backline.models.mge.tasks import TASKS, TRACKS, Task
from backline.models.rows import each, together
from backline.models.stream import Audio
from backline.models.windowed.finish import MARGIN
from backline.models.windowed.polarity import polarity
from backline.nn.diffusion import guided, noise_at, sample
from backline.nn.dit import to_bfloat16
from backline.nn.precision import faster_in_bfloat16

Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class Asked:
    """What one row asks of one window."""

    row: int
    audio: Audio  # [channel, sample]: `Answerer.lead` frames, and the window
    latents: Tensor  # [track, channel, frame] as the network knows them; read where frames are not new
    first_frame: int  # of the window, since the session's start; negative before it
    new_frames: int  # at its end, that are told; fewer than there are of the window, or all
    kept: slice  # samples of the window that are played
    task: Task
    played: tuple[int, ...]  # tracks that are decoded
    prompt: Tensor  # [dimension]; zeros ask for nothing
    seed: int
    steps: int
    guidance: float

    @property
    def masks(self) -> bool:
        """Whether what is decoded becomes masks of the input, which look at what lies around."""
        return self.task == TASKS["extract"]


@dataclass(frozen=True)
class Answered:
    """What the model makes of it."""

    latents: Tensor  # [track, channel, frame] of the window
    sounds: NDArray[np.float32]  # [played track, 1, sample] of the window: what is kept, with a margin for masks


class Answerer:
    """A network with its VAE. Rows share calls where that is not on a CPU; there, no row's samples depend on others."""

    def __init__(self, network: MgeNetwork, vae: nn.Module, device: str, precision: Precision = "auto") -> None:
        """
        Args:
            vae: a `Vae`.
            precision: of the network's products; "auto" is bfloat16 where this machine is faster in it.
        """
        place = torch.device(device)
        self.network, self.device = network.eval().requires_grad_(False).to(place), device
        self.vae: Vae = vae.to(place)  # type: ignore[assignment]
        self.sample_rate, self.frame_samples = self.vae.sample_rate, self.vae.hop
        self.window_frames = network.config.window_frames
        self.lead = ceil(self.vae.reach[0] / self.vae.hop)
        self.bfloat16 = faster_in_bfloat16(place) if precision == "auto" else precision == "bfloat16"
        if self.bfloat16:
            to_bfloat16(network.dit)
        self.batches = place.type != "cpu"

    @torch.inference_mode()
    def silence(self) -> Tensor:
        """Latents [track, channel, frame] of a window of silence on every track."""
        reach = ceil(self.vae.reach[1] / self.frame_samples)
        nothing = torch.zeros(1, (self.lead + 1 + reach) * self.frame_samples, device=self.device)
        frame = self.network.normed(self.vae.encode(nothing))[0, :, self.lead : self.lead + 1]
        return frame.expand(len(TRACKS), -1, self.window_frames).contiguous()

    def answer(self, windows: Sequence[Asked]) -> list[Answered | Exception]:
        """Every window, each row at most once, answered in this order; what a row fails of is its answer."""
        return together(windows, self._answered) if self.batches else each(lambda it: self._answered([it])[0], windows)

    @torch.inference_mode()
    def _answered(self, windows: Sequence[Asked]) -> list[Answered]:
        given = [at for at, it in enumerate(windows) if it.task.given is not None]
        heard = dict(zip(given, self._heard([windows[at] for at in given]), strict=True)) if given else {}
        answers: dict[int, Answered] = {}
        ordered = sorted(range(len(windows)), key=lambda at: self._shared(windows[at]))
        for _, members in groupby(ordered, key=lambda at: self._shared(windows[at])):
            rows = list(members)
            asked = [windows[at] for at in rows]
            latents = self._told(asked, [heard.get(at) for at in rows])
            for at, row, sounds in zip(rows, latents, self._decoded(asked, latents), strict=True):
                answers[at] = Answered(row, sounds)
        return [answers[at] for at in range(len(windows))]

    def _shared(self, asked: Asked) -> tuple[int, float, int, int, int]:
        """What rows must have in common to be told and decoded in one call."""
        past = 0 if self.network.config.network.time == "frame" else asked.new_frames
        return asked.steps, asked.guidance, past, asked.kept.start, asked.kept.stop

    def _heard(self, windows: Sequence[Asked]) -> Tensor:
        """Latents [row, channel, frame] of what the rows hear, of their windows alone; at least one."""
        samples = self.window_frames * self.frame_samples
        mono = [(it.audio * polarity(it.audio[:, -samples:])).mean(axis=0, dtype=np.float32) for it in windows]
        latents = self.vae.encode(torch.from_numpy(np.stack(mono)).to(self.device))
        return self.network.normed(latents[..., self.lead :])

    def _told(self, asked: Sequence[Asked], heard: Sequence[Tensor | None]) -> Tensor:
        """Latents [row, track, channel, frame] of rows with equal steps, guidance and, if need be, past."""
        config, first = self.network.config, asked[0]
        clean = torch.stack([it.latents for it in asked])
        known = torch.cat([it.task.known(1) for it in asked]).to(self.device)
        for row, (it, latents) in enumerate(zip(asked, heard, strict=True)):
            if it.task.given is not None and latents is not None:
                clean[row, it.task.given] = latents
        past = config.window_frames - first.new_frames
        if config.network.time == "frame":
            begun = torch.tensor([[config.window_frames - it.new_frames] for it in asked], device=self.device)
            known = known | (torch.arange(config.window_frames, device=self.device) < begun)[:, None]
            past = 0
        shape = len(TRACKS), config.network.channels
        frames = [(it.first_frame, it.first_frame + config.window_frames) for it in asked]
        noise = torch.stack([noise_at(it.seed, 0, shape, *span) for it, span in zip(asked, frames, strict=True)])
        condition = torch.cat([self.network.asked(it.prompt[None].to(self.device), it.task) for it in asked])
        denoise = guided(self._velocity, condition, first.guidance)
        return sample(denoise, noise.to(self.device), first.steps, known, clean, past)

    def _velocity(self, noisy: Tensor, times: Tensor, condition: Tensor) -> Tensor:
        if not self.bfloat16:
            velocity: Tensor = self.network(noisy, times, condition)
            return velocity
        with torch.autocast(torch.device(self.device).type, torch.bfloat16):
            return self.network(noisy, times, condition).float()

    def _decoded(self, asked: Sequence[Asked], latents: Tensor) -> list[NDArray[np.float32]]:
        """The sounds that are played, of all rows in one call where they keep the same of their windows."""
        hop, samples = self.frame_samples, self.window_frames * self.frame_samples
        before, after = self.vae.decode_reach
        wanted, margin = asked[0].kept, MARGIN if any(it.masks for it in asked) else 0
        start, stop = max(0, (wanted.start - margin) // hop), min(self.window_frames, -(-(wanted.stop + margin) // hop))
        first = max(0, start - before)
        tracks = torch.cat([row[list(it.played)] for it, row in zip(asked, latents, strict=True)])
        sounds = self.vae.decode(self.network.unnormed(tracks)[..., first : stop + after])
        sounds = sounds[:, (start - first) * hop : (stop - first) * hop].cpu()
        placed = np.zeros((len(tracks), 1, samples), np.float32)
        placed[:, 0, start * hop : stop * hop] = sounds.numpy()
        edges = np.cumsum([len(it.played) for it in asked])[:-1]
        return list(np.split(placed, edges))

    def resident_bytes(self) -> int:
        """Weights of network and VAE."""
        assert isinstance(self.vae, nn.Module)
        parts = (self.network, self.vae)
        weights = [weight for part in parts for weight in (*part.parameters(), *part.buffers())]
        return sum(weight.numel() * weight.element_size() for weight in weights)
