"""What the tokens' vectors know of the music: tags of whole windows, and what sounds at each moment.

Nothing sees more than the codebooks' vectors of both tracks, averaged to 12.5 frames a second, so that no tokenizer has
more frames than another. Tags are found by a Conformer of two layers (appendix B.2), the moment's chord, key, place in
the beat and onsets by linear maps that hear 0.32 s ahead and as much back (ours).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from backline.evaluation.tokens.songs import Codes, Place
from backline.evaluation.tokens.tokenizers import TRACKS, DualTokenizer
from backline.measures.ranking import average_precision, roc_area
from backline.measures.report import Figure, Row
from backline.music.piece import Piece
from backline.music.theory import QUALITIES
from backline.nn.conformer import Conformer, ConformerConfig
from backline.nn.learning_rate import counted_rate, set_rate

PROBE_RATE = 12.5  # frames a second
NEAR = 4  # frames to either side that a linear map hears: 0.32 s
KEY_FRAMES = 100  # so many back as well where a key is to be heard: 8 s
TAG_PROBE = ConformerConfig(layers=2, width=96, heads=4, kernel=31, norm="layer", dropout=0.1)
TAG_RATE, TAG_BATCH = 1e-3, 8
LINEAR_STEPS, LINEAR_RATE, LINEAR_BATCH, DECAY = 400, 1e-2, 1024, 1e-3
TEMPI = (80.0, 100.0, 120.0)  # beats a minute between the classes
CHORDS, KEYS, QUARTERS = 36, 24, 4


# ---- what is heard ----


def features(tokenizer: DualTokenizer, codes: Codes, seconds: float) -> Tensor:
    """[probe frame, dimension] of codes by track [codebook, frame] that last so many seconds."""
    frames = int(seconds * PROBE_RATE)
    found = []
    for track in TRACKS:
        vectors = tokenizer.tracks[track].vectors(codes[track]).float().cpu()
        found.append(F.adaptive_avg_pool1d(vectors.T[None], frames)[0].T)
    return torch.cat(found, dim=1)


class Standard:
    """Every dimension with mean 0 and deviation 1, by what is learnt from."""

    def __init__(self, learnt: Sequence[Tensor]) -> None:
        every = torch.cat(list(learnt))
        self.mean, self.deviation = every.mean(0), every.std(0) + 1e-4

    def __call__(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.deviation


# ---- tags ----


def tags(piece: Piece, voices: Sequence[object]) -> frozenset[str]:
    """What is true of a composed song as a whole; `voices`: those of its world, by which a singer has a number."""
    tempo = sum(piece.tempo / piece.metre.pulse > edge for edge in TEMPI)
    programmes = {f"programme {getattr(piece.band, part)}" for part in ("bass", "comp", "pad") if piece.parts.get(part)}
    singer = {f"singer {voices.index(piece.voice)}"} if piece.voice in voices else set()
    return frozenset(
        {
            f"style {piece.style}",
            f"mode {piece.key.mode}",
            f"metre {piece.metre.name}",
            f"tempo {tempo}",
            *programmes,
            *singer,
        }
    )


@dataclass(frozen=True)
class Tagged:
    """One clip for the probe."""

    features: Tensor  # [probe frame, dimension], as many frames for each
    tags: frozenset[str]


class TagProbe(nn.Module):
    """[row, frame, dimension] -> scores [row, tag]."""

    def __init__(self, dimension: int, count: int) -> None:
        super().__init__()
        self.entry = nn.Linear(dimension, TAG_PROBE.width)
        self.conformer = Conformer(TAG_PROBE)
        self.out = nn.Linear(TAG_PROBE.width, count)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.out(self.conformer(self.entry(x)).mean(1))
        return scores


def tag_scores(learnt: Sequence[Tagged], judged: Sequence[Tagged], steps: int, device: torch.device) -> Row:
    """AP and AUC, means over the tags that some of either have, and not all; empty where there is none."""
    names = told_apart(learnt, judged)
    if not names:
        return {}
    standard = Standard([each.features for each in learnt])
    heard = torch.stack([standard(each.features) for each in learnt]).to(device)
    wanted = torch.tensor([[name in each.tags for name in names] for each in learnt]).float().to(device)
    draw = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        probe = TagProbe(heard.shape[2], len(names)).to(device)
        optimizer = torch.optim.AdamW(probe.parameters(), TAG_RATE, weight_decay=0.01)
        for step in range(steps):
            set_rate(optimizer, counted_rate(step, steps, TAG_RATE, max(1, steps // 10), TAG_RATE / 20))
            rows = torch.randint(len(heard), (TAG_BATCH,), generator=draw).to(device)
            loss = F.binary_cross_entropy_with_logits(probe(heard[rows]), wanted[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    probe.eval()
    with torch.no_grad():
        scores = [probe(standard(each.features)[None].to(device))[0].cpu() for each in judged]
    return ranked(judged, names, torch.stack(scores).double().numpy())


def majority_scores(learnt: Sequence[Tagged], judged: Sequence[Tagged]) -> Row:
    """The same of what says of every clip how frequent a tag is: AP is its share, AUC a half."""
    names = told_apart(learnt, judged)
    return ranked(judged, names, np.zeros((len(judged), len(names)))) if names else {}


def told_apart(learnt: Sequence[Tagged], judged: Sequence[Tagged]) -> list[str]:
    """The tags that can be learnt and measured."""
    return sorted(
        name
        for name in frozenset().union(*(each.tags for each in learnt))
        if all(0 < sum(name in each.tags for each in some) < len(some) for some in (learnt, judged))
    )


def ranked(judged: Sequence[Tagged], names: Sequence[str], scores: NDArray[np.float64]) -> Row:
    """AP and AUC of scores [clip, tag], with errors over the tags."""
    true = np.array([[name in each.tags for name in names] for each in judged])
    pairs = list(zip(true.T, scores.T, strict=True))
    return {
        "tag AP": Figure.of([average_precision(*pair) for pair in pairs]),
        "tag AUC": Figure.of([roc_area(*pair) for pair in pairs]),
    }


# ---- the moment ----


@dataclass(frozen=True)
class Moments:
    """What a window sounds like, and what is true of it, by probe frame."""

    features: Tensor  # [frame, dimension]
    truths: Mapping[str, Tensor]  # by question, int64 [frame]


CLASSES = {"chord": CHORDS, "key": KEYS, "beat phase": QUARTERS, "onset": 2}


def moments(tokenizer: DualTokenizer, place: Place, window: float) -> Moments:
    """Of a composed song's window."""
    assert place.song.piece is not None, "songs from disk have no score"
    heard = features(tokenizer, place.codes(tokenizer, window), window)
    return Moments(heard, truths(place.song.piece, place.begin, len(heard)))


def truths(piece: Piece, begin: float, frames: int) -> dict[str, Tensor]:
    """Answers [frame] from `begin` s on, at the centre of each probe frame."""
    seconds = begin + (np.arange(frames) + 0.5) / PROBE_RATE
    beat = seconds / piece.seconds_per_beat
    starts = np.array([span.start for span in piece.chords])
    triads = np.array([span.chord.root + 12 * _triad(span.chord.quality) for span in piece.chords])
    pulse = beat / piece.metre.pulse
    key = piece.key.tonic + 12 * (piece.key.mode == "minor")
    notes = [note.start * piece.seconds_per_beat for part in piece.parts.values() for note in part]
    onset = np.zeros(frames, np.int64)
    places = np.floor((np.array(notes) - begin) * PROBE_RATE).astype(int)
    onset[places[(places >= 0) & (places < frames)]] = 1
    return {
        "chord": torch.from_numpy(triads[np.maximum(0, np.searchsorted(starts, beat, side="right") - 1)]),
        "key": torch.full((frames,), key),
        "beat phase": torch.from_numpy((QUARTERS * (pulse % 1)).astype(np.int64)),
        "onset": torch.from_numpy(onset),
    }


def _triad(quality: str) -> int:
    """0 major, 1 minor, 2 diminished: what a chord is without its seventh."""
    return ((0, 4, 7), (0, 3, 7), (0, 3, 6)).index(QUALITIES[quality][:3])


def moment_scores(learnt: Sequence[Moments], judged: Sequence[Moments], songs: Sequence[object]) -> Row:
    """Accuracies of linear maps, by question, of an onset the area under the ROC curve; `songs` [judged] whose each is.

    Every class that is judged counts, also one that was never learnt.
    """
    row: dict[str, Figure] = {}
    for question, classes in CLASSES.items():
        around = _long if question == "key" else _near
        inputs = [around(each.features) for each in learnt]
        standard = Standard(inputs)
        x, y = standard(torch.cat(inputs)), torch.cat([each.truths[question] for each in learnt])
        weights = linear(x, y, classes)
        values: dict[int, list[float]] = {}
        for each, song in zip(judged, songs, strict=True):
            scores = standard(around(each.features)) @ weights[:-1] + weights[-1]
            true = each.truths[question]
            if question == "onset":
                if not 0 < int(true.sum()) < len(true):
                    continue  # nothing but onsets, or none
                value = roc_area(true.numpy() == 1, (scores[:, 1] - scores[:, 0]).double().numpy())
            else:
                value = float((scores.argmax(1) == true).double().mean())
            values.setdefault(id(song), []).append(value)
        if values:
            name = "onset AUC" if question == "onset" else f"{question} found"
            row[name] = Figure.of([float(np.mean(own)) for own in values.values()])
    return row


def linear(x: Tensor, y: Tensor, classes: int) -> Tensor:
    """Weights [dimension + 1, class] of a softmax regression of classes [item] on [item, dimension], the bias last."""
    draw = torch.Generator().manual_seed(0)
    weights = torch.zeros(x.shape[1] + 1, classes, requires_grad=True)
    optimizer = torch.optim.AdamW([weights], LINEAR_RATE, weight_decay=DECAY)
    for step in range(LINEAR_STEPS):
        set_rate(optimizer, counted_rate(step, LINEAR_STEPS, LINEAR_RATE, 1, LINEAR_RATE / 100))
        some = torch.randint(len(x), (LINEAR_BATCH,), generator=draw)
        loss = F.cross_entropy(x[some] @ weights[:-1] + weights[-1], y[some])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return weights.detach()


def _near(x: Tensor) -> Tensor:
    """[frame, 3 * dimension]: each frame, and the means of the NEAR ones before and after it."""
    before = _mean_of(x, -NEAR, 0)
    return torch.cat([before, x, _mean_of(x, 1, NEAR + 1)], dim=1)


def _long(x: Tensor) -> Tensor:
    """[frame, dimension]: the mean of what is heard from KEY_FRAMES before each frame to NEAR after it."""
    return _mean_of(x, -KEY_FRAMES, NEAR + 1)


def _mean_of(x: Tensor, first: int, last: int) -> Tensor:
    """The mean of frames t + first to t + last - 1 for every t; there are none beyond the ends, so zeros if all are."""
    sums = torch.cat([torch.zeros(1, x.shape[1]), x.cumsum(0)])
    frames = torch.arange(len(x))
    begin, end = (frames + first).clamp(0, len(x)), (frames + last).clamp(0, len(x))
    return (sums[end] - sums[begin]) / (end - begin).clamp(min=1)[:, None]
