"""The towers of text-queried models: what is asked for, and what sounds like it, drawn to one place (MGE.md 4).

Contrastive training, as CLIP's: in a batch of sounds, each with a text that asks for it, every text is to be nearer to
the sounds that it asks for than to all others, and every sound to its texts. A text may ask for several of them: for
those of its label, or for sums of the same stems. MiniLM stays as it is, its projection and the audio tower learn; in
the same steps the n-gram tower learns to say what MiniLM's projection says, of phrases as they are and mistyped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from backline.corpus.labelled import Labelled, Labels
from backline.measures.queries import hear, query_accuracy
from backline.models.mge.towers import PREFIX, WHERE_MEL_LIES, TowersConfig, TowersNetwork
from backline.models.mge.words import (
    ASKED,
    INSTRUMENTS,
    VOICE,
    ask_for_all,
    can_be_asked_for,
    mistyped,
    phrases,
    phrases_for,
)
from backline.music.people import levelled
from backline.music.recording import recorded
from backline.music.seeds import HELD_OUT_SEED, training_seed
from backline.nn.learning_rate import cosine_rate, set_rate
from backline.training.augmentation import vary_gain
from backline.training.codec import evaluating
from backline.training.loop import LoopConfig, Losses, Moment, Outcome, pick_device, train
from backline.training.run_folder import best_weights

StemsMaker = Callable[[int], Labelled]  # those of the song of a seed
Reader = Callable[[Sequence[str]], Tensor]  # texts to their meanings [text, 384]: MiniLM

PART = "towers"  # its folder within a run
HELD_OUT_SONGS = range(HELD_OUT_SEED, HELD_OUT_SEED + 8)  # seeds of the validation songs
WATCHED = "missed"  # the validation result by which the best is told
FAINTEST = 10 ** (-30 / 20)  # of a stem in a sum, against the loudest: below, nobody says that it is there
MOST_DRAWS = 10_000  # of a sound; some are drawn where their stem rests
SILENT = 0.1  # of a stem's own level: below, it rests


@dataclass(frozen=True)
class TowersTraining:
    """What is trained and how hard."""

    towers: TowersConfig = field(default_factory=TowersConfig)
    rate: float = 2e-3  # of the audio tower and the projection
    grams_rate: float = 1e-2
    decay: float = 0.05
    rows: int = 64
    seconds: float = 1.0  # of a sound
    songs: int = 48  # kept at hand to cut sounds from
    batches_per_song: int = 3  # then the oldest song is replaced by a new one
    singles: float = 0.7  # share of the sounds that are one stem; the others are sums
    recorded: float = 0.6  # share of the stems that are heard through a room and a microphone
    bleed: float = 0.3  # of the single ones: the rest of the song sounds along, faintly, as it does after a separator
    coloured: float = 8.0  # dB at most by which a sound's bands are louder or softer, along a line with two bends
    dropped: float = 0.1  # of MiniLM's dimensions, in a batch: no word hangs by one of them
    phrases: int = 256  # a step, for the n-gram tower
    mistyped: float = 0.4  # of these
    temperature: float = 0.07  # to begin with; learnt


@dataclass(frozen=True)
class Sounds:
    """A batch: what sounds, what asks for it, and which of the two belong together."""

    audio: NDArray[np.float32]  # [row, sample]
    texts: tuple[str, ...]
    matching: NDArray[np.bool_]  # [text, sound]
    unclear: NDArray[np.bool_]  # [text, sound]: neither do they belong together nor are they apart


@dataclass(frozen=True)
class Sound:
    """One sound and how it is asked for."""

    audio: NDArray[np.float32]  # [sample]
    text: str
    name: str  # the label asked for; "" of a sum
    labels: frozenset[str]  # of one stem, all; of a sum, the widest of each


class Lessons:
    """Batches of sounds with texts. Songs are never heard again once replaced."""

    def __init__(self, config: TowersTraining, make_stems: StemsMaker, seed: int) -> None:
        self.config, self.make_stems = config, make_stems
        self.next_seed = training_seed(seed, 0)
        self.generator = np.random.default_rng(seed)
        self.songs: list[tuple[Labelled, NDArray[np.float32]]] = []  # with the level of each stem
        self.batches = 0

    def batch(self) -> Sounds:
        if len(self.songs) < 4 or self.batches % self.config.batches_per_song == 0:
            while len(self.songs) < 4:
                self.add_song()
            self.add_song()
        self.batches += 1
        sounds = [self.sound() for _ in range(self.config.rows)]
        matching = np.array([[_asks_for(text, sound) for sound in sounds] for text in sounds])
        unclear = np.array([[_may_ask_for(text, sound) for sound in sounds] for text in sounds]) & ~matching
        audio = np.stack([sound.audio for sound in sounds])
        return Sounds(audio, tuple(sound.text for sound in sounds), matching, unclear)

    def add_song(self) -> None:
        labels, stems = self.make_stems(self.next_seed)
        stems = np.stack([self.recorded(*each) for each in zip(labels, stems, strict=True)])
        self.songs = [*self.songs[-self.config.songs + 1 :], ((labels, stems), _levels(stems))]
        self.next_seed += 1

    def recorded(self, called: Labels, stem: NDArray[np.float32]) -> NDArray[np.float32]:
        """A stem [sample] in a room, through a microphone, with its noise: else these would tell voices from the rest.

        Voices come as recordings (music/people.py).
        """
        level = float(_levels(stem))
        if VOICE in called or not level or self.generator.random() > self.config.recorded:
            return stem
        made = recorded(levelled(stem), self.config.towers.sample_rate, self.generator)
        return made * np.float32(level / max(float(_levels(made)), 1e-9))

    def sound(self) -> Sound:
        """One stem or a sum of several, each at its own level; all labels are equally likely."""
        config, draw = self.config, self.generator
        samples = round(config.seconds * config.towers.sample_rate)
        places: dict[str, list[tuple[int, int]]] = {}
        for number, ((labels, _), _) in enumerate(self.songs):
            for stem, called in enumerate(labels):
                if called:
                    places.setdefault(called[0], []).append((number, stem))
        for _ in range(MOST_DRAWS):
            of_label = places[list(places)[int(draw.integers(len(places)))]]
            number, stem = of_label[int(draw.integers(len(of_label)))]
            (labels, stems), usual = self.songs[number]
            start = int(draw.integers(max(1, stems.shape[1] - samples + 1)))
            cut = np.pad(stems[:, start : start + samples], ((0, 0), (0, max(0, samples - stems.shape[1]))))
            levels = _levels(cut)
            sounding = (levels > SILENT * usual) & (levels > FAINTEST * levels.max()) & (levels > 0)
            if not sounding[stem]:
                continue
            if draw.random() < config.singles or sounding.sum() < 2:
                return self._one(labels[stem], cut, stem)
            return self._sum(labels, cut, np.flatnonzero(sounding), stem)
        raise ValueError(f"of {MOST_DRAWS} cuts of songs none has a stem that sounds: give songs that are not silent")

    def _one(self, called: Labels, cut: NDArray[np.float32], stem: int) -> Sound:
        draw = self.generator
        name = called[0] if len(called) == 1 or draw.random() < 2 / 3 else called[int(draw.integers(1, len(called)))]
        audio = vary_gain(cut[stem], draw)
        if draw.random() < self.config.bleed:
            rest = cut.sum(axis=0) - cut[stem]
            level = float(_levels(audio)) * 10 ** (draw.uniform(-40, -15) / 20)
            audio = audio + rest * np.float32(min(1.0, level / max(float(_levels(rest)), 1e-9)))
        own = phrases_for(name)
        return Sound(audio, own[int(draw.integers(len(own)))], name, frozenset(called))

    def _sum(self, labels: Sequence[Labels], cut: NDArray[np.float32], sounding: NDArray[np.intp], stem: int) -> Sound:
        """A sum that has that stem and at least one of the others that sound."""
        draw = self.generator
        others = [each for each in sounding if each != stem]
        count = int(draw.integers(1, len(others) + 1))
        if draw.random() < 0.5:  # all but one, or all: what songs are asked for
            count = max(1, len(others) - int(draw.integers(2)))
        chosen = [stem, *(int(each) for each in draw.permutation(others)[:count])]
        if not can_be_asked_for(*_parted(labels, chosen, sounding)):
            chosen = [each for each in chosen if labels[each]]
            if len(chosen) == 1:
                return self._one(labels[stem], cut, stem)
        wanted, absent = _parted(labels, chosen, sounding)
        text = ask_for_all(draw, wanted, absent)
        audio = np.sum([vary_gain(cut[each], draw) for each in chosen], axis=0)
        return Sound(audio, text, "", frozenset(called[-1] if called else "" for called in wanted))

    def state_dict(self) -> dict[str, Any]:
        return {"next_seed": self.next_seed, "batches": self.batches, "generator": self.generator.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on with new songs; those at hand when the state was taken are not made again."""
        self.next_seed, self.batches = state["next_seed"], state["batches"]
        self.generator.bit_generator.state = state["generator"]


def _parted(
    labels: Sequence[Labels], chosen: Sequence[int], sounding: NDArray[np.intp]
) -> tuple[list[Labels], list[Labels]]:
    """The labels of what is chosen, and of what else sounds."""
    return [labels[each] for each in chosen], [labels[each] for each in sounding if each not in chosen]


def _asks_for(text: Sound, sound: Sound) -> bool:
    """Whether the text of one sound asks for another one: by its label, or for a sum of the same."""
    if text.name:
        return bool(sound.name) and text.name in sound.labels
    return not sound.name and (text.text == sound.text or text.labels == sound.labels)


def _may_ask_for(text: Sound, sound: Sound) -> bool:
    """Whether it may be said so: "everything but the voice" is a band of any size."""
    return not text.name and not sound.name and (text.labels <= sound.labels or text.labels >= sound.labels)


class Meanings:
    """What MiniLM says of texts, each asked once."""

    def __init__(self, minilm: Reader) -> None:
        self.minilm = minilm
        self.found: dict[str, Tensor] = {}

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """[text, 384]."""
        unknown = [text for text in dict.fromkeys(texts) if text not in self.found]
        for start in range(0, len(unknown), 64):
            some = unknown[start : start + 64]
            self.found |= dict(zip(some, self.minilm(some), strict=True))
        return torch.stack([self.found[text] for text in texts])


class Contrast(nn.Module):
    """InfoNCE with several positives (Khosla et al., 2020, eq. 2), both ways, at a temperature that is learnt."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def forward(self, texts: Tensor, sounds: Tensor, matching: Tensor, unclear: Tensor) -> Tensor:
        """
        Args:
            texts: [text, width], of unit length.
            sounds: [sound, width], of unit length.
            matching: [text, sound], at least one in every row and column.
            unclear: [text, sound], what counts neither way.
        """
        logits = self.scale.clamp(max=math.log(100)).exp() * texts @ sounds.T
        logits = logits.masked_fill(unclear, -torch.inf)
        wanted = matching.float()
        losses = []
        for axis in (0, 1):
            told = logits.log_softmax(axis).masked_fill(~matching, 0.0)
            losses.append(-(told.sum(axis) / wanted.sum(axis)).mean())
        return (losses[0] + losses[1]) / 2


def train_towers(
    loop: LoopConfig,
    config: TowersTraining,
    minilm: Reader,
    make_stems: StemsMaker,
    held_out: Sequence[int] = HELD_OUT_SONGS,
    device: str = "auto",
) -> tuple[TowersNetwork, Outcome]:
    """Trains until the budget of `loop` is used up, or goes on with what is in its folder.

    Args:
        loop: budget and folder.
        config: sizes and rates.
        minilm: which stays as it is.
        make_stems: labels and stems of the song of a seed, at the towers' rate (`labelled.stems_of`).
        held_out: seeds of songs by which the best weights are chosen.
        device: where the towers learn; MiniLM's few texts are read on the CPU.
    """
    place = pick_device(device)
    torch.manual_seed(loop.seed)
    trainer = TowersTrainer(config, minilm, make_stems, loop.seed, place)
    songs = [make_stems(seed) for seed in held_out]
    outcome = train(loop, trainer.step, trainer.state(), lambda: trainer.validate(songs), WATCHED)
    return trainer.network, outcome


class TowersTrainer:
    """The towers, what trains them, and their data."""

    def __init__(
        self, config: TowersTraining, minilm: Reader, make_stems: StemsMaker, seed: int, device: torch.device
    ) -> None:
        self.config, self.device = config, device
        self.network = TowersNetwork(config.towers).to(device)
        self.contrast = Contrast(config.temperature).to(device)
        self.meanings = Meanings(minilm)
        self.lessons = Lessons(config, make_stems, seed)
        self.phrases = [phrase for phrase, _ in phrases()]
        slow = [*self.network.audio.parameters(), *self.network.projection.parameters(), *self.contrast.parameters()]
        quick = self.network.grams.parameters()
        self.optimizer = torch.optim.AdamW(slow, config.rate, betas=(0.9, 0.98), weight_decay=config.decay)
        self.quick = torch.optim.AdamW(quick, config.grams_rate, betas=(0.9, 0.98), weight_decay=1e-3)
        nn.init.orthogonal_(self.network.projection.weight)  # what MiniLM tells apart begins apart

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "model": self.network, "contrast": self.contrast, "optimizer": self.optimizer, "quick": self.quick,
            "lessons": self.lessons,
        }  # fmt: skip

    def step(self, moment: Moment) -> Losses:
        """One optimiser step on one batch of sounds, and one of the n-gram tower on phrases."""
        config, network = self.config, self.network
        for optimizer, peak in ((self.optimizer, config.rate), (self.quick, config.grams_rate)):
            set_rate(optimizer, cosine_rate(moment.step, moment.progress, peak))
        batch = self.lessons.batch()
        meant = F.dropout(self.meanings(batch.texts).to(self.device), config.dropped)
        spectrum = network.audio.spectrum(torch.from_numpy(batch.audio).to(self.device))
        heard = network.audio.told(spectrum + self.colours(*spectrum.shape[:2]))
        pairs = (torch.from_numpy(each).to(self.device) for each in (batch.matching, batch.unclear))
        contrast = self.contrast(network.projected(meant), heard, *pairs)
        self.optimizer.zero_grad(set_to_none=True)
        contrast.backward()
        norm = nn.utils.clip_grad_norm_([p for group in self.optimizer.param_groups for p in group["params"]], 1.0)
        self.optimizer.step()
        distilled = self.distil(batch.texts)
        return {
            "contrast": float(contrast.detach()), "distilled": distilled, "norm": float(norm),
            "rate": self.optimizer.param_groups[0]["lr"], "temperature": float((-self.contrast.scale.detach()).exp()),
        }  # fmt: skip

    def colours(self, rows: int, bands: int) -> Tensor:
        """[row, band, 1] to add to a spectrum: instruments are recorded and mixed in many ways."""
        bends = (2 * torch.rand(rows, 1, 4) - 1) * self.config.coloured * math.log(10) / 20 / WHERE_MEL_LIES[1]
        return F.interpolate(bends, bands, mode="linear", align_corners=True).transpose(1, 2).to(self.device)

    def distil(self, texts: Sequence[str]) -> float:
        """One step of the n-gram tower; returns how far it is from MiniLM's projection, 1 - cosine."""
        draw = self.lessons.generator
        clean = [*texts, *(self.phrases[at] for at in draw.integers(len(self.phrases), size=self.config.phrases))]
        typed = [mistyped(draw, text) if draw.random() < self.config.mistyped else text for text in clean]
        with torch.no_grad():
            wanted = self.network.projected(self.meanings(clean).to(self.device))
        loss = (1 - (self.network.grams(typed) * wanted).sum(-1)).mean()
        self.quick.zero_grad(set_to_none=True)
        loss.backward()
        self.quick.step()
        return float(loss.detach())

    def validate(self, songs: Sequence[Labelled]) -> dict[str, float]:
        """On held-out songs, with both towers that read text, by the names of the instruments.

        `.._missed` is the share of the stems asked for to whose name another stem of the song is nearer, `.._confused`
        of all stems to which another name is nearer; `missed` is the mean of all four.
        """
        names = [ASKED.format(name) for name in INSTRUMENTS]
        with evaluating(self.network):
            rate = self.config.towers.sample_rate
            heard = [hear(lambda sounds: self.network.audio(sounds.to(self.device)), song, rate) for song in songs]
            known = self.network.projected(self.meanings(names).to(self.device)).cpu()
            typed = self.network.grams(names).cpu()
        found: dict[str, float] = {}
        for tower, vectors in (("minilm", known), ("grams", typed)):
            figures = query_accuracy(heard, dict(zip(INSTRUMENTS, vectors, strict=True)))
            found |= {f"{tower}_missed": 1 - figures.in_song, f"{tower}_confused": 1 - figures.of_all}
        return found | {WATCHED: float(np.mean(list(found.values())))}


def best_towers(part: Path, config: TowersConfig) -> TowersNetwork:
    """The towers of a part's folder at their best validation, or their latest where there was none yet.

    Raises:
        ValueError: they have not been trained.
    """
    network = TowersNetwork(config)
    network.load_state_dict(best_weights(part))
    return network.eval()


def packed(network: TowersNetwork) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a pack carries of the towers: the [towers] table, and tensors named `towers.…`, in float32."""
    return asdict(network.config), {f"{PREFIX}{name}": value.cpu() for name, value in network.state_dict().items()}


def _levels(sounds: NDArray[np.float32]) -> NDArray[np.float32]:
    """Root mean square over the last axis."""
    levels: NDArray[np.float32] = np.sqrt(np.mean(np.square(sounds), axis=-1))
    return levels
