"""Stems by what they are called, composed and of a corpus."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest

from backline.corpus.labelled import called_in, has_labels, stems_of
from backline.corpus.multitrack import StemsMissing
from backline.sound_files import Audio


@dataclass
class Recorded:
    """A song of a corpus: one sample a stem, each another power of two."""

    labels: Mapping[str, str]
    title: str = "song"
    seconds: float = 1.0

    def read(self, stem: str, sample_rate: int, begin: float = 0.0, seconds: float | None = None) -> Audio:
        return np.full((2, 1), 2.0 ** list(self.labels).index(stem), np.float32)


def test_what_has_one_name_is_one_stem_and_the_mix_is_none() -> None:
    song = Recorded({"mix": "mix", "a": "drums", "b": "guitar", "c": "percussion", "d": "reed", "e": "effects"})
    labels, stems = stems_of(song, 48_000)
    assert labels == (("drums",), ("guitar",), ("woodwinds",), ())
    assert stems[:, 0].tolist() == [2 + 8, 4, 16, 32]


def test_several_instruments_have_no_name_and_a_mix_alone_no_stems() -> None:
    song = Recorded({"mix": "mix", "rest": "rest"})
    assert called_in(song, "rest", "rest") == ()
    assert not has_labels(song)
    assert has_labels(Recorded({"a": "vocals", "b": "rest"}))
    with pytest.raises(StemsMissing, match="fewer than two"):
        stems_of(song, 48_000)
