"""Trains DuoTok's tokenizer in its first three stages: BEST-RQ, many tasks under noise, codebooks (section 3).

with producer(folder, ...):                                       # see duotok_songs.py
    tokenizer, outcome = train_stage(1, loop, TRAININGS["small"], Pool(folder), held_out, vocabulary)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backline.codecs.duotok.config import PAPER, ROLES, SMALL, SUBSAMPLING, DuoTokConfig, Role
from backline.codecs.duotok.heads import (
    Heads,
    HeadsConfig,
    Replacement,
    chroma_loss,
    edits,
    masks_loss,
    mel_loss,
    spelt,
    words_loss,
)
from backline.codecs.duotok.tokenizer import Tokenizer
from backline.nn.bestrq import BestRQ, masked, stacked
from backline.nn.learning_rate import cosine_rate, set_rate
from backline.nn.precision import faster_in_bfloat16
from backline.training.codec import evaluating
from backline.training.duotok_rows import Batch, Drawing, Drawn, Vocabulary
from backline.training.duotok_songs import MASK_BANDS, DuoSong, Pool
from backline.training.loop import LoopConfig, Losses, Moment, Outcome, pick_device, train
from backline.training.mixtures import Rehearsed
from backline.training.run_folder import best_weights

WATCHED = "loss"
REFRESHED = 20  # steps between looks for new songs
STATISTICS = 4  # batches by which mels are z-scored
HELD_OUT_BATCHES = 6  # drawn from the held-out songs once, then the same each time
STARTED_BY = 4  # batches by which a codebook is laid where vectors are
RIDGE = 10.0  # of the linear probe of chords


@dataclass(frozen=True)
class Weights:
    """Of the losses (Eq. 2 and 5)."""

    predicted: float = 1.0  # stage 1's only one
    mel: float = 1.0
    chroma: float = 0.5
    words: float = 0.3
    masks: float = 0.5
    codes: float = 1.0


@dataclass(frozen=True)
class Hardness:
    """How hard a stage trains."""

    rate: float
    drawn: Drawn
    warmup: int = 100  # steps
    passes: int = 1  # over each batch of a frozen encoder's, which is heard once
    kept: int = 1  # batches at hand for them


@dataclass(frozen=True)
class DuoTokTraining:
    """What is trained and how; see DUOTOK.md 3 for what the paper leaves blank."""

    tokenizer: DuoTokConfig = PAPER
    targets: int = 4096  # entries of BEST-RQ's codebook
    weights: Weights = Weights()
    replacement: float = 0.2  # share of the frames that stage 2 replaces by noise (Eq. 1); 0: the ablation
    freeze: bool = True  # the encoder, in stage 3; False: the ablation
    pretrained: bool = True  # stage 2 begins with stage 1's encoder; False: the ablation
    stages: Mapping[int, Hardness] = field(
        default_factory=lambda: {
            1: Hardness(2e-4, Drawn(), 10_000),
            2: Hardness(1e-4, Drawn(), 2_000),
            3: Hardness(1e-4, Drawn(shares=(0, 5, 4, 1)), 2_000),
        }
    )
    weight_decay: float = 0.01
    clip: float = 1.0


EIGHT_SECONDS = (8.0, 8.0)
TRAININGS = {
    "paper": DuoTokTraining(),
    "small": DuoTokTraining(
        SMALL,
        targets=1024,
        weights=Weights(codes=4.0),  # whose projections learn: the heads are not to pull vectors from their entries
        stages={
            1: Hardness(4e-4, Drawn(8, EIGHT_SECONDS)),
            2: Hardness(7e-4, Drawn(8, EIGHT_SECONDS, worded=("mix", "voice"))),
            3: Hardness(1e-3, Drawn(16, EIGHT_SECONDS, shares=(0, 5, 4, 1)), passes=8, kept=96),
        },
    ),
}


def ablated(
    training: DuoTokTraining,
    noise: bool = True,
    mss: bool = True,
    freeze: bool = True,
    asr: bool = True,
    pretrained: bool = True,
    shared_codebook: bool = False,
    *,
    code_dim: int | None = None,
    entries: int | None = None,
) -> DuoTokTraining:
    """The same without some of its parts: the paper's appendix D and a few more.

    Raises:
        ValueError: the tokenizer cannot have such sizes.
    """
    weights = training.weights
    weights = replace(weights, masks=weights.masks if mss else 0.0, words=weights.words if asr else 0.0)
    said = {"code_dim": code_dim, "entries": entries, "shared_codebook": shared_codebook or None}
    sizes: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    if code_dim is not None:
        sizes["projection"] = training.tokenizer.projection or code_dim != training.tokenizer.width
    return replace(
        training,
        tokenizer=replace(training.tokenizer, **sizes),
        weights=weights,
        replacement=training.replacement if noise else 0.0,
        freeze=freeze,
        pretrained=pretrained,
    )


def train_stage(
    stage: int,
    loop: LoopConfig,
    config: DuoTokTraining,
    pool: Pool,
    held_out: Sequence[DuoSong],
    vocabulary: Vocabulary | None,
    before: Path | None = None,
    device: str = "auto",
) -> tuple[Tokenizer, Outcome]:
    """Trains until the budget of `loop` is used up, or goes on with what is in its folder.

    Args:
        stage: 1, 2 or 3.
        pool: what it learns from, which may grow meanwhile.
        held_out: songs that the best weights are chosen by.
        vocabulary: what words are told in; None: they are not.
        before: the folder of the stage before, whose best weights it begins with; None in stage 1.

    Raises:
        ValueError: the stage before has not been trained, or the folder was trained with another seed.
    """
    place = pick_device(device)
    torch.manual_seed(loop.seed)
    trainer = TRAINERS[stage](config, config.stages[stage], pool, vocabulary, loop.seed, place)
    pool.refresh()
    if not (loop.out / "checkpoint.pt").exists():
        trainer.begin(None if before is None else best_weights(before))
    outcome = train(loop, trainer.step, trainer.state(), lambda: trainer.validate(held_out), WATCHED)
    return trainer.model.tokenizer, outcome


class Model(nn.Module):
    """The tokenizer and what teaches it; a stage's checkpoint holds all of it."""

    def __init__(self, config: DuoTokTraining, words: int) -> None:
        super().__init__()
        sizes = config.tokenizer
        self.tokenizer = Tokenizer(sizes)
        self.predicted = nn.Linear(sizes.width, config.targets)
        masks = MASK_BANDS if config.weights.masks else 0
        self.heads = Heads(HeadsConfig(sizes.width, sizes.bands, SUBSAMPLING, words, masks))
        self.replacement = Replacement(sizes.width, config.replacement)
        self.widened = nn.ModuleDict({role: nn.Linear(sizes.code_dim, sizes.width) for role in ROLES})  # for the heads


class Stage(ABC):
    """What the stages share: the model, its data, and a step."""

    def __init__(
        self,
        config: DuoTokTraining,
        hardness: Hardness,
        pool: Pool,
        vocabulary: Vocabulary | None,
        seed: int,
        device: torch.device,
    ) -> None:
        self.config, self.hardness, self.pool, self.vocabulary = config, hardness, pool, vocabulary
        self.seed, self.device = seed, device
        self.model = Model(config, len(vocabulary) if vocabulary and config.weights.words else 0).to(device)
        self.drawing = Drawing(hardness.drawn, vocabulary, seed)
        self.learning = self.parameters()
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        for parameter in self.learning:
            parameter.requires_grad_(True)
        self.optimizer = torch.optim.AdamW(
            self.learning, hardness.rate, betas=(0.9, 0.98), weight_decay=config.weight_decay
        )
        self.bfloat16 = faster_in_bfloat16(device)
        self.judges: list[Any] = []  # batches of held-out songs, drawn when they are first asked for

    @abstractmethod
    def parameters(self) -> list[nn.Parameter]:
        """What learns."""

    def begin(self, weights: Mapping[str, Tensor] | None) -> None:
        """Begins with the best weights of the stage before, or with none."""
        if weights is None:
            self.measure()
        else:
            own = self.model.state_dict()
            known = {name: value for name, value in weights.items() if name in own}
            if wrong := [name for name, value in known.items() if value.shape != own[name].shape]:
                raise ValueError(
                    f"the stage before has {wrong[0]} of other sizes: give both stages the same options, or train it "
                    "in another run folder"
                )
            self.model.load_state_dict(own | known)

    @torch.no_grad()
    def measure(self) -> None:
        """Mean and deviation of the corpus' mels, by rows as they will come."""
        mel, drawing = self.model.tokenizer.encoder.mel, Drawing(self.hardness.drawn, None, self.seed)
        heard = [drawing.batch(self.pool.songs).to(self.device).audio for _ in range(STATISTICS)]
        decibels = torch.cat([mel.decibels(audio[:, None]).transpose(0, 1).flatten(1) for audio in heard], dim=1)
        self.model.tokenizer.encoder.set_statistics(decibels.mean(1), decibels.std(1).clamp(min=1e-3))

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"model": self.model, "optimizer": self.optimizer, "drawing": self.drawing}

    def step(self, moment: Moment) -> Losses:
        """One optimiser step on one batch."""
        if moment.step % REFRESHED == 0:
            self.pool.refresh()
        rate = cosine_rate(moment.step, moment.progress, self.hardness.rate, self.hardness.warmup)
        set_rate(self.optimizer, rate)
        losses = self.losses(self.next_batch())
        total = self.total(losses)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = nn.utils.clip_grad_norm_(self.learning, self.config.clip)
        self.optimizer.step()
        values = {name: float(value.detach()) for name, value in losses.items()}
        return values | {"norm": float(norm), "rate": rate}

    def next_batch(self) -> Any:
        return self.drawing.batch(self.pool.songs).to(self.device)

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum (Eq. 2 and 5)."""
        return torch.stack([getattr(self.config.weights, name) * value for name, value in losses.items()]).sum()

    @abstractmethod
    def losses(self, batch: Any) -> dict[str, Tensor]:
        """By the names of `Weights`."""

    def features(self, audio: Tensor) -> Tensor:
        with torch.no_grad():
            return self.model.tokenizer.encoder.features(audio)

    def hidden(self, mels: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            found = self.model.tokenizer.encoder.hidden(mels)
        return found.float()

    def told(self, hidden: Tensor, mels: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The losses of the heads that hear `hidden` [row, frame, width]."""
        heads = self.model.heads
        losses = {
            "mel": mel_loss(heads.mel_frames(hidden), mels),
            "chroma": chroma_loss(heads.chroma(hidden), batch.chroma),
        }
        if heads.words is not None:
            losses["words"] = words_loss(heads.words(hidden), batch.words)
        return losses

    def held_out(self, songs: Sequence[DuoSong]) -> list[Any]:
        """Batches to judge by."""
        drawing = Drawing(self.hardness.drawn, self.vocabulary, 0)
        return [drawing.batch(songs).to(self.device) for _ in range(HELD_OUT_BATCHES)]

    @torch.no_grad()
    def validate(self, songs: Sequence[DuoSong]) -> dict[str, float]:
        """What held-out songs say: the losses, their weighted sum `loss`, and what the stage adds."""
        self.judges = batches = self.judges or self.held_out(songs)
        with evaluating(self.model), torch.random.fork_rng():
            torch.manual_seed(0)
            every = [self.losses(batch) for batch in batches]
            found = {name: torch.stack([losses[name] for losses in every]).mean() for name in every[0]}
            total = float(self.total(found))
            return {
                "loss": total,
                **{name: float(value) for name, value in found.items()},
                **self.judged(batches),
                **self.probed(songs),
            }

    @abstractmethod
    def judged(self, batches: Sequence[Any]) -> dict[str, float]:
        """More figures of a stage."""

    def probed(self, songs: Sequence[DuoSong]) -> dict[str, float]:
        """`chord`: the share of frames whose chord a linear probe tells from the band's hidden states.

        It learns from every other song and is asked about the rest; nothing where no chords are known.
        """
        every = [song for song in songs if len(song.chords)]
        points = [(self.heard(song), torch.from_numpy(song.chords).long()) for song in every]
        learnt, asked = points[::2], points[1::2]
        if not asked:
            return {}
        told = probe(*(torch.cat(each) for each in zip(*learnt, strict=True)))
        right = [(told(vectors) == chords.to(vectors.device)).float() for vectors, chords in asked]
        return {"chord": float(torch.cat(right).mean())}

    def heard(self, song: DuoSong) -> Tensor:
        """The band of a song [frame, width], as it will be heard later."""
        return self.hidden(self.features(self.band(song)))[0]

    def band(self, song: DuoSong) -> Tensor:
        """[1, sample]"""
        return torch.from_numpy(song.audio(0, song.frames)[1:]).to(self.device)


class Pretraining(Stage):
    """Stage 1: what lies behind masks, as BEST-RQ names it."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        sizes = self.config.tokenizer
        self.best_rq = BestRQ(SUBSAMPLING * sizes.bands, entries=self.config.targets, seed=self.seed).to(self.device)

    def parameters(self) -> list[nn.Parameter]:
        return [*self.model.tokenizer.encoder.parameters(), *self.model.predicted.parameters()]

    @torch.no_grad()
    def begin(self, weights: Mapping[str, Tensor] | None) -> None:
        """Knows how often each target is right: that is not worth a single step."""
        super().begin(weights)
        drawing = Drawing(self.hardness.drawn, None, self.seed)
        heard = [self.features(drawing.batch(self.pool.songs).to(self.device).audio) for _ in range(STATISTICS)]
        targets = torch.cat([self.best_rq(stacked(mels, SUBSAMPLING)).flatten() for mels in heard])
        counts = torch.bincount(targets, minlength=self.config.targets) + 0.1
        self.model.predicted.bias.copy_((counts / counts.sum()).log())

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        logits, targets = self.asked(batch)
        return {"predicted": F.cross_entropy(logits, targets)}

    def asked(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits [masked frame, target] and targets [masked frame], which the clean sound has."""
        sizes = self.config.tokenizer
        targets = self.best_rq(stacked(self.features(batch.audio), SUBSAMPLING))
        noisy, hidden = masked(batch.audio, sizes.sample_rate, sizes.samples_per_token)
        return self.model.predicted(self.hidden(self.features(noisy))[hidden]), targets[hidden]

    def judged(self, batches: Sequence[Batch]) -> dict[str, float]:
        """`right`: the share of masked frames that are told; `entropy` of the targets, in nats, and `kinds` of them."""
        asked = [self.asked(batch) for batch in batches]
        right = torch.cat([(logits.argmax(-1) == targets).float() for logits, targets in asked])
        counts = torch.bincount(torch.cat([targets for _, targets in asked]))
        shares = counts[counts > 0] / counts.sum()
        return {
            "right": float(right.mean()), "entropy": float(-(shares * shares.log()).sum()), "kinds": float(len(shares))
        }  # fmt: skip


class Adaptation(Stage):
    """Stage 2: mel, chroma, words and masks at once, while some frames are noise (Eq. 1 to 3)."""

    def parameters(self) -> list[nn.Parameter]:
        return [*self.model.tokenizer.encoder.parameters(), *self.model.heads.parameters()]

    def begin(self, weights: Mapping[str, Tensor] | None) -> None:
        super().begin(weights if self.config.pretrained else None)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        mels = self.features(batch.audio)
        hidden = self.hidden(mels)
        if self.model.training:
            hidden = self.model.replacement(hidden)
        losses, heads = self.told(hidden, mels, batch), self.model.heads
        if heads.masks is not None:
            losses["masks"] = masks_loss(heads.mask_frames(hidden), batch.masks, batch.masked)
        return losses

    def judged(self, batches: Sequence[Batch]) -> dict[str, float]:
        """`errors`: edits a word."""
        return word_errors(self.model.heads, ((self.hidden(self.features(b.audio)), b.words) for b in batches))


@dataclass(frozen=True)
class Frozen:
    """A batch as a frozen encoder hears it; or, where it learns, hidden states are still to come."""

    batch: Batch
    mels: Tensor  # [row, mel frame, band]
    hidden: Tensor | None  # [row, frame, width]


class Discretization(Stage):
    """Stage 3: one codebook a track, for an encoder that no longer changes; the heads go on from codes (Eq. 4, 5)."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.batches = Rehearsed(self.encoded, self.hardness.passes, self.hardness.kept, self.seed)
        self.usage = {role: torch.zeros(self.config.tokenizer.entries, dtype=torch.int64) for role in ROLES}

    def parameters(self) -> list[nn.Parameter]:
        tokenizer, heads = self.model.tokenizer, self.model.heads
        found = [*tokenizer.tracks.parameters(), *self.model.widened.parameters()]
        for head in (heads.mel, heads.chroma, heads.words):
            found += [] if head is None else head.parameters()
        return found if self.config.freeze else [*found, *tokenizer.encoder.parameters()]

    @torch.no_grad()
    def begin(self, weights: Mapping[str, Tensor] | None) -> None:
        """With codebooks where the vectors are: entries elsewhere would be nobody's nearest."""
        super().begin(weights)
        made = [self.encoded(hear=True) for _ in range(STARTED_BY)]
        for role in ROLES:
            heard = [self.of_role(each, role) for each in made]
            hidden = torch.cat([each.flatten(0, 1) for each in heard])
            lay(self.model.tokenizer, role, cast(nn.Linear, self.model.widened[role]), hidden)

    def next_batch(self) -> Frozen:
        return self.batches.next()

    @torch.no_grad()
    def encoded(self, hear: bool | None = None) -> Frozen:
        """A new batch; `hear` it now, which is so without saying where the encoder is frozen."""
        return self.frozen(
            self.drawing.batch(self.pool.songs).to(self.device), self.config.freeze if hear is None else hear
        )

    def frozen(self, batch: Batch, hear: bool) -> Frozen:
        mels = self.features(batch.audio)
        with evaluating(self.model):
            return Frozen(batch, mels, self.hidden(mels) if hear else None)

    def of_role(self, frozen: Frozen, role: Role) -> Tensor:
        """The hidden states of the rows of a role [row, frame, width]."""
        assert frozen.hidden is not None
        return frozen.hidden[self.rows_of(frozen.batch, role)]

    @staticmethod
    def rows_of(batch: Batch, role: Role) -> Tensor:
        """[row] bool"""
        return batch.sung if role == ROLES[0] else ~batch.sung

    def losses(self, frozen: Frozen) -> dict[str, Tensor]:
        hidden = self.hidden(frozen.mels) if frozen.hidden is None else frozen.hidden
        wide, losses = torch.zeros_like(hidden), []
        for role in ROLES:
            rows = self.rows_of(frozen.batch, role)
            if rows.any():
                quantized, tokens, loss = self.model.tokenizer.quantized(hidden[rows], role)
                wide[rows] = self.model.widened[role](quantized)
                losses.append(loss)
                if self.model.training:
                    self.usage[role] += torch.bincount(tokens.flatten().cpu(), minlength=len(self.usage[role]))
        return {"codes": torch.stack(losses).mean(), **self.told(wide, frozen.mels, frozen.batch)}

    def held_out(self, songs: Sequence[DuoSong]) -> list[Frozen]:
        with torch.no_grad():
            return [self.frozen(batch, self.config.freeze) for batch in super().held_out(songs)]

    def judged(self, batches: Sequence[Frozen]) -> dict[str, float]:
        """Of each track: `used`, the share of entries that training has met since the last time, `even`, their entropy
        against the most that there can be (Miller-Madow), and `kept`, the share of the vectors' variance that codes
        tell. `errors`: edits a word.
        """
        found: dict[str, float] = {}
        told = []
        for role in ROLES:
            if self.usage[role].any():
                found |= {f"{name}_{role}": value for name, value in health(self.usage[role]).items()}
            self.usage[role].zero_()
            heard = [self.hidden(f.mels) if f.hidden is None else f.hidden for f in batches]
            parts = [hidden[self.rows_of(f.batch, role)] for hidden, f in zip(heard, batches, strict=True)]
            z = self.model.tokenizer.track(role).projection(torch.cat([part.flatten(0, 1) for part in parts]))
            codebook = self.model.tokenizer.track(role).codebook
            lost = (z - codebook.vectors(codebook.tokens(z))).square().sum()
            found[f"kept_{role}"] = 1 - float(lost / (z - z.mean(0)).square().sum())
            if role == ROLES[0]:
                wide = [self.model.widened[role](self.model.tokenizer.quantized(part, role)[0]) for part in parts]
                words = [[w for w, sung in zip(f.batch.words, f.batch.sung, strict=True) if sung] for f in batches]
                told = list(zip(wide, words, strict=True))
        return found | word_errors(self.model.heads, iter(told))

    def heard(self, song: DuoSong) -> Tensor:
        """The vectors of its band's codes."""
        tokenizer = self.model.tokenizer
        return tokenizer.vectors(tokenizer.tokens(super().heard(song)[None], ROLES[1]), ROLES[1])[0]


TRAINERS: dict[int, type[Stage]] = {1: Pretraining, 2: Adaptation, 3: Discretization}


@torch.no_grad()
def lay(tokenizer: Tokenizer, role: Role, widened: nn.Linear, hidden: Tensor) -> None:
    """Lays a role's entries where its hidden states [frame, width] are.

    The projection takes their principal components, at a mean variance of 1: of smaller ones the loss of the codes
    would be nothing beside the heads', which then pull vectors away from all entries. The map gives the table the
    vectors' mean and covariance, and `widened` goes back: so the heads hear, from the first step, what they have learnt
    to hear.
    """
    track = tokenizer.track(role)
    mean = hidden.mean(0)
    if isinstance(track.projection, nn.Linear):
        size = track.projection.out_features
        variances, directions = torch.linalg.eigh(torch.cov(hidden.T))  # ascending
        components = directions.flip(1)[:, :size].T  # [code, width]
        scale = variances.flip(0)[:size].mean().clamp(min=1e-12).rsqrt()
        track.projection.weight[: len(components)] = scale * components
        track.projection.bias.copy_(-track.projection.weight @ mean)
        widened.weight.copy_(components.T / scale)
        widened.bias.copy_(mean)
    else:
        widened.weight.copy_(torch.eye(len(mean)))
        widened.bias.zero_()
    z = track.projection(hidden)
    variances, directions = torch.linalg.eigh(torch.cov(z.T))
    codebook = track.codebook
    codebook.map.weight.copy_(directions * (codebook.dim * variances.clamp(min=0)).sqrt())
    codebook.map.bias.copy_(z.mean(0))


def health(counts: Tensor) -> dict[str, float]:
    """Of how often entries occur [entry]: the share that does, and the entropy against that of even use.

    The entropy is Miller and Madow's, which adds what few samples hide: half an entry a sample for each that occurs.
    """
    occurring = counts[counts > 0].double()
    shares = occurring / occurring.sum()
    nats = -(shares * shares.log()).sum() + (len(occurring) - 1) / (2 * occurring.sum())
    most = torch.tensor(float(len(counts))).log()
    return {"used": len(occurring) / len(counts), "even": float(nats / most)}


def probe(vectors: Tensor, labels: Tensor) -> Any:
    """What tells labels of vectors [point, dim]: ridge regression of which one it is, learnt from these points."""
    mean, deviation = vectors.mean(0), vectors.std(0).clamp(min=1e-6)
    kinds, numbers = labels.to(vectors.device).unique(return_inverse=True)

    def given(points: Tensor) -> Tensor:
        return F.pad((points - mean) / deviation, (0, 1), value=1.0)

    known, wanted = given(vectors), F.one_hot(numbers).float()
    gram = known.T @ known + RIDGE * torch.eye(known.shape[1], device=known.device)
    weights = torch.linalg.solve(gram, known.T @ wanted)
    return lambda points: kinds[(given(points) @ weights).argmax(-1)]


def word_errors(heads: Heads, told: Iterator[tuple[Tensor, list[Tensor]]]) -> dict[str, float]:
    """`errors`: edits a word, of what the head tells of hidden states; nothing where no words are known."""
    if heads.words is None:
        return {}
    wrong = count = 0
    for hidden, words in told:
        for found, true in zip(spelt(heads.words(hidden)), words, strict=True):
            if len(true):
                wrong, count = wrong + edits(found, true.tolist()), count + len(true)
    return {"errors": wrong / count} if count else {}
