"""Trains MGE-LDM's network, one for all tasks: velocities of what is noisy, beside what is given (appendix C).

with producer(folder, ...):                                     # see mge_songs.py
    network, outcome = train_mge(loop, TRAININGS["small"], [towers], Pool(folder), held_out)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from backline.models.mge import config as sizes
from backline.models.mge.config import MgeConfig
from backline.models.mge.network import PREFIX, MgeNetwork
from backline.models.mge.tasks import SOURCE, TASKS
from backline.models.mge.words import TEMPLATES, phrase
from backline.nn.diffusion import guided, noisy, sample, velocity
from backline.nn.learning_rate import cosine_rate, inverse_rate
from backline.nn.precision import faster_in_bfloat16
from backline.training.averaged import Averaged
from backline.training.codec import evaluating
from backline.training.loop import LoopConfig, Losses, Moment, Outcome, pick_device, train
from backline.training.mge_rows import PAPER, SMALL, Drawing, Drawn, Reader, window
from backline.training.mge_songs import Encoded, Pool, spread

WATCHED = "loss"
HELD_OUT_BATCHES = 8  # drawn from the held-out songs once, then the same each time
AUDIBLE = 0.1  # mean square by which the latents of what sounds differ from silence, in units of their variance
REFRESHED = 20  # steps between looks for new songs


@dataclass(frozen=True)
class MgeTraining:
    """What is trained and how hard; the defaults are the paper's, and where it is silent its code's (MODELS.md D1)."""

    mge: MgeConfig = sizes.PAPER
    drawn: Drawn = PAPER
    rate: float = 5e-5
    decay: Literal["inverse", "cosine"] = "inverse"  # of the rate: with the steps, or with the budget
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 1e-3
    average: float = 0.9999  # share of the weights' average that each step leaves
    clip: float = 1.0


TRAININGS = {
    "paper": MgeTraining(),
    "small": MgeTraining(sizes.SMALL, SMALL, 1e-3, "cosine", (0.9, 0.98), 0.01, 0.999),
    "tiny": MgeTraining(sizes.TINY, replace(SMALL, rows=4), 3e-3, "cosine", (0.9, 0.98), 0.01, 0.99),
}


def train_mge(
    loop: LoopConfig,
    config: MgeTraining,
    readers: Sequence[Reader],
    pool: Pool,
    held_out: Sequence[Encoded],
    device: str = "auto",
) -> tuple[MgeNetwork, Outcome]:
    """Trains until the budget of `loop` is used up, or goes on with what is in its folder; the average is returned.

    Args:
        readers: what may hear phrases; validation asks the first.
        pool: what it learns from, which may grow meanwhile.
        held_out: songs that the best weights are chosen by.
    """
    torch.manual_seed(loop.seed)
    trainer = MgeTrainer(config, readers, pool, loop.seed, pick_device(device))
    outcome = train(loop, trainer.step, trainer.state(), lambda: trainer.validate(held_out), WATCHED)
    return trainer.learner.average, outcome


class MgeTrainer:
    """The network, the average of its weights, and its data."""

    def __init__(
        self, config: MgeTraining, readers: Sequence[Reader], pool: Pool, seed: int, device: torch.device
    ) -> None:
        self.config, self.readers, self.pool, self.device = config, readers, pool, device
        network = MgeNetwork(config.mge)
        pool.refresh()
        mean, deviation = spread(pool.songs)
        network.mean.copy_(mean)
        network.deviation.copy_(deviation)
        self.learner = Averaged(network.to(device), config)
        self.drawing = self.drawn_by(seed)
        self.bfloat16 = faster_in_bfloat16(device)

    def drawn_by(self, seed: int) -> Drawing:
        mge = self.config.mge
        return Drawing(self.config.drawn, self.readers, mge.window_frames, mge.network.time, seed)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {**self.learner.state(), "drawing": self.drawing}

    def step(self, moment: Moment) -> Losses:
        """One optimiser step on one batch."""
        if moment.step % REFRESHED == 0:
            self.pool.refresh()
        return self.learner.step(self.loss(self.learner.network, self.drawing), self.rate(moment), moment)

    def rate(self, moment: Moment) -> float:
        """The learning rate of a step."""
        if self.config.decay == "inverse":
            return inverse_rate(moment.step, self.config.rate, slowness=1e6, power=0.5, warmup=0.99)
        return cosine_rate(moment.step, moment.progress, self.config.rate, floor=0.03)

    def loss(self, network: MgeNetwork, drawing: Drawing, songs: Sequence[Encoded] | None = None) -> Tensor:
        """The mean squared error of the velocities of all that is noisy in a new batch."""
        batch = drawing.batch(self.pool.songs if songs is None else songs).to(self.device)
        clean = network.normed(batch.clean)
        noise = torch.randn(clean.shape).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            told = network(noisy(clean, noise, batch.times), batch.times, batch.condition)
        errors = (told.float() - velocity(clean, noise, batch.times)).square().mean(dim=2)  # [row, track, frame]
        counted = (batch.times > 0).expand_as(errors)
        return errors[counted].mean()

    @torch.no_grad()
    def validate(self, songs: Sequence[Encoded]) -> dict[str, float]:
        """What held-out songs say of the average.

        `loss` is that of training, on the same draws each time. Each stem that sounds in the middle of a song is asked
        for, "the sound of the ..", and extracted in one step: `error` is the squared error of its latents, in units of
        their variance, and `found` the share for which no other stem of the song is nearer.
        """
        network = self.learner.average
        errors, found = [], []
        with evaluating(network), torch.random.fork_rng():
            torch.manual_seed(0)
            drawing = self.drawn_by(0)
            losses = [float(self.loss(network, drawing, songs)) for _ in range(HELD_OUT_BATCHES)]
            for song in songs:
                stems, answers = self.extracted(network, song)
                if not len(stems):
                    continue
                away = (answers[:, None] - stems[None]).square().mean(dim=(2, 3))  # [asked, stem]
                errors += away.diagonal().tolist()
                found += (away.argmin(dim=1) == torch.arange(len(away), device=away.device)).float().tolist()
        return {
            "loss": sum(losses) / len(losses),
            "error": float(np.mean(errors)) if errors else 0.0,
            "found": float(np.mean(found)) if found else 0.0,
        }

    def extracted(self, network: MgeNetwork, song: Encoded) -> tuple[Tensor, Tensor]:
        """A song's stems that sound and have names, and what one step answers each query: [stem, channel, frame]."""
        frames = self.config.mge.window_frames
        start = max(0, (song.frames - frames) // 2)
        cut = network.normed(torch.from_numpy(window(song, range(len(song.subsets)), start, frames)).to(self.device))
        sounding = (cut - cut[0]).square().mean(dim=(1, 2)).cpu().numpy() > AUDIBLE
        singles = np.flatnonzero(sounding & (song.subsets.sum(axis=1) == 1)).tolist()
        asked = [subset for subset in singles if all(song.named(subset))]
        stems, mixture = cut[asked], cut[-1]
        if not asked:
            return stems, stems
        words = [song.named(subset)[0][0] for subset in asked]
        prompts = torch.stack([self.readers[0].embed(phrase(TEMPLATES[0], word)) for word in words]).to(self.device)
        task = TASKS["extract"]
        clean = mixture.expand(len(stems), 3, -1, -1)
        noise = torch.randn(clean.shape).to(self.device)
        denoise = guided(network, network.asked(prompts.float(), task), 1.0)
        return stems, sample(denoise, noise, 1, task.known(len(stems)).to(self.device), clean)[:, SOURCE]


def packed(network: MgeNetwork, dtype: torch.dtype = torch.float16) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a pack carries of a network: the [mge] table, and tensors named `mge.…`."""
    tensors = {PREFIX + name: value.detach().to("cpu", dtype) for name, value in network.state_dict().items()}
    return asdict(network.config), tensors
