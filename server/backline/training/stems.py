"""Trains a stems network: mixtures in, the codes of their tracks out.

OURS is how the packs that ship are trained, PAPER how MSS-LM is. Both begin with tables that are the codebooks, seen
through a random matrix, of which the paper says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backline.codecs.hcodec.load import HUBERT
from backline.codecs.hcodec.network import PATHS, HCodec
from backline.codecs.hcodec.semantics import HubertFeatures
from backline.measures.spectra import log_mel_distance, si_sdr
from backline.models.rows import raised
from backline.models.stems.config import MelConfig, StemsConfig
from backline.models.stems.generate import vectors_of
from backline.models.stems.layout import PATH_COUNT, Slots, to_positions
from backline.models.stems.load import read_network
from backline.models.stems.network import StemsNetwork
from backline.models.stems.separator import StemsSeparator
from backline.models.windowed.consistency import RESIDUAL, consistent
from backline.models.windowed.separator import Window
from backline.music.stems import Stems
from backline.nn.conformer import ConformerConfig
from backline.nn.learning_rate import cosine_rate, exponential_rate, set_rate
from backline.nn.llama import LlamaConfig
from backline.nn.precision import faster_in_bfloat16
from backline.training.codec import evaluating
from backline.training.hcodec import WATCHED
from backline.training.keeping import Keeping, by
from backline.training.loop import LoopConfig, Losses, Moment, Outcome, pick_device, train
from backline.training.mixtures import OURS as OUR_MIXTURES
from backline.training.mixtures import PAPER as PAPER_MIXTURES
from backline.training.mixtures import Augmentation, Feed, Mixtures, Rehearsed, StemsMaker

PAPER_WEIGHTS = (2.0, *[1.0] * 15)  # of the codebooks in the loss
ABLATION_WEIGHTS = (8.0, 4.0, 3.0, *[2.0] * 5, *[1.0] * 8)
Ablation = Literal["a1", "a2", "a3"]
SMALL = StemsConfig(
    encoder=ConformerConfig(4, 192, 4, norm="layer"),
    decoder=LlamaConfig(4, 256, 4, 768),
    mel=MelConfig(floor=1e-5),
    codebooks=8,
    codebook_size=512,
    condition="aligned",
    track_embedding=True,
    readout="mean",
    phase="mixture",
)


@dataclass(frozen=True)
class Lesson:
    """A batch, ready to learn from."""

    mixtures: Tensor  # [row, 1, sample]
    positions: Tensor  # [row, track, position, codebook], codes as they stand
    vectors: Tensor  # [row, track, path * latent, frame], what the codes sum to


@dataclass(frozen=True)
class StemsTraining:
    """What is trained and how hard."""

    network: StemsConfig = field(default_factory=lambda: SMALL)
    weights: tuple[float, ...] = PAPER_WEIGHTS  # [codebook], as many as the network has or more
    smoothing: float = 0.0  # with readout "mean" it would pull every vector towards the codebooks' mean
    vectors: float = 10.0  # weight of the mean squared distance of the expected vectors from the true ones
    # Of the past that a row is told, up to `own` is what the network itself would have told there, and of the rest up
    # to `misheard` belongs to another row; how much, each row draws. A network that has only seen the truth believes
    # what it has told itself more than what it hears, and is lost after one mistake.
    own: float = 1.0
    misheard: float = 1.0
    rate: float = 1e-3
    decay: Literal["cosine", "exponential"] = "cosine"  # of the rate, after the warm-up: by time, or step by step
    warmup_steps: int = 100
    augmentation: Augmentation = OUR_MIXTURES
    rows: int = 4
    passes: int = 3  # over each batch: to draw one and to have the codec encode it costs half as much as a step
    batches: int = 48  # kept at hand for them
    clip: float = 5.0


OURS = StemsTraining()
# Section 3.2. The rows are of one GPU, of which the paper has eight; what it leaves out is UniSE's (MODELS.md B1).
PAPER = StemsTraining(
    network=StemsConfig(), smoothing=0.1, vectors=0.0, own=0.0, misheard=0.0, rate=5e-4, decay="exponential",
    warmup_steps=2000, augmentation=PAPER_MIXTURES, rows=24, passes=1, batches=1,
)  # fmt: skip
# The paper's layout and readout in our sizes, for machines without such GPUs.
PAPER_SMALL = replace(
    PAPER,
    network=replace(SMALL, condition="prefix", track_embedding=False, readout="codes", phase="codec"),
    rows=OURS.rows,
)


def ablated(training: StemsTraining, ablation: Ablation) -> StemsTraining:
    """Section 4.3: a1 a frozen HuBERT hears in place of the Conformer, a2 steeper weights, a3 all tracks at once."""
    if ablation == "a2":
        return replace(training, weights=ABLATION_WEIGHTS)
    network = training.network
    changed = replace(network, listener="hubert") if ablation == "a1" else replace(network, tracks="parallel")
    return replace(training, network=changed)


def train_stems(
    loop: LoopConfig,
    config: StemsTraining,
    codec: HCodec,
    make_stems: StemsMaker,
    held_out: range,
    device: str = "auto",
    start: Mapping[str, Tensor] | None = None,
    old: Sequence[Stems] = (),
    hubert: Mapping[str, Tensor] | None = None,
) -> tuple[StemsNetwork, Outcome]:
    """Trains until the budget of `loop` is used up, or goes on with what is in its folder.

    Args:
        start: a network's tensors, by their names in a pack, to begin with instead of random ones.
        old: held-out songs of those that it knows already and is not to forget, see keeping.py.
        hubert: whom the network listens through, if through any: tensors by torchaudio's names.
    """
    torch.manual_seed(loop.seed)
    trainer = StemsTrainer(config, codec, make_stems, loop.seed, pick_device(device), hubert)
    if start is not None:
        trainer.network.load_state_dict(read_network(config.network, start).state_dict())
    judge = Keeping(trainer.validate, [make_stems(seed) for seed in held_out], old, WATCHED)
    outcome = train(loop, trainer.step, trainer.state(), judge, by(WATCHED), validate_first=start is not None)
    return trainer.network, outcome


class StemsTrainer:
    """The network, its teacher, and its data."""

    def __init__(
        self,
        config: StemsTraining,
        codec: HCodec,
        make_stems: StemsMaker,
        seed: int,
        device: torch.device,
        hubert: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.config, self.device = config, device
        self.codec = codec.eval().requires_grad_(False).to(device)
        network = config.network
        self.network = StemsNetwork(network)
        if network.listener == "hubert":
            mel = network.mel
            self.network.hubert = HubertFeatures(hubert or {}, network.hubert_width, mel.sample_rate, mel.hop)
        self.network.to(device)
        if len(config.weights) < network.codebooks:
            raise ValueError(f"{network.codebooks} codebooks are told, and weights are {config.weights}: give one each")
        self.optimizer = torch.optim.AdamW(self.network.parameters(), config.rate, betas=(0.9, 0.98), weight_decay=0.01)
        samples = network.window_frames * codec.samples_per_code
        self.mixtures = Mixtures(Feed(samples, config.rows, config.augmentation), make_stems, seed)
        self.bfloat16 = faster_in_bfloat16(device)
        self.codebooks = torch.stack([codec.quantizer(path).codebooks for path in PATHS])
        self.table = self.network.slots(network.window_frames)
        self.lessons = Rehearsed(self.lesson, config.passes, config.batches, seed)
        self.start_tables()

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"model": self.network, "optimizer": self.optimizer, "mixtures": self.mixtures}

    def step(self, moment: Moment) -> Losses:
        """One optimiser step on one batch."""
        rate = self.rate(moment)
        set_rate(self.optimizer, rate)
        lesson = self.lessons.next()
        losses = self.losses(lesson, self.past(lesson))
        total = losses["codes"]
        if self.config.vectors:
            total = total + self.config.vectors * losses["vectors"]
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        self.optimizer.step()
        return {name: float(value.detach()) for name, value in losses.items()} | {"norm": float(norm), "rate": rate}

    def rate(self, moment: Moment) -> float:
        """The learning rate of a step."""
        config = self.config
        if config.decay == "exponential":
            return exponential_rate(moment.step, config.rate, config.warmup_steps)
        return cosine_rate(moment.step, moment.progress, config.rate, config.warmup_steps)

    def lesson(self) -> Lesson:
        """A new batch."""
        return self.prepared(torch.from_numpy(self.mixtures.batch()).to(self.device))

    @torch.no_grad()
    def prepared(self, stems: Tensor) -> Lesson:
        """What stems [row, track, sample] teach."""
        codes = self.codec.encode(stems.flatten(0, 1)[:, None])
        positions = to_positions(codes.unflatten(0, stems.shape[:2]).cpu().numpy(), self.table)
        return Lesson(
            stems.sum(1, keepdim=True),
            torch.from_numpy(positions).to(self.device),
            self.codec.vectors(codes).unflatten(0, stems.shape[:2]),
        )

    @torch.no_grad()
    def past(self, lesson: Lesson) -> Tensor:
        """What the network is told of the past in training: not always the truth."""
        if not self.config.own and not self.config.misheard:
            return lesson.positions
        misheard = self.mixed(lesson.positions, self.other_rows(lesson.positions), self.config.misheard)
        if not self.config.own:
            return misheard
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            hidden = self.network(lesson.mixtures, misheard, self.table)
            own = self.likeliest(hidden)
        return self.mixed(misheard, own, self.config.own)

    def mixed(self, positions: Tensor, others: Tensor, share: float) -> Tensor:
        """[row, track, position, codebook] with positions from `others`, up to a `share` of each row."""
        shares = share * torch.rand(positions.shape[0], 1, 1, 1, device=self.device)
        return torch.where(torch.rand(*positions.shape[:3], 1, device=self.device) < shares, others, positions)

    def other_rows(self, positions: Tensor) -> Tensor:
        """What stands in another row at the same places: as likely there as wrong here."""
        return positions.roll(1 + int(torch.randint(max(1, positions.shape[0] - 1), ())), 0)

    def likeliest(self, hidden: Tensor) -> Tensor:
        """Codes [row, track, position, codebook] that the network would tell at each place by itself."""
        lanes = hidden[:, :, :-1].flatten(0, 1)  # [row * segment, position, width]
        told = torch.stack([self.network.logits(lanes, path).argmax(-1) for path in range(PATH_COUNT)])
        path = torch.from_numpy(np.maximum(self.table, 0) % PATH_COUNT).to(self.device)  # [position, codebook]
        chosen = torch.where(path[None, :, None] == 0, told[0], told[1])  # [row * segment, position, lane, codebook]
        return chosen.transpose(1, 2).unflatten(0, hidden.shape[:2]).flatten(1, 2)

    def losses(self, lesson: Lesson, past: Tensor) -> dict[str, Tensor]:
        """What `lesson` costs a network that is told the `past` [row, track, position, codebook].

        `codes` is trained on, and `vectors` where it weighs something; `first` and `last` are those codebooks' parts of
        the former.
        """
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            hidden = self.network(lesson.mixtures, past, self.table)
            every = self.code_losses(hidden, lesson.positions, self.table)
            if self.config.vectors:
                expected = vectors_of(self.network, hidden[:, :, :-1], self.table, self.codebooks)
        weights = torch.tensor(self.config.weights[: len(every)], device=self.device)
        losses = {
            "codes": (every * weights).sum() / weights.sum(),
            "first": every[0].detach(),
            "last": every[-1].detach(),
        }
        return losses | ({"vectors": F.mse_loss(expected, lesson.vectors)} if self.config.vectors else {})

    @torch.no_grad()
    def start_tables(self) -> None:
        """Embeddings and heads begin as the codebooks, seen through a random matrix: what sounds alike starts alike."""
        dim, width = self.codebooks.shape[-1], self.network.config.decoder.width
        for table in (self.network.embeddings, self.network.heads):
            seen = self.codebooks @ torch.randn(dim, width, device=self.device)  # [path, codebook, entry, width]
            table.copy_(0.02 * seen / seen.std(dim=(2, 3), keepdim=True))

    def code_losses(self, hidden: Tensor, positions: Tensor, table: Slots) -> Tensor:
        """Cross entropy [codebook], of both paths; the end counts among the first codebook's.

        Args:
            hidden: [row, segment, 1 + slot, width] as the network gives them.
            positions: [row, track, slot, codebook].
            table: where the codes stand.
        """
        network, config = self.network, self.network.config
        truth = positions.unflatten(1, (config.segments, config.lanes))  # [row, segment, lane, slot, codebook]
        losses = []
        for book in range(config.codebooks):
            parts = []
            for path in range(PATH_COUNT):
                places = torch.from_numpy(np.flatnonzero((table[:, book] >= 0) & (table[:, book] % 2 == path)))
                classes, wanted = network.heads[:, path, book], truth[:, :, :, places, book]
                telling = hidden[:, :, places]
                if path == 0 and book == 0:  # here the end may come, and after the last slot it does
                    classes = torch.cat([classes, network.end[:, None]], dim=1)
                    telling = torch.cat([telling, hidden[:, :, -1:]], dim=2)
                    wanted = F.pad(wanted, (0, 1), value=config.codebook_size)
                logits = torch.einsum("rspw,lew->rslpe", telling, classes)
                parts.append(
                    F.cross_entropy(
                        logits.float().flatten(0, -2), wanted.flatten(), label_smoothing=self.config.smoothing
                    )
                )
            losses.append(torch.stack(parts).mean())
        return torch.stack(losses)

    def validate(self, songs: Sequence[Stems]) -> dict[str, float]:
        """Losses on held-out songs' middles, and how far what is generated from nothing is from the tracks.

        `mel` is the mean log-mel distance of the estimates; `floor` is the codec's own; `sdri_..` by how many dB
        the SI-SDR of each stem is better than the mixture's, once they sum to it.
        """
        frames = self.network.config.window_frames
        length = frames * self.codec.samples_per_code
        cuts = [stems[:, max(0, stems.shape[1] - length) // 2 :][:, :length] for stems in songs]
        cuts = [np.pad(cut, ((0, 0), (0, length - cut.shape[1]))) for cut in cuts]
        result: dict[str, float] = {}
        with evaluating(self.network):
            lesson = self.prepared(torch.from_numpy(np.stack(cuts)).to(self.device))
            losses = self.losses(lesson, lesson.positions)
            result |= {f"{name}_loss": float(value) for name, value in losses.items()}
            separator = StemsSeparator(self.network, self.codec, str(self.device))
            history = separator.silence()
            rate = self.codec.sample_rate
            distances, floors, gains = [], [], []  # each [song][track]
            for cut in cuts:
                mixture = cut.sum(0)
                (told,) = separator.separate([Window(0, mixture[None], history, frames)])
                estimates = raised(told).estimates
                stems = consistent(mixture[None], estimates, RESIDUAL, mask_exponent=2.0)[:, 0]
                codec = self.codec.decode(self.codec.encode(torch.from_numpy(cut)[:, None].to(self.device)))[:, 0]
                gains.append([si_sdr(a, b) - si_sdr(mixture, b) for a, b in zip(stems, cut, strict=True)])
                distances.append([log_mel_distance(a, b, rate) for a, b in zip(estimates[:, 0], cut, strict=True)])
                floors.append([log_mel_distance(a, b, rate) for a, b in zip(codec.cpu().numpy(), cut, strict=True)])
        result |= {
            f"sdri_{track}": float(gain) for track, gain in zip(separator.tracks, np.mean(gains, axis=0), strict=True)
        }
        return result | {"mel": float(np.mean(distances)), "floor": float(np.mean(floors))}


def packed(network: StemsNetwork, dtype: torch.dtype = torch.float16) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a pack carries of a network: the [stems] table, and tensors named `stems.…`."""
    weights = dict(network.state_dict())
    if network.hubert is not None:
        weights |= {HUBERT + name: value for name, value in network.hubert.tensors.items()}
    tensors = {
        f"stems.{name}": value.detach().to("cpu", dtype if value.is_floating_point() else value.dtype)
        for name, value in weights.items()
    }
    return asdict(network.config), tensors
