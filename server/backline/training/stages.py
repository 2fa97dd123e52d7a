"""Trains one of HAFM's stages on tokens of composed songs, in the chunk-interleaved layout it is served in."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from backline.models.hafm.config import StageConfig
from backline.models.hafm.layout import CHUNK_QUANTUM, Grid, Layout, interleaved
from backline.models.hafm.network import StageNetwork, quantizer_losses
from backline.training.loop import LoopConfig, Losses, Moment, Outcome, cosine_rate, pick_device, set_rate, train
from backline.training.precision import faster_in_bfloat16
from backline.training.tokens import ShardReader, Tokens, crop, stack

TARGETS = {"semantic": "instrumental", "coarse": "coarse", "fine": "fine"}


@dataclass(frozen=True)
class StageTraining:
    """How a stage is trained. The optimiser's values are the paper's, but for the shorter warm-up and higher rate."""

    clip: Fraction  # seconds
    rows: int
    cuts: int = 1  # crops of the same song that a stage may meet: where it learns faster than songs can be made
    batches_held: int = 32  # how many batches the crops at hand make, from which each is drawn
    rate: float = 1e-3
    warmup_steps: int = 200
    weight_decay: float = 0.01
    drop: float = 0.1  # of all sources at once, per sample
    drop_transport: float = 0.3  # of the transport alone: not every host has one
    chunks: tuple[Fraction, ...] = tuple(Fraction(n, 5) for n in (2, 4, 8, 16))
    served: Fraction = Fraction(4, 5)  # the chunk that half of the batches have
    furthest: Fraction = Fraction(2)  # seconds that a model may have to play ahead


# Clips fill the window that the stage is served with, and some of what lies beyond it.
TRAINING = {
    "semantic": StageTraining(clip=Fraction(4), rows=3, cuts=4, rate=2e-3),
    "coarse": StageTraining(clip=Fraction(44, 25), rows=4, rate=2e-3),
    "fine": StageTraining(clip=Fraction(44, 25), rows=4, rate=2e-3),
}


def train_stage(
    name: str,
    stage: StageConfig,
    loop: LoopConfig,
    shards: Path,
    held_out: list[Tokens],
    training: StageTraining,
    device: str = "auto",
) -> tuple[StageNetwork, Outcome]:
    """Trains stage `name` until the budget of `loop` is used up, or goes on with what is in its folder.

    Args:
        shards: folder that training/tokens.py fills, before or meanwhile.
        held_out: songs on which the stage is judged.
    Returns:
        The network at its best validation.
    """
    place = pick_device(device)
    torch.manual_seed(loop.seed)
    reader = ShardReader(
        shards,
        stage,
        TARGETS[name],
        training.clip,
        training.rows,
        loop.seed,
        training.cuts,
        training.batches_held,
    )
    trainer = StageTrainer(stage, training, reader, loop.seed, place)
    judge = Judge(stage, TARGETS[name], training, held_out)
    outcome = train(loop, trainer.step, trainer.state(), lambda: judge(trainer.network), "loss")
    return best_network(loop.out, stage), outcome


class StageTrainer:
    """One stage and what trains it. Where bfloat16 is faster, a copy in it computes and float32 weights learn."""

    def __init__(
        self, stage: StageConfig, training: StageTraining, reader: ShardReader, seed: int, device: torch.device
    ) -> None:
        self.training, self.reader, self.device = training, reader, device
        self.network = StageNetwork(stage).to(device)
        decayed = [p for p in self.network.parameters() if p.dim() == 2]
        others = [p for p in self.network.parameters() if p.dim() != 2]
        groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, training.rate, betas=(0.9, 0.98), weight_decay=training.weight_decay)
        self.working = copy.deepcopy(self.network).bfloat16() if faster_in_bfloat16(device) else self.network
        self.draw = Draw(training, stage, seed)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"model": self.network, "optimizer": self.optimizer, "reader": self.reader, "draw": self.draw}

    def step(self, moment: Moment) -> Losses:
        """One optimiser step on one batch."""
        rate = cosine_rate(moment, self.training.rate, self.training.warmup_steps)
        set_rate(self.optimizer, rate)
        conditions, targets = self.reader.batch()
        layout, drop = self.draw.layout(), self.draw.dropped(len(targets)).to(self.device)
        conditions, targets = [tokens.to(self.device) for tokens in conditions], targets.to(self.device)
        if self.working is not self.network:
            with torch.no_grad():
                for low, high in zip(self.working.parameters(), self.network.parameters(), strict=True):
                    low.copy_(high)
        losses = quantizer_losses(self.working(conditions, targets, layout, drop).float(), targets)
        self.working.zero_grad(set_to_none=True)
        losses.mean().backward()
        if self.working is not self.network:
            for low, high in zip(self.working.parameters(), self.network.parameters(), strict=True):
                high.grad = None if low.grad is None else low.grad.to(high.dtype)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        return named_losses(losses.detach()) | {"norm": float(norm), "rate": rate}


class Draw:
    """Random choices of a batch: chunk and visibility, and which samples do without which source."""

    def __init__(self, training: StageTraining, stage: StageConfig, seed: int) -> None:
        self.training, self.stage = training, stage
        self.random = np.random.default_rng([seed, 1])

    def layout(self) -> Layout:
        """A served chunk in half of the batches, else another or the whole clip; any visibility that fits."""
        training = self.training
        if self.random.random() < 0.5:
            chunk = training.served
        else:
            chunk = (*training.chunks, training.clip)[int(self.random.integers(len(training.chunks) + 1))]
        ahead, quanta = int(training.furthest / CHUNK_QUANTUM), int(chunk / CHUNK_QUANTUM)
        visibility = (
            chunk if self.random.random() < 0.5 else CHUNK_QUANTUM * int(self.random.integers(-ahead, quanta + 1))
        )
        return interleaved(self.stage, training.clip, Grid(chunk, visibility))

    def dropped(self, rows: int) -> Tensor:
        """[row, source]"""
        drop = np.repeat(self.random.random((rows, 1)) < self.training.drop, len(self.stage.sources), axis=1)
        for number, source in enumerate(self.stage.sources):
            if source.name == "transport":
                drop[:, number] |= self.random.random(rows) < self.training.drop_transport
        return torch.from_numpy(drop)

    def state_dict(self) -> dict[str, Any]:
        return self.random.bit_generator.state  # type: ignore[return-value]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.random.bit_generator.state = state


class Judge:
    """Cross-entropy on held-out songs, as served, and without any conditioning."""

    def __init__(self, stage: StageConfig, target: str, training: StageTraining, songs: list[Tokens]) -> None:
        quanta = int(training.clip / CHUNK_QUANTUM)
        crops = [crop(tokens, 0, quanta) for tokens in songs]
        self.batches = [
            stack(crops[at : at + training.rows], stage, target) for at in range(0, len(crops), training.rows)
        ]
        served = min(training.served, training.clip)
        self.layout = interleaved(stage, training.clip, Grid(served, served))
        self.sources = len(stage.sources)

    @torch.no_grad()
    def __call__(self, network: StageNetwork) -> dict[str, float]:
        """`loss`, its parts by quantizer where there are several, and `unconditional`; in nats per token."""
        device = next(network.parameters()).device
        found: dict[bool, list[Tensor]] = {False: [], True: []}
        for conditions, targets in self.batches:
            for dropped, losses in found.items():
                drop = torch.full((len(targets), self.sources), dropped, device=device)
                logits = network([tokens.to(device) for tokens in conditions], targets.to(device), self.layout, drop)
                losses.append(quantizer_losses(logits, targets.to(device)))
        with_all, without = (torch.stack(losses).mean(0) for losses in found.values())
        return named_losses(with_all) | {"unconditional": float(without.mean())}


def named_losses(losses: Tensor) -> dict[str, float]:
    """`loss`, and `loss_1` to `loss_n` for n quantizers."""
    parts = {f"loss_{number}": float(loss) for number, loss in enumerate(losses, 1)} if len(losses) > 1 else {}
    return {"loss": float(losses.mean())} | parts


def best_network(out: Path, stage: StageConfig) -> StageNetwork:
    """The network of a training folder at its best validation, or its latest where there was none yet."""
    path = out / "best.pt" if (out / "best.pt").exists() else out / "checkpoint.pt"
    network = StageNetwork(stage)
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=False)["state"]["model"])
    return network.eval()
