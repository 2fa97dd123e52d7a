"""Whether towers find what is asked for: by an instrument's name, and by words that they were never taught.

A prompt is asked of composed songs that have what it means, and finds the stem that is nearest to it. Columns: `name`,
the instruments' own names in the paper's phrase; `mistyped`, the same with one letter wrong; `held-out`, the words of
HELD_OUT in the phrase (models/mge/words.py). `of all` is harder: of the names of all instruments the right one is
nearest to a stem; of all instruments, as they sound on average, the right one is nearest to a word. Rows: the towers
that read text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from backline.corpus.labelled import stems_of
from backline.corpus.songs import Songs
from backline.evaluation.plan import Say
from backline.measures.queries import Heard, found_in_songs, hear, query_accuracy
from backline.measures.report import Figure, Gate, Row
from backline.models.mge.towers import Towers
from backline.models.mge.words import ASKED, HELD_OUT, INSTRUMENTS, instruments_of, mistyped
from backline.music.seeds import TEST_SEED

NAME, NAME_OF_ALL, MISTYPED = "name", "name of all", "mistyped"  # columns
HELD, HELD_OF_ALL = "held-out", "held-out of all"  # columns
TYPING_SEED = 0
LEAST_BY_NAME = 0.95
LEAST_HELD_OUT = {"minilm": 0.8, "n-grams": 0.6}  # rows


@dataclass(frozen=True)
class Found:
    """What an evaluation of towers found."""

    rows: Mapping[str, Row]
    gates: Sequence[Gate]
    words: int  # held-out ones that some song could be asked for
    missed: Mapping[str, Sequence[str]]  # of each row, the held-out words that find another stem more often than not
    confusion: NDArray[np.int64]  # [instrument of a stem, instrument whose name is nearest], of the first row


def evaluate_prompts(readers: Sequence[Towers], songs: Songs, pieces: int, say: Say) -> Found:
    """
    Args:
        readers: the same towers, read by MiniLM, by n-grams or both, in turn; a row each.
        songs: from TEST_SEED on.
        pieces: how many of them.
    """
    rate = readers[0].config.sample_rate
    heard = []
    for number in range(pieces):
        say(f"song {number + 1} of {pieces}", number / pieces)
        heard.append(hear(readers[0].embed_audio, stems_of(songs.song(TEST_SEED + number), rate), rate))
    usual = usual_sounds(heard)
    rows, gates, missed, confusion, asked = {}, [], {}, None, 0
    for towers in readers:
        by_name = {name: towers.embed(ASKED.format(name)) for name in INSTRUMENTS}
        figures = query_accuracy(heard, by_name)
        confusion = figures.confusion if confusion is None else confusion
        typing = np.random.default_rng(TYPING_SEED)  # the same mistakes for every row
        by_typo = {name: towers.embed(ASKED.format(mistyped(typing, name))) for name in INSTRUMENTS}
        shares: dict[str, float] = {}
        right: list[bool] = []
        for label, words in HELD_OUT.items():
            for word in words:
                query = towers.embed(ASKED.format(word))
                share = found_in_songs(heard, label, query)
                if share is not None:
                    shares[word] = share
                    nearest = max(usual, key=lambda name: float(usual[name] @ query))
                    right.append(nearest in instruments_of(label))
        row, asked = towers.hears, len(shares)
        rows[row] = {
            NAME: Figure(figures.in_song), NAME_OF_ALL: Figure(figures.of_all),
            MISTYPED: Figure(query_accuracy(heard, by_typo).in_song),
            HELD: Figure.of(list(shares.values())), HELD_OF_ALL: Figure(float(np.mean(right))),
        }  # fmt: skip
        missed[row] = [word for word, share in shares.items() if share < 0.5]
        held, least = rows[row][HELD].mean, LEAST_HELD_OUT[row]
        gates += [
            Gate(f"{row}: by name", figures.in_song, f"at least {LEAST_BY_NAME}", figures.in_song >= LEAST_BY_NAME),
            Gate(f"{row}: by held-out words", held, f"at least {least}", held >= least),
        ]
    assert confusion is not None
    return Found(rows, gates, asked, missed, confusion)


def usual_sounds(heard: Sequence[Heard]) -> dict[str, Tensor]:
    """How each instrument of the songs sounds on average, by its label."""
    found: dict[str, list[Tensor]] = {}
    for song in heard:
        for labels, vector in zip(song.labels, song.vectors, strict=True):
            found.setdefault(labels[0], []).append(vector)
    return {name: F.normalize(torch.stack(vectors).mean(0), dim=0) for name, vectors in found.items()}


def nearest_names(towers: Towers, sound: NDArray[np.float32], count: int = 3) -> list[tuple[str, float]]:
    """The instruments whose names are nearest to a sound [sample] at the towers' rate, with the cosine of each.

    An empty list where there is nothing to hear: it is silent, or shorter than a second.
    """
    song = ((("",),), sound[np.newaxis])
    vectors = hear(towers.embed_audio, song, towers.config.sample_rate).vectors
    likeness = {name: float(towers.embed(ASKED.format(name)) @ vector) for vector in vectors for name in INSTRUMENTS}
    return sorted(likeness.items(), key=lambda each: -each[1])[:count]
