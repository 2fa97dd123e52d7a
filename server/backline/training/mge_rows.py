"""Rows that MGE-LDM learns from: a source of some song, its submixture and the mixture, with times and conditions.

Each row draws a task, whose given track is clean, and one time for all that is noisy. In SMALL (mge.py) so is, in half
of the rows, the past of all tracks, so that a stream can go on from what it has said; and conditions are mostly where
the task asks, since that is where they will be. That condition lies between a phrase's vector and the sound's (appendix
E.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from backline.models.mge.offline import Reader
from backline.models.mge.tasks import MIXTURE, SOURCE, TASKS, TRACKS
from backline.models.mge.words import INSTRUMENTS, ask_for_all, can_be_asked_for, labels_of
from backline.nn.diffusion import LEAST_TIME
from backline.training.mge_songs import Encoded

MOST_TEXTS = 20_000  # whose vectors are kept
KINDS = ("one", "all but one", "none", "all")  # of sources, by how many of a song's stems they are


@dataclass(frozen=True)
class Drawn:
    """How rows are drawn; the defaults are the paper's."""

    rows: int = 64
    tasks: tuple[float, ...] = (0.25, 0.25, 0.25, 0.25)  # shares of the rows, in the order of TASKS
    # Likewise of KINDS, where the mixture is given; elsewhere a source is one stem. Who asks for none names what is not
    # there, and is answered by silence.
    sources: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0)
    dropped: float = 0.1  # share of the conditions that are left out where the task asks
    dropped_else: float = 0.1  # and on the other tracks
    phrases: Literal["source", "asked"] = "source"  # the track that is known by a phrase as well as by its sound
    past: float = 0.0  # share of the rows whose beginning is clean on all tracks; only with a time for every frame


PAPER = Drawn()
SMALL = Drawn(
    rows=16, tasks=(0.4, 0.25, 0.1, 0.25), sources=(0.78, 0.12, 0.08, 0.02), dropped_else=0.9, phrases="asked", past=0.5
)


@dataclass(frozen=True)
class Batch:
    """Rows, ready to learn from."""

    clean: Tensor  # [row, track, channel, frame], as the VAE has latents
    times: Tensor  # [row, track, frame or 1]
    condition: Tensor  # [row, track, dimension]

    def to(self, device: torch.device) -> Batch:
        return Batch(self.clean.to(device), self.times.to(device), self.condition.to(device))


class Drawing:
    """Draws batches from songs; a resumed one goes on with the draws that would have come."""

    def __init__(
        self, config: Drawn, readers: Sequence[Reader], frames: int, times: Literal["token", "frame"], seed: int
    ) -> None:
        """
        Args:
            readers: what may hear a phrase; chance decides.
            frames: of a window.
            times: whether each of them has its own time.
        """
        self.config, self.readers, self.frames, self.by_frame = config, readers, frames, times == "frame"
        self.random = np.random.default_rng([seed, 0xD1F])
        self.texts: dict[tuple[int, str], Tensor] = {}  # vectors of phrases

    def state_dict(self) -> dict[str, Any]:
        return {"random": self.random.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.random.bit_generator.state = state["random"]

    def batch(self, songs: Sequence[Encoded]) -> Batch:
        """Rows of as many songs, each from anywhere."""
        rows = [self.row(songs[int(self.random.integers(len(songs)))]) for _ in range(self.config.rows)]
        return Batch(*(torch.stack(parts) for parts in zip(*rows, strict=True)))

    def row(self, song: Encoded) -> tuple[Tensor, Tensor, Tensor]:
        """Latents [track, channel, frame], times [track, frame or 1] and condition [track, dimension]."""
        config, draw = self.config, self.random
        task = list(TASKS.values())[int(draw.choice(len(TASKS), p=config.tasks))]
        kind = KINDS[int(draw.choice(len(KINDS), p=config.sources))] if task.given == MIXTURE else "one"
        if kind == "none" and not all(song.labels):
            kind = "one"  # what has no name may be just what would be said not to be there
        source = self.source(song, kind)
        subsets = (len(song.subsets) - 1, song.rest(source), source)  # in the order of TRACKS
        start = int(draw.integers(max(1, song.frames - self.frames + 1)))
        condition = torch.stack([self.heard(song, subset, start) for subset in subsets])
        track = SOURCE if config.phrases == "source" else task.asked
        text = self.phrase_for_nothing(song) if kind == "none" else self.phrase(song, subsets[track])
        if text is not None:
            share = 1.0 if kind == "none" else float(draw.random())
            condition[track] = share * self.embedded(text) + (1 - share) * condition[track]
        for track in range(len(TRACKS)):
            if draw.random() < (config.dropped if track == task.asked else config.dropped_else):
                condition[track] = 0
        return torch.from_numpy(window(song, subsets, start, self.frames)), self.times(task.given), condition

    def source(self, song: Encoded, kind: str) -> int:
        """A subset of a song's stems of that kind: of those with names, if there are any."""
        wanted = {"none": 0, "one": 1, "all but one": len(song.labels) - 1, "all": len(song.labels)}[kind]
        found = [int(subset) for subset in np.flatnonzero(song.subsets.sum(axis=1) == wanted)]
        choices = [subset for subset in found if all(song.named(subset))] or found
        return choices[int(self.random.integers(len(choices)))]

    def phrase(self, song: Encoded, subset: int) -> str | None:
        """What asks for some of a song's stems; nothing where one has no name, and what is left out does not tell it.

        A family's name is no name for one of its members beside another.
        """
        wanted, others = song.named(subset), song.named(song.rest(subset))
        if not can_be_asked_for(wanted, others):
            return None
        taken = {name for labels in others for name in labels}
        called = [tuple(name for name in labels if name not in taken) or labels[:1] for labels in wanted]
        return ask_for_all(self.random, called, others)

    def phrase_for_nothing(self, song: Encoded) -> str:
        """What asks for an instrument that a song has not got, nor any of its family."""
        there = {name for labels in song.labels for name in labels}
        absent = [name for name in INSTRUMENTS if there.isdisjoint(labels_of(name))]
        return ask_for_all(self.random, [(absent[int(self.random.integers(len(absent)))],)], song.named(-1))

    def embedded(self, text: str) -> Tensor:
        reader = int(self.random.integers(len(self.readers)))
        if (reader, text) not in self.texts:
            if len(self.texts) >= MOST_TEXTS:
                self.texts.clear()
            self.texts[reader, text] = self.readers[reader].embed(text).float().cpu()
        return self.texts[reader, text]

    def heard(self, song: Encoded, subset: int, start: int) -> Tensor:
        """What the audio tower hears of a window [dimension], of length 1."""
        seconds = song.heard.shape[1]
        first = min(seconds - 1, round(start * seconds / song.frames))
        last = max(first + 1, round((start + self.frames) * seconds / song.frames))
        return F.normalize(torch.from_numpy(song.heard[subset, first:last].astype(np.float32).mean(axis=0)), dim=0)

    def times(self, given: int | None) -> Tensor:
        """[track, frame or 1]: one draw for all that is noisy, 0 for what is not."""
        draw, frames = self.random, self.frames if self.by_frame else 1
        times = torch.full((len(TRACKS), frames), float(draw.uniform(LEAST_TIME, 1.0)))
        if given is not None:
            times[given] = 0
        if self.by_frame and draw.random() < self.config.past:
            times[:, : int(draw.integers(1, frames))] = 0
        return times


def window(song: Encoded, subsets: Sequence[int], start: int, frames: int) -> NDArray[np.float32]:
    """Latents [subset, channel, frame] of so many frames; a song that ends before goes on in silence."""
    cut = song.latents[list(subsets), :, start : start + frames].astype(np.float32)
    if (missing := frames - cut.shape[2]) > 0:
        silence = song.latents[:1, :, -1:].astype(np.float32)
        cut = np.concatenate([cut, np.broadcast_to(silence, (*cut.shape[:2], missing))], axis=2)
    return cut
