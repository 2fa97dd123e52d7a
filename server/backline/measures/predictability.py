"""How well a small language model learns to predict a codec's tokens: bits per token, and its normalised forms.

The protocol, the same for every codec, so that only the tokens differ:
- The model: a causal transformer of 2 layers and width 160 (0.5 M parameters, beside embeddings and heads), a position
  a frame, in a delay pattern: codebook q comes q positions late. A token is predicted from all that stands at earlier
  positions, so also from the codebooks before its own in its frame. The heads begin at the tokens' frequencies.
- Its training: STEPS steps of AdamW on batches of 8 windows of 2 s, cut anywhere out of the songs to learn from;
  warm-up and half a cosine; one seed. A codec with fewer frames or codebooks hears the same seconds of music.
- The measurement: held-out songs in consecutive windows of 2 s, every token of a window counts, its first too.
Songs, codec and all, 8 codebooks of 1024 entries at 75 Hz take 150 seconds of one core (Intel Xeon).

The figures are those of DuoTok: bits per token BPT = E[-log2 q(x)], over all codebooks; cnBPT = BPT / log2(K), against
codes of K entries that nothing predicts; enBPT = BPT / H, against their entropy by frequency; cnBPS = R cnBPT for R
tokens a second. They compare codecs measured by this protocol; a larger model or more songs give lower ones. The
protocol of DuoTok itself, two tracks and 30 s, is evaluation/tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backline.measures.codes import perplexity
from backline.nn.learning_rate import cosine_rate, set_rate
from backline.nn.transformer import Transformer, TransformerConfig

STEPS = 300
WINDOW_SECONDS = 2
ROWS = 8  # windows in a batch
WIDTH = 160
LAYERS = 2
RATE = 3e-3
WARM_UP_STEPS = 30
SEED = 0


@dataclass(frozen=True)
class Predictability:
    """What was measured of one track's tokens; codebooks may differ in their sizes (DuoTok, appendix A)."""

    bits_per_token: tuple[float, ...]  # by codebook, on the held-out songs
    entropies: tuple[float, ...]  # by codebook, bits per token by frequency alone
    sizes: tuple[int, ...]  # entries, by codebook
    frame_rate: float  # Hz

    @property
    def bpt(self) -> float:
        """Bits per token over all codebooks (Eq. 13)."""
        return float(np.mean(self.bits_per_token))

    @property
    def index_bits(self) -> float:
        """What a token costs that nothing predicts, over all codebooks (Eq. 14)."""
        return float(np.mean(np.log2(self.sizes)))

    @property
    def entropy(self) -> float:
        """Bits per token by frequency alone, over all codebooks."""
        return float(np.mean(self.entropies))

    @property
    def cnbpt(self) -> float:
        """Bits per token, as a share of what tokens cost that nothing predicts (Eq. 15)."""
        return self.bpt / self.index_bits

    @property
    def enbpt(self) -> float:
        """Bits per token, as a share of their entropy (Eq. 16); not a number where the tokens never change."""
        return self.bpt / self.entropy if self.entropy > 0 else math.nan

    @property
    def tokens_per_second(self) -> float:
        """Of all codebooks (Eq. 18)."""
        return self.frame_rate * len(self.sizes)

    @property
    def bits_per_second(self) -> float:
        """Of indices as they are, which nothing compresses (Eq. 19)."""
        return self.tokens_per_second * self.index_bits

    @property
    def cnbps(self) -> float:
        """cnBPT of every token of a second, added up (Eq. 22); those of several tracks add up as well (Eq. 23)."""
        return self.tokens_per_second * self.cnbpt


def measure_predictability(
    learnt: Sequence[Tensor], held_out: Sequence[Tensor], codebook_size: int, frame_rate: Fraction, steps: int = STEPS
) -> Predictability:
    """Trains the small model on the tokens `learnt` and measures it on those `held_out`: int64 [codebook, frame] each.

    Raises:
        ValueError: there is no song to learn from or to measure that is as long as a window.
    """
    frames = round(WINDOW_SECONDS * frame_rate)
    long_enough = [song for song in learnt if song.shape[1] >= frames]
    windows = [window for song in held_out for window in song.split(frames, dim=1) if window.shape[1] == frames]
    if not long_enough or not windows:
        raise ValueError(
            f"{len(long_enough)} songs to learn from and {len(windows)} windows to measure are {WINDOW_SECONDS} s "
            "long: give at least one of each"
        )
    every = torch.cat([*learnt, *held_out], dim=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = SmallModel(torch.cat(long_enough, dim=1), codebook_size, frames)
        teach(model, long_enough, frames, steps)
    with torch.no_grad():
        nats = torch.cat([model(torch.stack(windows[at : at + ROWS])) for at in range(0, len(windows), ROWS)])
    return Predictability(
        bits_per_token=tuple((nats.mean(0) / math.log(2)).tolist()),
        entropies=tuple(math.log2(perplexity(codes, codebook_size)) for codes in every),
        sizes=(codebook_size,) * len(every),
        frame_rate=float(frame_rate),
    )


class SmallModel(nn.Module):
    """The language model. It begins by predicting each token as often as it occurs in `codes` [codebook, frame]."""

    def __init__(self, codes: Tensor, entries: int, frames: int) -> None:
        super().__init__()
        books = len(codes)
        self.nothing = entries  # stands where a delayed codebook has no token
        positions = frames + books - 1
        self.embeddings = nn.Parameter(0.02 * torch.randn(books, entries + 1, WIDTH))
        self.transformer = Transformer(
            TransformerConfig(
                layers=LAYERS,
                width=WIDTH,
                heads=4,
                head_width=WIDTH // 4,
                feed_forward=2 * WIDTH,
                buckets=32,
                max_distance=positions,
                window=positions,
                norm_epsilon=1e-6,
            )
        )
        self.heads = nn.Parameter(torch.zeros(books, entries, WIDTH))
        counts = torch.stack([torch.bincount(book, minlength=entries) for book in codes]) + 0.5
        self.frequencies = nn.Parameter((counts / counts.sum(1, keepdim=True)).log())  # [codebook, entry]

    def forward(self, codes: Tensor) -> Tensor:
        """Nats per token [row, codebook] of windows [row, codebook, frame]."""
        rows, books, frames = codes.shape
        # [row, codebook, position]: codebook q comes q positions late; what is predicted at p, p + 1 has heard.
        heard = codes.new_full((rows, books, frames + books - 1), self.nothing)
        for book in range(books):
            heard[:, book, book + 1 : book + 1 + frames] = codes[:, book, : heard.shape[2] - book - 1]
        x = torch.stack([F.embedding(heard[:, book], self.embeddings[book]) for book in range(books)]).sum(0)
        hidden = self.transformer(x)  # [row, position, width]
        nats = []
        for book in range(books):
            logits = hidden[:, book : book + frames] @ self.heads[book].T + self.frequencies[book]
            nats.append(F.cross_entropy(logits.transpose(1, 2), codes[:, book], reduction="none").mean(1))
        return torch.stack(nats, dim=1)


def teach(model: SmallModel, songs: Sequence[Tensor], frames: int, steps: int) -> None:
    """Trains on windows of `frames` out of songs [codebook, frame]."""
    choose = np.random.default_rng(SEED)
    optimizer = torch.optim.AdamW(model.parameters(), RATE, betas=(0.9, 0.98), weight_decay=0.01)
    for step in range(steps):
        set_rate(optimizer, cosine_rate(step, step / steps, RATE, WARM_UP_STEPS))
        windows = []
        for number in choose.integers(len(songs), size=ROWS):
            start = int(choose.integers(songs[number].shape[1] - frames + 1))
            windows.append(songs[number][:, start : start + frames])
        loss = model(torch.stack(windows)).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
