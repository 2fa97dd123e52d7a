"""Trains HAFM's stages in the aligned layout, on tokens of composed songs."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from backline.models.hafm.aligned.config import CHORD, LAG, LONGEST_LAG, LOOKAHEAD, VOICE, AlignedStageConfig
from backline.models.hafm.aligned.network import EMBEDDING_STD, AlignedNetwork, aligned, delayed_losses, lag_token
from backline.models.hafm.grid import CHUNK_QUANTUM
from backline.models.hafm.load import read_network
from backline.models.hafm.score import BAND_TURNS, VOICE_TURNS, pitch_and_colour, transposed
from backline.nn.learning_rate import cosine_rate, set_rate
from backline.nn.precision import faster_in_bfloat16
from backline.training.loop import LoopConfig, Losses, Moment, Outcome, pick_device, train
from backline.training.tokens import ShardReader, Tokens, crop

WATCHED = "loss"  # the validation result by which the best is told
TARGETS = {"semantic": "band", "acoustic": "codes"}  # stage -> the tokens that it predicts


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
    drop: tuple[tuple[str, float], ...] = ()  # share of the rows in which a source is unknown, by its name
    served: float = 0.85  # share of the rows whose voice is heard as early as a session can, LOOKAHEAD before its time
    misplayed: float = 0.0  # share of the chords that went in as another: the chord that leads counts, not what was
    weights: tuple[float, ...] = ()  # of the codebooks in the loss; none: all the same
    in_c: bool = False  # every song is transposed there


# Clips are longer than the window that the stage is served with, so that training, too, meets windows that have slid.
TRAINING = {
    "semantic": StageTraining(
        clip=Fraction(8), rows=5, cuts=8, rate=2e-3, drop=(("vocal", 0.1), ("beat", 0.15)), in_c=True,
        misplayed=0.6, weights=(1.0, 2.0, 1.0, 1.0, 1.0),
    ),
    "acoustic": StageTraining(
        clip=Fraction(6), rows=4, cuts=4, rate=1.5e-3, drop=(("band", 0.05), ("beat", 0.2)),
        weights=(1.6, 1.3, 1.0, 0.8),
    ),
}  # fmt: skip


def train_stage(
    name: str,
    stage: AlignedStageConfig,
    loop: LoopConfig,
    shards: Path,
    held_out: list[Tokens],
    training: StageTraining,
    device: str = "auto",
    codebooks: Tensor | None = None,
    start: Mapping[str, Tensor] | None = None,
) -> tuple[AlignedNetwork, Outcome]:
    """Trains stage `name` until the budget of `loop` is used up, or goes on with what is in its folder.

    Args:
        shards: folder that training/tokens.py fills, before or meanwhile.
        held_out: songs on which the stage is judged.
        codebooks: [codebook, entry, latent] of the codec whose codes the stage predicts; it starts from their geometry.
        start: a pack's tensors, of which those of this stage are begun with instead of random ones.
    Returns:
        The network at its best validation.
    """
    place = pick_device(device)
    torch.manual_seed(loop.seed)
    target = TARGETS[name]
    reader = ShardReader(shards, target, training.clip, training.rows, loop.seed, training.cuts, training.batches_held)
    trainer = StageTrainer(stage, target, training, reader, loop.seed, place, codebooks)
    if start is not None:
        trainer.network.load_state_dict(read_network(name, stage, start).state_dict())
    judge = Judge(stage, target, training, held_out)

    def judged() -> Losses:
        return judge(trainer.network)

    outcome = train(loop, trainer.step, trainer.state(), judged, WATCHED, validate_first=start is not None)
    return best_network(loop.out, stage), outcome


class StageTrainer:
    """One stage and what trains it. Where bfloat16 is faster, a copy in it computes and float32 weights learn."""

    def __init__(
        self,
        stage: AlignedStageConfig,
        target: str,
        training: StageTraining,
        reader: ShardReader,
        seed: int,
        device: torch.device,
        codebooks: Tensor | None = None,
    ) -> None:
        self.stage, self.target, self.training, self.reader, self.device = stage, target, training, reader, device
        self.network = AlignedNetwork(stage).to(device)
        if codebooks is not None:
            start_from_codebooks(self.network, codebooks)
        decayed = [p for p in self.network.parameters() if p.dim() == 2]
        others = [p for p in self.network.parameters() if p.dim() != 2]
        groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(
            groups, training.rate, betas=(0.9, 0.98), weight_decay=training.weight_decay, fused=True
        )
        self.working = copy.deepcopy(self.network).bfloat16() if faster_in_bfloat16(device) else self.network
        self.draw = Draw(training, stage, seed)
        weights = torch.tensor(training.weights or (1.0,) * stage.codebooks, device=device)
        self.weights = weights / weights.sum()

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"model": self.network, "optimizer": self.optimizer, "reader": self.reader, "draw": self.draw}

    def step(self, moment: Moment) -> Losses:
        """One optimiser step on one batch."""
        rate = cosine_rate(moment.step, moment.progress, self.training.rate, self.training.warmup_steps)
        set_rate(self.optimizer, rate)
        crops = [to_c(tokens) for tokens in self.reader.batch()] if self.training.in_c else self.reader.batch()
        lags = [self.draw.lag() for _ in crops]
        drop = self.draw.dropped(len(crops))
        conditions = [c.to(self.device) for c in conditions_of(crops, self.stage, lags, drop)]
        targets = targets_of(crops, self.target, self.stage.codebooks)
        played = self.draw.misplayed(targets) if self.training.misplayed else targets
        targets, played = targets.to(self.device), played.to(self.device)
        if self.working is not self.network:
            with torch.no_grad():
                torch._foreach_copy_(list(self.working.parameters()), list(self.network.parameters()))
        losses = delayed_losses(self.working(conditions, targets, played).float(), targets, self.stage.delays)
        self.working.zero_grad(set_to_none=True)
        (losses * self.weights).sum().backward()
        if self.working is not self.network:
            for low, high in zip(self.working.parameters(), self.network.parameters(), strict=True):
                high.grad = None if low.grad is None else low.grad.to(high.dtype)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        return named_losses(losses.detach()) | {"norm": float(norm), "rate": rate}


class Draw:
    """Random choices of a batch: how late the voice is heard, and which rows do without which source."""

    def __init__(self, training: StageTraining, stage: AlignedStageConfig, seed: int) -> None:
        self.training, self.stage = training, stage
        self.random = np.random.default_rng([seed, 1])

    def lag(self) -> Fraction:
        """Of what is served in a share of the rows; else that of a chunk of 0.4 to 3.2 s and any visibility from -2 s.

        Half of those hear the voice before its time as well.
        """
        if self.random.random() < self.training.served:
            return -LOOKAHEAD
        if self.random.random() < 0.5:
            return CHUNK_QUANTUM * int(self.random.integers(-int(LOOKAHEAD / CHUNK_QUANTUM), 1))
        longest = float(LONGEST_LAG) - 3.2 + 0.4 * 2 ** int(self.random.integers(4))
        return CHUNK_QUANTUM * int(self.random.integers(int(longest / float(CHUNK_QUANTUM)) + 1))

    def misplayed(self, score: Tensor) -> Tensor:
        """A score [row, codebook, frame] with some of its chords, and the bass under them, transposed."""
        played = score.clone()
        for row, chords in enumerate(score[:, 0].numpy()):
            bounds = [0, *(np.flatnonzero(np.diff(chords)) + 1), len(chords)]
            for start, stop in pairwise(bounds):
                if self.random.random() < self.training.misplayed:
                    span = score[row, :, start:stop].numpy()
                    up = int(self.random.integers(1, 12))
                    played[row, :, start:stop] = torch.from_numpy(transposed(span, BAND_TURNS, up))
        return played

    def dropped(self, rows: int) -> dict[str, np.ndarray[Any, np.dtype[np.bool_]]]:
        """[row] by source."""
        return {name: self.random.random(rows) < share for name, share in self.training.drop}

    def state_dict(self) -> dict[str, Any]:
        return self.random.bit_generator.state  # type: ignore[return-value]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.random.bit_generator.state = state


class Judge:
    """Cross-entropy on held-out songs: as served, hearing the voice in time or 0.8 s late, and without any source."""

    def __init__(self, stage: AlignedStageConfig, target: str, training: StageTraining, songs: list[Tokens]) -> None:
        self.stage, self.target, self.rows = stage, target, training.rows
        crops = [crop(tokens, 0, int(training.clip / CHUNK_QUANTUM)) for tokens in songs]
        self.crops = [to_c(tokens) for tokens in crops] if training.in_c else crops
        self.cases: dict[str, tuple[Fraction, bool]] = {"": (-LOOKAHEAD, False), "unconditional": (-LOOKAHEAD, True)}
        if any(source.reach == "visibility" for source in stage.sources):
            self.cases |= {"in_time": (Fraction(0), False), "late": (Fraction(4, 5), False)}

    @torch.no_grad()
    def __call__(self, network: AlignedNetwork) -> dict[str, float]:
        """`loss`, its parts by codebook, `unconditional`, `in_time` and `late`; in nats per token."""
        found: dict[str, float] = {}
        for name, (lag, alone) in self.cases.items():
            losses = torch.stack([self._losses(network, at, lag, alone) for at in range(0, len(self.crops), self.rows)])
            found |= {name: float(losses.mean())} if name else named_losses(losses.mean(0))
        return found

    def _losses(self, network: AlignedNetwork, at: int, lag: Fraction, alone: bool) -> Tensor:
        device = network.tokens.device
        crops = self.crops[at : at + self.rows]
        drop = {source.name: np.full(len(crops), alone) for source in self.stage.sources}
        conditions = [c.to(device) for c in conditions_of(crops, self.stage, [lag] * len(crops), drop)]
        targets = targets_of(crops, self.target, self.stage.codebooks).to(device)
        return delayed_losses(network(conditions, targets), targets, self.stage.delays)


def conditions_of(
    crops: Sequence[Tokens],
    stage: AlignedStageConfig,
    lags: Sequence[Fraction],
    drop: dict[str, np.ndarray[Any, np.dtype[np.bool_]]],
) -> list[Tensor]:
    """Per source of the stage [row, codebook, step], one step per predicted frame; unknown where dropped."""
    quanta = crops[0]["key"].shape[1]
    steps = int(quanta * CHUNK_QUANTUM * stage.rate)
    found, nobody = [], np.zeros(len(crops), bool)
    for source in stage.sources:
        rows = []
        for number, (tokens, lag) in enumerate(zip(crops, lags, strict=True)):
            if source.name == LAG.name:
                rows.append(np.full((1, steps), lag_token(lag)))
            elif drop.get("vocal" if source.name == CHORD.name else source.name, nobody)[number]:
                rows.append(np.full((source.codebooks, steps), source.vocabulary))
            else:
                known = tokens["band" if source.name == CHORD.name else source.name].astype(np.int64)
                if source.name == VOICE.name:
                    known = pitch_and_colour(known)
                elif source.name == CHORD.name:
                    known = known[:1]
                rows.append(aligned(known, source, stage.rate, 0, steps, lag))
        found.append(torch.from_numpy(np.stack(rows)))
    return found


def to_c(tokens: Tokens) -> Tokens:
    """A song's voice and band transposed to C major or A minor; its codes stay, and no longer fit."""
    down = -int(tokens["key"][0, 0])
    vocal = transposed(tokens["vocal"].astype(np.int64), VOICE_TURNS, down)
    return {
        **tokens,
        "vocal": vocal.astype(np.int16),
        "band": transposed(tokens["band"].astype(np.int64), BAND_TURNS, down).astype(np.int16),
    }


def targets_of(crops: Sequence[Tokens], target: str, codebooks: int) -> Tensor:
    """[row, codebook, frame] int64, the first so many codebooks."""
    return torch.from_numpy(np.stack([tokens[target][:codebooks] for tokens in crops]).astype(np.int64))


@torch.no_grad()
def start_from_codebooks(network: AlignedNetwork, codebooks: Tensor) -> None:
    """Embeddings and heads begin as random projections of the codec's vectors [codebook, entry, latent].

    Codes that sound alike then begin alike, and the sum of a frame's embeddings as a projection of its latent vector.
    """
    generator = torch.Generator().manual_seed(0)
    latent, width = codebooks.shape[2], network.config.width
    entries = codebooks.shape[1]
    codebooks = codebooks[: network.config.codebooks]
    scaled = codebooks / codebooks[0].std()
    for table, spread in ((network.tokens, scaled), (network.heads, scaled / scaled.std(dim=(1, 2), keepdim=True))):
        projection = torch.randn(latent, width, generator=generator) * (2 * EMBEDDING_STD / latent**0.5)
        table[:, :entries] += spread @ projection


def named_losses(losses: Tensor) -> dict[str, float]:
    """`loss`, and `loss_1` to `loss_n` for n codebooks."""
    parts = {f"loss_{number}": float(loss) for number, loss in enumerate(losses, 1)} if len(losses) > 1 else {}
    return {"loss": float(losses.mean())} | parts


def best_network(out: Path, stage: AlignedStageConfig) -> AlignedNetwork:
    """The network of a training folder at its best validation, or its latest where there was none yet."""
    path = out / "best.pt" if (out / "best.pt").exists() else out / "checkpoint.pt"
    network = AlignedNetwork(stage)
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=False)["state"]["model"])
    return network.eval()
