"""How often a text finds what it asks for: among the stems of a song, and among all that there is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from backline.measures.pictures import panels
from backline.whole_file import whole_file

RESTING = 0.1  # of a stem's loudest second: below, it rests
QUIETEST = 1e-4  # root mean square of a second: below, there is nothing to hear


@dataclass(frozen=True)
class Heard:
    """Stems of a song in the space of the queries."""

    labels: tuple[tuple[str, ...], ...]  # of each stem, the narrowest first
    vectors: Tensor  # [stem, width], of unit length


def hear(
    embed: Callable[[Tensor], Tensor], song: tuple[Sequence[tuple[str, ...]], NDArray[np.float32]], rate: int
) -> Heard:
    """A song's stems that have a label: of each, the mean over the seconds in which it sounds.

    Args:
        embed: sounds [row, sample] of a second -> [row, width].
        song: labels of each stem, and the stems [stem, sample], mono.
        rate: Hz.
    """
    kept, vectors = [], []
    for labels, stem in zip(*song, strict=True):
        seconds = stem[: len(stem) // rate * rate].reshape(-1, rate)
        levels = np.sqrt(np.mean(np.square(seconds), axis=1))
        sounding = seconds[levels > max(QUIETEST, RESTING * levels.max(initial=0.0))]
        if labels and len(sounding):
            vectors.append(F.normalize(embed(torch.from_numpy(sounding)).mean(0).cpu(), dim=0))
            kept.append(labels)
    return Heard(tuple(kept), torch.stack(vectors) if vectors else torch.zeros(0, 0))


@dataclass(frozen=True)
class QueryAccuracy:
    """Shares from 0 to 1; not a number where nothing was asked."""

    in_song: float  # of the stems asked for: no other stem of the song is nearer to what asks
    of_all: float  # of all stems: no other label is nearer than their own
    confusion: NDArray[np.int64]  # [label of a stem, nearest label], labels as they were given


def query_accuracy(songs: Sequence[Heard], queries: Mapping[str, Tensor]) -> QueryAccuracy:
    """Asks songs for each stem whose narrowest label is among `queries`, by its vector [width]."""
    names = list(queries)
    vectors = torch.stack([queries[name] for name in names])
    found: list[bool] = []
    confusion = np.zeros((len(names), len(names)), np.int64)
    for song in songs:
        if not song.labels:
            continue
        likeness = vectors @ song.vectors.T  # [query, stem]
        for stem, labels in enumerate(song.labels):
            if labels[0] in queries:
                asked = names.index(labels[0])
                found.append(bool(likeness[asked].argmax() == stem))
                confusion[asked, int(likeness[:, stem].argmax())] += 1
    total = confusion.sum()
    return QueryAccuracy(
        float(np.mean(found)) if found else float("nan"),
        float(np.trace(confusion) / total) if total else float("nan"),
        confusion,
    )


def found_in_songs(songs: Sequence[Heard], label: str, query: Tensor) -> float | None:
    """Of the songs that have stems of `label` and others, the share in which a stem of it is nearest to the query."""
    hits = []
    for song in songs:
        right = [label in labels for labels in song.labels]
        if any(right) and not all(right):
            hits.append(right[int((song.vectors @ query).argmax())])
    return float(np.mean(hits)) if hits else None


def plot_confusion(path: Path, names: Sequence[str], confusion: NDArray[np.int64]) -> Path:
    """Draws what was asked, line by line, and what was nearest, as shares of each line.

    Raises:
        NoPicture: matplotlib is not installed.
    """
    picture, (axis,) = panels(1, width=3 + 0.28 * len(names), height=2 + 0.28 * len(names))
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    axis.imshow(shares, vmin=0, vmax=1, cmap="magma")
    ticks = range(len(names))
    axis.set_xticks(ticks, names, rotation=90)
    axis.set_yticks(ticks, [f"{name} ({count})" for name, count in zip(names, confusion.sum(axis=1), strict=True)])
    axis.set(xlabel="nearest", ylabel="true (stems)")
    with whole_file(path) as fresh:
        picture.savefig(fresh, dpi=90)
    return path
