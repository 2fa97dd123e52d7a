"""Trains DuoTok's language model on tokens of songs: voice to accompaniment, and both tracks from their past.

A batch is of one kind. Voice to accompaniment is learnt at every lag that a session may have (models/duotok/config.py),
half of the time in time, as sessions are served. Where the tokens' vectors are as wide as the tokenizer's, they are the
tokenizer's, and stay: what sounds alike is alike from the first step on, and a pack need not carry them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from backline.measures.codes import perplexity
from backline.models.duotok.config import ACCOMPANIMENT, PAPER, PREFIX_SECONDS, RATE, SMALL, SONG_SECONDS, LmConfig
from backline.models.duotok.config import TINY as TINY_LM
from backline.models.duotok.lm import PREFIX, TABLES, Steps, accompanying, embedded, unconditional, with_nothing
from backline.models.hafm.aligned.config import LONGEST_LAG, LOOKAHEAD
from backline.models.hafm.aligned.network import AlignedNetwork
from backline.models.hafm.grid import CHUNK_QUANTUM
from backline.nn.learning_rate import cosine_rate, set_rate
from backline.nn.precision import faster_in_bfloat16
from backline.training.duotok_tokens import Pool, SongTokens
from backline.training.loop import LoopConfig, Losses, Moment, Outcome, pick_device, train

WATCHED = "loss"
POSITIONS = 512  # whose logits, of 32,768 entries each, are there at once
REFRESHED = 20  # steps between two looks for new songs

Tokens = NDArray[np.int64]


@dataclass(frozen=True)
class LmTraining:
    """What is trained, and how."""

    lm: LmConfig
    rows: int = 8
    seconds: float = SONG_SECONDS  # of a row
    rate: float = 1e-3
    warmup_steps: int = 200
    weight_decay: float = 0.01
    led: float = 0.75  # share of the batches that hear a voice; the others continue both tracks
    served: float = 0.5  # share of those rows that hear it in time
    beatless: float = 0.5  # share of the rows that are not told the beat
    judged: float = (
        1.0  # share of the tokens that a batch learns from, drawn anew each time: logits cost as much as all else
    )

    @property
    def frames(self) -> int:
        return round(self.seconds * RATE)


TRAININGS = {
    "paper": LmTraining(PAPER, rate=3e-4, warmup_steps=2000),
    "small": LmTraining(SMALL, judged=0.25),
    "tiny": LmTraining(TINY_LM, rows=2, seconds=3.2, warmup_steps=4),
}


def train_lm(
    loop: LoopConfig,
    training: LmTraining,
    pool: Pool,
    held_out: Sequence[SongTokens],
    tables: Tensor,
    device: str = "auto",
) -> Outcome:
    """Trains until the budget of `loop` is used up, or goes on with what is in its folder.

    Args:
        pool: what it learns from, which may grow meanwhile.
        held_out: songs that the best weights are chosen by.
        tables: [track, entry, width] the tokenizer's vectors.
    """
    torch.manual_seed(loop.seed)
    trainer = LmTrainer(training, pool, tables, loop.seed, pick_device(device))
    return train(loop, trainer.step, trainer.state(), lambda: trainer.validate(held_out), WATCHED)


class LmTrainer:
    """The network and its data. Where bfloat16 is faster, a copy in it computes and float32 weights learn."""

    def __init__(self, training: LmTraining, pool: Pool, tables: Tensor, seed: int, device: torch.device) -> None:
        self.training, self.pool, self.device = training, pool, device
        self.network = AlignedNetwork(training.lm.stage)
        pool.refresh()
        start_from(self.network, pool.songs, tables)
        self.network.to(device)
        learnt = [p for p in self.network.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in learnt if p.dim() > 1]},
            {"params": [p for p in learnt if p.dim() <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            groups, training.rate, betas=(0.9, 0.98), weight_decay=training.weight_decay, fused=True
        )
        self.working = copy.deepcopy(self.network).bfloat16() if faster_in_bfloat16(device) else self.network
        self.draw = Draw(training, seed)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"model": self.network, "optimizer": self.optimizer, "draw": self.draw}

    def step(self, moment: Moment) -> Losses:
        """One optimiser step on one batch."""
        if moment.step % REFRESHED == 0:
            self.pool.refresh()
        rate = cosine_rate(moment.step, moment.progress, self.training.rate, self.training.warmup_steps)
        set_rate(self.optimizer, rate)
        led, rows = self.draw.batch(self.pool.songs)
        if self.working is not self.network:
            with torch.no_grad():
                torch._foreach_copy_(list(self.working.parameters()), list(self.network.parameters()))
        self.working.zero_grad(set_to_none=True)
        nats = losses(self.working, rows, learn=True).sum() / judged(rows)
        if self.working is not self.network:
            for low, high in zip(self.working.parameters(), self.network.parameters(), strict=True):
                high.grad = None if low.grad is None else low.grad.to(high.dtype)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        return {"led" if led else "free": float(nats), "norm": float(norm), "rate": rate}

    def validate(self, songs: Sequence[SongTokens]) -> dict[str, float]:
        return validated(self.network, self.training, songs, self.pool.songs)


@torch.no_grad()
def validated(
    network: AlignedNetwork, training: LmTraining, songs: Sequence[SongTokens], learnt: Sequence[SongTokens]
) -> dict[str, float]:
    """What held-out songs cost, by the paper's protocol: PREFIX_SECONDS are given, the rest counts.

    Returns:
        loss: nats of an accompaniment's token under its voice, heard in time; shuffled: under another song's; early and
        late: under its own, as early as can be and a second late; vocals and accompaniment: of both tracks' tokens from
        their past. cnbpt and enbpt: of `loss`, as shares of the bits that tokens cost which nothing predicts, and of
        their entropy by frequency.
    """
    lm, given = training.lm, PREFIX_SECONDS * RATE
    cut = [crop(song, 0, training.frames) for song in songs]

    def asked(steps: Sequence[Steps], track: int) -> float:
        total = count = 0.0
        for at in range(0, len(steps), training.rows):
            rows = [judged_after(row, training.frames, given, track) for row in steps[at : at + training.rows]]
            nats = losses(network, rows)[:, track]
            total, count = total + float(nats.sum()), count + judged(rows)
        return total / count

    def under(voices: Sequence[Tokens], lag: Fraction) -> float:
        pairs = zip(voices, cut, strict=True)
        steps = [accompanying(lm, np.stack([voice, song[1]]), lag, beats) for voice, (song, beats) in pairs]
        return asked(steps, ACCOMPANIMENT)

    voices = [song[0] for song, _ in cut]
    led = under(voices, Fraction(0))
    free = [unconditional(lm, song) for song, _ in cut]
    heard = torch.from_numpy(np.concatenate([song.tracks[1].astype(np.int64) for song in (*learnt, *songs)]))
    bits = led / math.log(2)
    entropy = math.log2(perplexity(heard, lm.entries))
    return {
        "loss": led,
        "shuffled": under(voices[1:] + voices[:1], Fraction(0)),
        "early": under(voices, -LOOKAHEAD),
        "late": under(voices, Fraction(1)),
        "vocals": asked(free, 0),
        "accompaniment": asked(free, ACCOMPANIMENT),
        "cnbpt": bits / math.log2(lm.entries),
        "enbpt": bits / entropy if entropy else math.nan,
    }


def losses(network: AlignedNetwork, rows: Sequence[Steps], learn: bool = False) -> Tensor:
    """[row, track] nats, the sums over all that is judged; where `learn`, the mean's gradients are there afterwards.

    Logits of 32,768 entries are made for a few hundred positions at a time.
    """
    with torch.set_grad_enabled(learn):
        hidden = network.transformer(embedded(network, rows))
    leaf = hidden.detach().requires_grad_(learn)
    targets = torch.from_numpy(np.stack([row.targets for row in rows]).astype(np.int64)).to(leaf.device)
    count = judged(rows)
    found = torch.zeros(targets.shape[:2], dtype=torch.float64)
    for track in range(targets.shape[1]):
        at = (targets[:, track] >= 0).nonzero()  # [position, (row, step)]
        for part in at.split(POSITIONS):
            row, step = part.unbind(1)
            with torch.set_grad_enabled(learn):
                logits = network.logits_of(track, leaf[row, step]).float()
                nats = F.cross_entropy(logits, targets[row, track, step], reduction="none")
            if learn:
                (nats.sum() / count).backward()
            found[:, track].index_add_(0, row.cpu(), nats.detach().double().cpu())
    if learn:
        hidden.backward(leaf.grad)
    return found


def judged(rows: Sequence[Steps]) -> int:
    """How many tokens are; 1 where none is."""
    return max(1, sum(int((row.targets >= 0).sum()) for row in rows))


class Draw:
    """Random choices of a batch."""

    def __init__(self, training: LmTraining, seed: int) -> None:
        self.training = training
        self.random = np.random.default_rng([seed, 0x1B])

    def batch(self, songs: Sequence[SongTokens]) -> tuple[bool, list[Steps]]:
        """Whether there is a voice that leads, and the rows."""
        training, lm = self.training, self.training.lm
        led, rows = bool(self.random.random() < training.led), []
        for _ in range(training.rows):
            song = songs[int(self.random.integers(len(songs)))]
            tracks, beats = crop(song, self.start(song), training.frames)
            told = None if self.random.random() < training.beatless else beats
            rows.append(accompanying(lm, tracks, self.lag(), told) if led else unconditional(lm, tracks, told))
        return led, [self.thinned(row) for row in rows] if training.judged < 1.0 else rows

    def thinned(self, row: Steps) -> Steps:
        """Judged by a share of its tokens."""
        kept = self.random.random(row.targets.shape, np.float32) < self.training.judged
        return replace(row, targets=np.where(kept, row.targets, -1))

    def start(self, song: SongTokens) -> int:
        return int(self.random.integers(max(1, song.frames - self.training.frames + 1)))

    def lag(self) -> Fraction:
        """As a session may have it, in seconds."""
        if self.random.random() < self.training.served:
            return Fraction(0)
        least, most = (int(lag / CHUNK_QUANTUM) for lag in (-LOOKAHEAD, LONGEST_LAG))
        # Two draws, the lesser one: most sessions wait rather than play ahead.
        return CHUNK_QUANTUM * int(self.random.integers(least, most + 1, size=2).min())

    def state_dict(self) -> Mapping[str, Any]:
        return self.random.bit_generator.state

    def load_state_dict(self, state: Any) -> None:
        self.random.bit_generator.state = state


def crop(song: SongTokens, first: int, frames: int) -> tuple[Tokens, Tokens]:
    """[track, frame] and [frame] of the beat, from frame `first` on; -1 after the song's end."""
    tracks = song.tracks[:, first : first + frames].astype(np.int64)
    beats = song.beats[first : first + frames].astype(np.int64)
    missing = frames - tracks.shape[1]
    if missing:
        tracks = np.pad(tracks, ((0, 0), (0, missing)), constant_values=-1)
        beats = np.pad(beats, (0, missing), mode="edge")
    return tracks, beats


def judged_after(row: Steps, frames: int, given: int, track: int) -> Steps:
    """One track alone, and without the first `given` of the last `frames` steps, the song's own."""
    targets = np.full_like(row.targets, -1)
    first = targets.shape[1] - frames + given
    targets[track, first:] = row.targets[track, first:]
    return replace(row, targets=targets)


@torch.no_grad()
def start_from(network: AlignedNetwork, songs: Sequence[SongTokens], tables: Tensor) -> None:
    """The network begins by predicting each token as often as it occurs, and with the tokenizer's vectors if it can."""
    entries = network.config.vocabulary
    for track in range(network.config.codebooks):
        heard = np.concatenate([song.tracks[track] for song in songs]).astype(np.int64)
        counts = torch.from_numpy(np.bincount(heard, minlength=entries)) + 0.5
        network.head_bias[track] = (counts / counts.sum()).log() - math.log(1 / entries)
    if tables.shape[2] == network.config.code_width:
        network.tokens.copy_(with_nothing(tables))
        network.tokens.requires_grad_(False)


def packed(network: AlignedNetwork, config: LmConfig, tables: Tensor) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a pack carries: the [lm] table, and tensors named `lm.…`; not those that are the tokenizer's."""
    state = {name: value.detach().cpu() for name, value in network.state_dict().items()}
    if tables.shape[2] == config.code_width:
        del state[TABLES]
    return config.to_table(), {PREFIX + name: value.half() for name, value in state.items()}
