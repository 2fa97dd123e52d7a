"""What a DuoTok encoder is taught by: heads for mel, chroma, words and masks, their losses, and noise (section 3.2).

In training only. In stage 3 the same heads go on from the vectors of the codes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PITCH_CLASSES = 12
BLANK = 0  # of CTC; words are numbered from 1
TRACKS = 4  # that masks tell apart
RARE = 10.0  # times as likely as all words together a blank is at first


@dataclass(frozen=True)
class HeadsConfig:
    """Sizes. 0 of a kind: no such head."""

    width: int  # of what they hear
    bands: int  # of the mel frames that are told
    mels: int  # mel frames of a token
    words: int = 0  # of the vocabulary
    mask_bands: int = 0


class Heads(nn.Module):
    """Hidden states [row, frame, width] to what is true of each frame; every frame is told from itself alone."""

    def __init__(self, config: HeadsConfig) -> None:
        super().__init__()
        self.config = config
        self.mel = head(config.width, config.mels * config.bands)
        self.chroma = head(config.width, PITCH_CLASSES)
        self.words = head(config.width, config.words + 1) if config.words else None
        if self.words is not None:  # or all of CTC's first steps would go into learning that most frames tell no word
            last = self.words[-1]
            assert isinstance(last, nn.Linear)
            nn.init.constant_(last.bias[BLANK], math.log(RARE * config.words))
        self.masks = head(config.width, TRACKS * config.mels * config.mask_bands) if config.mask_bands else None

    def mel_frames(self, hidden: Tensor) -> Tensor:
        """[row, mel frame, band]"""
        frames: Tensor = self.mel(hidden)
        return frames.reshape(len(hidden), -1, self.config.bands)

    def mask_frames(self, hidden: Tensor) -> Tensor:
        """[row, track, band, mel frame], each from 0 to 1."""
        assert self.masks is not None, "there is no such head"
        rows, frames, _ = hidden.shape
        found: Tensor = self.masks(hidden).sigmoid()
        found = found.view(rows, frames, TRACKS, self.config.mask_bands, self.config.mels)
        return found.permute(0, 2, 3, 1, 4).flatten(3)


def head(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, out))


class Replacement(nn.Module):
    """Eq. 1: a share of the frames is replaced by Gaussian noise with the mean and deviation of each dimension.

    h~_t = (1 - m_t) h_t + m_t e_t, m_t ~ Bern(share), e_t ~ N(mean, deviation^2). What is not replaced must tell.
    """

    mean: Tensor  # [width], running, as the next
    square: Tensor  # [width]
    seen: Tensor  # []: batches

    def __init__(self, width: int, share: float, kept: float = 0.99) -> None:
        """
        Args:
            share: of the frames.
            kept: of the running statistics with every batch.
        """
        super().__init__()
        self.share, self.kept = share, kept
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("square", torch.zeros(width))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, hidden: Tensor) -> Tensor:
        """[row, frame, width]; the statistics move with it."""
        self.observe(hidden)
        replaced = torch.rand(hidden.shape[:2], device=hidden.device) < self.share
        noise = self.mean + self.deviation * torch.randn(hidden.shape, device=hidden.device)
        return torch.where(replaced[..., None], noise.to(hidden.dtype), hidden)

    @property
    def deviation(self) -> Tensor:
        """[width]"""
        return (self.square - self.mean.square()).clamp(min=0).sqrt()

    @torch.no_grad()
    def observe(self, hidden: Tensor) -> None:
        """Moves the statistics: the plain means at first, running ones later."""
        frames = hidden.flatten(0, 1).float()
        self.seen += 1
        kept = min(self.kept, 1 - 1 / float(self.seen))
        self.mean.lerp_(frames.mean(0), 1 - kept)
        self.square.lerp_(frames.square().mean(0), 1 - kept)


def mel_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute difference of z-scored mel frames [row, mel frame, band]."""
    return (found - wanted).abs().mean()


def chroma_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """Cross-entropy with shares of the pitch classes [row, frame, PITCH_CLASSES]; where all are 0, nothing counts."""
    counted = wanted.sum(-1) > 0
    if not counted.any():
        return logits.sum() * 0
    return -(wanted * logits.log_softmax(-1)).sum(-1)[counted].mean()


def words_loss(logits: Tensor, words: list[Tensor]) -> Tensor:
    """CTC a word of logits [row, frame, 1 + word], over rows whose words [word] are given: numbers from 1.

    Rows without any, and rows with more than their frames can tell, do not count.
    """
    frames = logits.shape[1]
    counted = [row for row, each in enumerate(words) if 0 < needed(each) <= frames]
    if not counted:
        return logits.sum() * 0
    lengths = torch.tensor([len(words[row]) for row in counted])
    told = logits[counted].float().log_softmax(-1).transpose(0, 1)
    wanted = torch.cat([words[row] for row in counted])
    heard = torch.full((len(counted),), frames)
    return F.ctc_loss(told, wanted, heard, lengths, blank=BLANK, reduction="sum") / lengths.sum()


def needed(words: Tensor) -> int:
    """Frames that CTC needs at least for words [word]: one each, and a blank between equal ones."""
    return len(words) + int((words[1:] == words[:-1]).sum())


def masks_loss(found: Tensor, wanted: Tensor, known: Tensor) -> Tensor:
    """Eq. 3: (1 / tracks) sum_s mean |M^_s - M_s| of masks [row, track, band, mel frame], where they are `known` [row].

    All tracks have as many elements, so that is the mean over all.
    """
    if not known.any():
        return found.sum() * 0
    return (found - wanted).abs()[known].mean()


def spelt(logits: Tensor) -> list[list[int]]:
    """What each row [frame, 1 + word] of a batch tells most plainly: its best path without repeats and blanks."""
    paths = logits.argmax(-1)
    return [[int(word) for word in path.unique_consecutive() if word != BLANK] for path in paths]


def edits(found: list[int], wanted: list[int]) -> int:
    """Fewest insertions, deletions and substitutions between two sequences."""
    row = list(range(len(wanted) + 1))
    for at, word in enumerate(found, 1):
        before, row[0] = row[0], at
        for other, true in enumerate(wanted, 1):
            before, row[other] = row[other], min(row[other] + 1, row[other - 1] + 1, before + (word != true))
    return row[-1]
