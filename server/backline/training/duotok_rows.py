"""Rows that DuoTok's tokenizer learns from: mixes, voices and accompaniments, with what is to be told of them.

The paper's kinds and shares (section C.2): mixtures for the most part in stage 2, tracks alone in stage 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backline.music.melody import CONSONANTS, VOWELS
from backline.nn.bert import REMEDY
from backline.training.duotok_songs import FRAME, MELS_PER_FRAME, SAMPLE_RATE, DuoSong

Kind = Literal["mix", "voice", "under voice", "alone"]  # of rows; the last two are the accompaniment's
KINDS: tuple[Kind, ...] = ("mix", "voice", "under voice", "alone")
HEARD: dict[Kind, tuple[float, float]] = {  # of voice and band
    "mix": (1, 1), "voice": (1, 0), "under voice": (0, 1), "alone": (0, 1)
}  # fmt: skip
SILENT = 1e-4  # power of all pitch classes below which a frame has no chroma
AFTER = 0.3  # seconds that a row goes on after a phrase at most
FAINT = 0.1  # magnitude, added to a mel band's, below which no mask says who it is of
CUT = 0.04  # seconds of a word that may be cut off


class Vocabulary(Protocol):
    """What words are told as."""

    def __len__(self) -> int: ...

    def numbers(self, word: str) -> list[int] | None:
        """Of a word, each from 1 to the vocabulary's length; None: it cannot be written."""
        ...


class Syllables:
    """Those of composed songs: an onset or none, and a vowel; each is one number."""

    def __init__(self) -> None:
        self._numbers = {onset + vowel: at for at, (onset, vowel) in enumerate(product(CONSONANTS, VOWELS), 1)}

    def __len__(self) -> int:
        return len(self._numbers)

    def numbers(self, word: str) -> list[int] | None:
        return [self._numbers[word]] if word in self._numbers else None


class WordPieces:
    """Words as BERT's pieces; the paper's are those of bert-base-multilingual-cased."""

    def __init__(self, vocab: Path) -> None:
        """
        Args:
            vocab: its vocab.txt.

        Raises:
            ValueError: it cannot be read, or `tokenizers` is not installed.
        """
        try:
            from tokenizers import BertWordPieceTokenizer
        except ImportError as error:
            raise ValueError(f"the package tokenizers is not installed: {REMEDY}") from error
        if not vocab.is_file():
            raise ValueError(f"{vocab} is no file: give the vocab.txt of bert-base-multilingual-cased")
        try:
            self._pieces = BertWordPieceTokenizer(str(vocab), lowercase=False, strip_accents=False)
        except Exception as error:  # what it is that the library raises, it does not say
            raise ValueError(f"{vocab} is no vocabulary of word pieces ({error})") from error
        self._unknown = self._pieces.token_to_id("[UNK]")

    def __len__(self) -> int:
        return int(self._pieces.get_vocab_size())

    def numbers(self, word: str) -> list[int] | None:
        found = self._pieces.encode(word, add_special_tokens=False).ids
        return None if not found or self._unknown in found else [number + 1 for number in found]


@dataclass(frozen=True)
class Drawn:
    """How rows are drawn; the defaults are the paper's."""

    rows: int = 128
    seconds: tuple[float, float] = (5.0, 30.0)  # of a batch's rows, drawn for each batch
    shares: tuple[float, ...] = (4, 1, 1, 1)  # of KINDS
    gains: tuple[float, float] = (0.5, 1.5)  # of each side
    levels: tuple[float, float] = (-12.0, 3.0)  # dB by which a whole row is louder: recordings differ
    worded: tuple[Kind, ...] = ("voice",)  # kinds whose words are to be told


@dataclass(frozen=True)
class Batch:
    """Rows, ready to learn from."""

    audio: Tensor  # [row, sample]
    chroma: Tensor  # [row, frame, pitch class]: shares; zeros where there is none
    masks: Tensor  # [row, track, band, mel frame]
    masked: Tensor  # [row] bool: whether the masks are known
    sung: Tensor  # [row] bool: whether it is the voice alone
    words: list[Tensor]  # of each row int64 [word]; empty: not to be told

    def to(self, device: torch.device) -> Batch:
        audio, chroma, masks, masked, sung = (
            part.to(device) for part in (self.audio, self.chroma, self.masks, self.masked, self.sung)
        )
        return Batch(audio, chroma, masks, masked, sung, self.words)


class Drawing:
    """Draws batches from songs; a resumed one goes on with the draws that would have come."""

    def __init__(self, config: Drawn, vocabulary: Vocabulary | None, seed: int) -> None:
        """`vocabulary` is what words are told in; None: they are not."""
        self.config, self.vocabulary = config, vocabulary
        self.random = np.random.default_rng([seed, 0xD07])

    @cached_property
    def shares(self) -> NDArray[np.float64]:
        return np.array(self.config.shares) / sum(self.config.shares)

    def state_dict(self) -> dict[str, Any]:
        return {"random": self.random.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.random.bit_generator.state = state["random"]

    def batch(self, songs: Sequence[DuoSong]) -> Batch:
        """Rows of one length, each of some song."""
        shortest, longest = self.config.seconds
        frames = round(self.random.uniform(shortest, longest) * SAMPLE_RATE / FRAME)
        kinds = [KINDS[at] for at in self.random.choice(len(KINDS), self.config.rows, p=self.shares)]
        rows = [self.row(songs[int(self.random.integers(len(songs)))], kind, frames) for kind in kinds]
        audio, chroma, masks, masked, words = zip(*rows, strict=True)
        sung = torch.tensor([kind == "voice" for kind in kinds])
        return Batch(
            torch.stack(audio), torch.stack(chroma), torch.stack(masks), torch.tensor(masked), sung, list(words)
        )

    def row(self, song: DuoSong, kind: Kind, frames: int) -> tuple[Tensor, Tensor, Tensor, bool, Tensor]:
        """Audio [sample], chroma [frame, pitch class], masks [track, band, mel frame], whether known, words [word]."""
        draw = self.random
        first = self.begin(song, kind, frames)
        gains = (
            np.array(HEARD[kind]) * draw.uniform(*self.config.gains, 2) * 10 ** (draw.uniform(*self.config.levels) / 20)
        )
        signs = np.where(draw.random(2) < 0.5, -1, 1)  # nobody hears the polarity
        audio = (gains * signs).astype(np.float32) @ song.audio(first, frames)
        chroma, masks = chroma_of(song, first, frames, gains), masks_of(song, first, frames, gains)
        words = self.told(song, first, frames) if kind in self.config.worded else []
        told = torch.tensor(words, dtype=torch.int64)
        return torch.from_numpy(audio), torch.from_numpy(chroma), torch.from_numpy(masks), len(song.levels) > 0, told

    def begin(self, song: DuoSong, kind: Kind, frames: int) -> int:
        """The first frame of a row: one that ends as a phrase does, so that no word is cut there; of an accompaniment
        alone, one during which nobody sings, where there is such a place.
        """
        draw, last = self.random, max(0, song.frames - frames)
        if kind == "alone":
            free = np.flatnonzero(pauses(song, frames))
            return int(draw.choice(free)) if len(free) else int(draw.integers(last + 1))
        if not len(song.phrases):
            return int(draw.integers(last + 1))
        ends = (song.phrases[:, 1] + draw.uniform(0, AFTER)) * SAMPLE_RATE / FRAME - frames
        ends = ends[ends >= 0] if (ends >= 0).any() else np.zeros(1)
        return min(last, int(ends[int(draw.integers(len(ends)))]))

    def told(self, song: DuoSong, first: int, frames: int) -> list[int]:
        """Numbers of the words that lie in a row; none where one of them cannot be written."""
        if self.vocabulary is None or not song.words:
            return []
        begin, end = first * FRAME / SAMPLE_RATE - CUT, (first + frames) * FRAME / SAMPLE_RATE + CUT
        found: list[int] = []
        for word, (start, stop) in zip(song.words, song.times, strict=True):
            if start >= begin and stop <= end:
                numbers = self.vocabulary.numbers(word)
                if numbers is None:
                    return []
                found += numbers
        return found


def pauses(song: DuoSong, frames: int) -> NDArray[np.bool_]:
    """[frame]: whether nobody sings in the `frames` from there on."""
    sung = np.zeros(song.frames + 1, np.int64)
    for begin, end in song.phrases * SAMPLE_RATE / FRAME:
        sung[int(begin) : int(np.ceil(end))] = 1
    sums = np.concatenate([[0], np.cumsum(sung[:-1])])
    starts = max(0, song.frames - frames) + 1
    return np.asarray(sums[np.minimum(np.arange(starts) + frames, song.frames)] == sums[:starts])


def padded(array: NDArray[Any], length: int, axis: int) -> NDArray[np.float32]:
    """As long as that along an axis, with zeros at its end."""
    widths = [(0, length - size if at == axis % array.ndim else 0) for at, size in enumerate(array.shape)]
    return np.pad(array.astype(np.float32), widths)


def chroma_of(song: DuoSong, first: int, frames: int, gains: NDArray[np.float64]) -> NDArray[np.float32]:
    """[frame, pitch class] of the sides at those gains: powers, as shares of their sum; zeros in silence."""
    powers = np.einsum("s,sfp->fp", np.square(gains), song.tones[:, first : first + frames]).astype(np.float32)
    total = powers.sum(axis=1, keepdims=True)
    return padded(np.where(total > SILENT, powers / np.maximum(total, SILENT), 0), frames, 0)


def masks_of(song: DuoSong, first: int, frames: int, gains: NDArray[np.float64]) -> NDArray[np.float32]:
    """[track, band, mel frame] of the tracks at their sides' gains: magnitudes, as shares of their sum."""
    begin, length = first * MELS_PER_FRAME, frames * MELS_PER_FRAME
    if not len(song.levels):
        return np.zeros((4, song.levels.shape[1], length), np.float32)
    of_track = gains[[0, 1, 1, 1], None, None].astype(np.float32)
    magnitudes = of_track * song.levels[..., begin : begin + length].astype(np.float32)
    return padded(magnitudes / (magnitudes.sum(axis=0) + FAINT), length, -1)
