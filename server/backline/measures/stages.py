"""How well a stage of HAFM predicts, and how much of that it owes to the voice: losses clip by clip, paired.

A stage that beats its own unconditional loss has learnt from its conditions; one that does worse with those of another
song has learnt from these very ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backline.measures.report import Figure
from backline.models.hafm.interleaved.layout import Layout
from backline.models.hafm.interleaved.network import StageNetwork, quantizer_losses
from backline.models.hafm.sources import VOCAL

Losses = NDArray[np.float64]  # [clip] nats per token

OWN, NONE, OTHERS, VOICE = "own", "none", "others", "another voice"  # conditions


@dataclass(frozen=True)
class StageLosses:
    """The losses of the same clips."""

    by_condition: Mapping[str, Losses]  # with its own, without any, with another song's; with another's voice alone

    def figures(self) -> dict[str, Figure]:
        """Means with their standard errors; gains are differences clip by clip."""
        own, none, others = (self.by_condition[name] for name in (OWN, NONE, OTHERS))
        found = {
            "loss": own,
            "unconditional": none,
            "shuffled": others,
            "gain": none - own,
            "gain over shuffled": others - own,
        }
        if VOICE in self.by_condition:
            found["gain over shuffled voice"] = self.by_condition[VOICE] - own
        return {name: Figure.of(losses) for name, losses in found.items()}


@torch.no_grad()
def stage_losses(
    network: StageNetwork,
    conditions: Sequence[Tensor],
    targets: Tensor,
    layout: Layout,
    songs: Sequence[int] | None = None,
    rows: int = 8,
) -> StageLosses:
    """Losses under teacher forcing, in nats per token.

    Args:
        conditions: per source [clip, codebook, frame].
        targets: [clip, quantizer, frame].
        songs: of which each clip is, from 0 on; losses are then means by song. None: each clip is a song of its own.
        rows: clips at a time.
    Raises:
        ValueError: all clips are of one song, so that there is no other.
    """
    device = next(network.parameters()).device
    number = np.arange(len(targets)) if songs is None else np.asarray(songs)
    if len(np.unique(number)) < 2:
        raise ValueError("all clips are of one song: give songs enough to exchange their voices")
    away = others(number)
    names = [source.name for source in network.config.sources]
    exchanged = {OWN: set[str](), NONE: set[str](), OTHERS: set(names)}  # sources that are another song's
    if VOCAL.name in names:
        exchanged[VOICE] = {VOCAL.name}
    found: dict[str, list[Tensor]] = {name: [] for name in exchanged}
    for at in range(0, len(targets), rows):
        part = torch.arange(at, min(at + rows, len(targets)))
        wanted = targets[part].to(device)
        drop = torch.ones(len(part), len(conditions), dtype=torch.bool, device=device)
        for condition, others_own in exchanged.items():
            given = [
                tokens[away[part] if name in others_own else part].to(device)
                for name, tokens in zip(names, conditions, strict=True)
            ]
            logits = network(given, wanted, layout, drop if condition == NONE else None)
            found[condition].append(quantizer_losses(logits, wanted).mean(1).cpu())
    each = {name: torch.cat(losses).double().numpy() for name, losses in found.items()}
    return StageLosses({name: _by_song(losses, number) for name, losses in each.items()})


def others(songs: NDArray[np.int64]) -> Tensor:
    """For each clip one of another song [clip]: the first from a third of the way round on."""
    count = len(songs)
    found = []
    for clip in range(count):
        far = (clip + max(1, count // 3) + np.arange(count)) % count
        found.append(int(far[songs[far] != songs[clip]][0]))
    return torch.tensor(found)


def _by_song(losses: Losses, songs: NDArray[np.int64]) -> Losses:
    return np.array([losses[songs == song].mean() for song in np.unique(songs)])
