"""Prompts are judged by what they find: towers that know are right, those that know nothing are not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from backline.corpus.songs import Songs
from backline.evaluation.prompts import HELD, HELD_OF_ALL, NAME, NAME_OF_ALL, evaluate_prompts, nearest_names
from backline.models.mge.towers import Towers, TowersConfig, TowersNetwork
from backline.models.mge.words import HELD_OUT, INSTRUMENTS, labels_of, words_of
from backline.music.seeds import TEST_SEED
from backline.sound_files import Audio

RATE = 8_000
CONFIG = TowersConfig(32, RATE, 32, 512, 160, (8, 8), 64, 8)
NAMES = list(INSTRUMENTS)


@dataclass
class Recorded:
    """Four instruments of all, each a level that no other has."""

    seed: int
    seconds: float = 2.0
    title: str = "song"

    @property
    def labels(self) -> Mapping[str, str]:
        return {name: name for name in (NAMES[(self.seed + 7 * turn) % len(NAMES)] for turn in range(4))}

    def read(self, stem: str, sample_rate: int, begin: float = 0.0, seconds: float | None = None) -> Audio:
        return np.full((1, 2 * RATE), 0.01 * (1 + NAMES.index(stem)), np.float32)


class Library:
    def song(self, seed: int) -> Recorded:
        return Recorded(seed - TEST_SEED)


class Knowing(Towers):
    """Knows every instrument by its level, and every word of those that it is told."""

    def __init__(self, meanings: Mapping[str, str]) -> None:
        super().__init__(TowersNetwork(CONFIG), None)
        self.meanings = meanings

    def embed(self, text: str) -> Tensor:
        name = self.meanings.get(text.removeprefix("the sound of the "), NAMES[0])
        return torch.eye(CONFIG.width)[NAMES.index(name)]

    def embed_audio(self, audio: Tensor) -> Tensor:
        return torch.eye(CONFIG.width)[(audio[:, 0] / 0.01).round().long() - 1]


KNOWN = {name: name for name in NAMES}
TOLD = {word: next(n for n in NAMES if label in labels_of(n)) for label, words in HELD_OUT.items() for word in words}


def judged(towers: Towers) -> Any:
    return evaluate_prompts([towers], cast(Songs, Library()), 2 * len(NAMES), lambda what, share: None)


def test_who_knows_everything_finds_everything() -> None:
    found = judged(Knowing(KNOWN | TOLD))
    row = found.rows["n-grams"]
    assert row[NAME].mean == row[NAME_OF_ALL].mean == row[HELD_OF_ALL].mean == 1.0
    # A family is known by one of its instruments here, and is asked of songs with any of them.
    assert row[HELD].mean > 0.8
    assert [gate.passed for gate in found.gates] == [True, True]
    assert np.trace(found.confusion) == found.confusion.sum() == 8 * len(NAMES)


def test_who_knows_names_only_fails_by_other_words_and_which_is_told() -> None:
    found = judged(Knowing(KNOWN))
    assert found.rows["n-grams"][NAME].mean == 1.0
    assert found.rows["n-grams"][HELD].mean < 0.5
    assert [gate.passed for gate in found.gates] == [True, False]
    assert {"steinway", "squeezebox"} <= set(found.missed["n-grams"])
    assert not {word for name in NAMES for word in words_of(name)} & set(found.missed["n-grams"])


def test_a_recording_is_nearest_to_its_name() -> None:
    towers = Knowing(KNOWN)
    told = nearest_names(towers, np.full(RATE, 0.01 * (1 + NAMES.index("harp")), np.float32))
    assert told[0] == ("harp", pytest.approx(1.0))
    assert len(told) == 3
    for unheard in (np.zeros(2 * RATE, np.float32), np.ones(RATE // 2, np.float32)):
        assert nearest_names(towers, unheard) == []
