"""Trains HAFM's stages as published (section 3.5, table 1): counted steps, all conditions dropped together, in the
paper's layout; or in the chunk-interleaved one, in which a stage is played live.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from backline.corpus.pair_tokens import Tokens, batch_of, crop, quanta_of
from backline.measures.stages import StageLosses, stage_losses
from backline.models.hafm.grid import CHUNK_QUANTUM, Grid
from backline.models.hafm.interleaved.band import PREDICTED
from backline.models.hafm.interleaved.config import CLIPS, StageConfig
from backline.models.hafm.interleaved.layout import Layout, interleaved, paper
from backline.models.hafm.interleaved.network import StageNetwork, quantizer_losses
from backline.nn.learning_rate import counted_rate, set_rate
from backline.nn.precision import faster_in_bfloat16
from backline.training.loop import LoopConfig, Losses, Moment, Outcome, train
from backline.training.team import ALONE, Team

NO_VECTORS: Mapping[str, Tensor] = {}
Precision = Literal["auto", "float32", "bfloat16", "float16"]
Order = Literal["paper", "stream"]

WARM_UP = 4_000  # steps, of the paper's 100,000 and more; a shorter training warms up for a tenth of its steps
SERVED = Fraction(4, 5)  # seconds, the chunk that a stream's pack is played in unless a session asks otherwise
CHUNKS = tuple(Fraction(n, 5) for n in (2, 4, 8, 16))  # seconds, that a stream's stage is trained in
FURTHEST = Fraction(2)  # seconds that it may have to play ahead


@dataclass(frozen=True)
class StageTraining:
    """How a stage is trained. What table 1 does not say of a stage is the same for all three."""

    clip: Fraction  # seconds
    batch: int  # clips of one pass, over all processes together
    accumulate: int  # passes of one step
    steps: int
    peak: float = 3e-4
    least: float = 1e-6
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    drop: float = 0.1  # of all conditions at once, per clip
    order: Order = "paper"

    @property
    def warm_up(self) -> int:
        return min(WARM_UP, self.steps // 10)

    def rate(self, step: int) -> float:
        """The learning rate of step number `step`, from 0 on."""
        return counted_rate(step, self.steps, self.peak, self.warm_up, self.least)


TABLE_1 = {
    "semantic": StageTraining(CLIPS["semantic"], batch=210, accumulate=1, steps=100_000),
    "coarse": StageTraining(CLIPS["coarse"], batch=42, accumulate=2, steps=200_000),
    "fine": StageTraining(CLIPS["fine"], batch=140, accumulate=1, steps=150_000),
}


def train_stage(
    name: str,
    stage: StageConfig,
    training: StageTraining,
    loop: LoopConfig,
    songs: Sequence[Tokens],
    held_out: Sequence[Tokens],
    device: torch.device,
    precision: Precision = "auto",
    team: Team = ALONE,
    vectors: Mapping[str, Tensor] = NO_VECTORS,
) -> Outcome:
    """Trains stage `name` for the steps of `loop`, or goes on with what is in its folder.

    Args:
        vectors: [token, code_width] that factorised tables begin with, by the source whose tokens they are.

    Raises:
        ValueError: no song is as long as a clip, the batch cannot be shared by the team, or there is no such precision
            here.
    """
    torch.manual_seed(loop.seed)
    trainer = StageTrainer(name, stage, training, songs, loop.seed, device, precision, team)
    begin_with(trainer.network, PREDICTED[name], vectors)
    judge = Judge(name, stage, training, held_out)
    return train(loop, trainer.step, trainer.state(), lambda: judge(trainer.network), "loss", team=team)


@torch.no_grad()
def begin_with(network: StageNetwork, predicted: str, vectors: Mapping[str, Tensor]) -> None:
    """Gives factorised tables of one codebook what is known of their tokens, at the length that embeddings have here.

    Args:
        predicted: the source that the stage's own tokens become.
    """
    tables = {name: network.conditions[name] for name in network.entrances}
    if network.factorised:
        tables[predicted] = network.prediction
    for name in tables.keys() & vectors.keys():
        known = vectors[name].to(tables[name])
        tables[name][0, :-1] = known * (known.shape[1] * known.square().mean()) ** -0.5


class StageTrainer:
    """One stage and what trains it. Everything that is drawn depends on seed, step and process alone."""

    def __init__(
        self,
        name: str,
        stage: StageConfig,
        training: StageTraining,
        songs: Sequence[Tokens],
        seed: int,
        device: torch.device,
        precision: Precision = "auto",
        team: Team = ALONE,
    ) -> None:
        if training.batch % team.size:
            raise ValueError(f"a batch of {training.batch} for {team.size} processes: use a multiple of {team.size}")
        self.name, self.stage, self.training, self.seed, self.team = name, stage, training, seed, team
        self.device, self.dtype = device, chosen(precision, device)
        self.clips = Clips(songs, training.clip)
        self.network = StageNetwork(stage).to(device)
        self.working = team.parallel(self.network)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), training.peak, training.betas, weight_decay=training.weight_decay
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype is torch.float16)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"model": self.network, "optimizer": self.optimizer, "scaler": self.scaler}

    def step(self, moment: Moment) -> Losses:
        """One optimiser step."""
        training = self.training
        rate = training.rate(moment.step)
        set_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros(self.stage.quantizers, device=self.device)
        for number in range(training.accumulate):
            losses = self._pass(moment.step, number, last=number == training.accumulate - 1)
            total += losses.detach() / training.accumulate
        self.scaler.unscale_(self.optimizer)
        norm = float(nn.utils.clip_grad_norm_(self.network.parameters(), training.clip_norm))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        # In float16 a gradient may be too large: such a step is left out, and the next one scaled less.
        return named_losses(total) | ({"norm": norm} if np.isfinite(norm) else {}) | {"rate": rate}

    def _pass(self, step: int, number: int, last: bool) -> Tensor:
        """Adds the gradients of one pass of a step; its losses [quantizer]."""
        rows = self.training.batch // self.team.size
        shared = np.random.default_rng([self.seed, len(self.name), step, number])  # one layout for all processes
        layout = drawn_layout(self.stage, self.training, shared)
        random = np.random.default_rng([self.seed, len(self.name), step, number, 1 + self.team.rank])
        conditions, targets = batch_of(self.clips.draw(rows, random), self.name, self.stage)
        drop = torch.from_numpy(random.random((rows, 1)) < self.training.drop).expand(-1, len(self.stage.sources))
        conditions = [tokens.to(self.device) for tokens in conditions]
        targets = targets.to(self.device)
        with _quietly(self.working, last):
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32):
                logits = self.working(conditions, targets, layout, drop.to(self.device))
            losses = quantizer_losses(logits, targets).mean(0)
            self.scaler.scale(losses.mean() / self.training.accumulate).backward()
        return losses


def named_losses(losses: Tensor) -> dict[str, float]:
    """`loss`, and `loss_1` to `loss_n` for n quantizers."""
    parts = {f"loss_{number}": float(loss) for number, loss in enumerate(losses, 1)} if len(losses) > 1 else {}
    return {"loss": float(losses.mean())} | parts


def drawn_layout(stage: StageConfig, training: StageTraining, random: np.random.Generator) -> Layout:
    """The paper's, or for a stream any chunk that fits, or the whole clip, heard to its end in half of the batches."""
    if training.order == "paper":
        return paper(stage, training.clip)
    chunks = [chunk for chunk in CHUNKS if chunk < training.clip] + [training.clip]
    chunk = chunks[int(random.integers(len(chunks)))]
    ahead, quanta = int(FURTHEST / CHUNK_QUANTUM), int(chunk / CHUNK_QUANTUM)
    visible = quanta if random.random() < 0.5 else int(random.integers(-ahead, quanta + 1))
    return interleaved(stage, training.clip, Grid(chunk, visible * CHUNK_QUANTUM))


def chosen(precision: Precision, device: torch.device) -> torch.dtype:
    """What networks compute in; "auto": float16 on a GPU, as the paper does, and what is fastest on a CPU.

    Raises:
        ValueError: the device cannot.
    """
    if precision == "auto":
        if device.type == "cuda":
            return torch.float16
        return torch.bfloat16 if faster_in_bfloat16(device) else torch.float32
    if precision == "float16" and device.type != "cuda":
        raise ValueError("float16 needs a GPU: use bfloat16 or float32")
    found: torch.dtype = getattr(torch, precision)
    return found


@contextmanager
def _quietly(network: nn.Module, last: bool) -> Iterator[None]:
    """Gradients are exchanged in the last pass of a step only."""
    waits = not last and isinstance(network, nn.parallel.DistributedDataParallel)
    with network.no_sync() if waits else nullcontext():  # type: ignore[operator]
        yield


# ---- clips ---------------------------------------------------------------------------------------------


class Clips:
    """Clips from anywhere in songs; all places are equally likely."""

    def __init__(self, songs: Sequence[Tokens], seconds: Fraction) -> None:
        """Raises ValueError: no song is so long."""
        self.quanta = int(seconds / CHUNK_QUANTUM)
        self.songs = [song for song in songs if quanta_of(song) >= self.quanta]
        if not self.songs:
            raise ValueError(f"no song lasts {float(seconds):g} s: give longer ones, or shorten the clip")
        self.ends = np.cumsum([quanta_of(song) - self.quanta + 1 for song in self.songs])

    def draw(self, count: int, random: np.random.Generator) -> list[Tokens]:
        """So many clips."""
        found = []
        for place in random.integers(self.ends[-1], size=count):
            number = int(np.searchsorted(self.ends, place, side="right"))
            song = self.songs[number]
            found.append(crop(song, int(self.ends[number] - 1 - place), self.quanta))
        return found


class Judge:
    """Cross-entropy on songs that nothing is learnt from, a clip from the middle of each, in the layout of serving."""

    def __init__(self, name: str, stage: StageConfig, training: StageTraining, songs: Sequence[Tokens]) -> None:
        clip = training.clip
        quanta = int(clip / CHUNK_QUANTUM)
        clips = [crop(song, (quanta_of(song) - quanta) // 2, quanta) for song in songs if quanta_of(song) >= quanta]
        if len(clips) < 2:
            raise ValueError(f"{len(clips)} songs to choose by last {float(clip):g} s: prepare more for validation")
        self.conditions, self.targets = batch_of(clips, name, stage)
        served = clip if training.order == "paper" else min(SERVED, clip)
        self.layout = interleaved(stage, clip, Grid(served, served))

    def __call__(self, network: StageNetwork) -> dict[str, float]:
        """Means and standard errors, in nats per token."""
        return flat(stage_losses(network, self.conditions, self.targets, self.layout))


def flat(losses: StageLosses) -> dict[str, float]:
    """Figures by name, and their errors as `name_error`."""
    found = {}
    for name, figure in losses.figures().items():
        name = name.replace(" ", "_")
        found[name] = figure.mean
        if name.startswith("gain") and figure.error is not None:
            found[f"{name}_error"] = figure.error
    return found
