"""Query accuracy: counted by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

from backline.measures.queries import Heard, found_in_songs, hear, plot_confusion, query_accuracy

A, B, C = torch.eye(3)
SONGS = [
    Heard((("a", "ab"), ("b", "ab")), torch.stack([A, B])),
    Heard((("a", "ab"), ("c",)), torch.stack([C, A])),  # the wrong way round
]


def test_stems_are_found_by_what_asks_for_them() -> None:
    found = query_accuracy(SONGS, {"a": A, "b": B, "c": C})
    assert found.in_song == found.of_all == 0.5
    assert found.confusion.tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 0]]
    assert np.isnan(query_accuracy(SONGS, {"d": A}).in_song)


def test_a_family_is_found_by_any_of_its_stems_where_there_is_another_one() -> None:
    assert found_in_songs(SONGS, "ab", C) == 1.0  # the first song has nothing else
    assert found_in_songs(SONGS, "ab", A) == 0.0
    assert found_in_songs(SONGS, "b", B) == 1.0
    assert found_in_songs(SONGS, "z", A) is None


def test_only_seconds_that_sound_and_stems_with_a_name_are_heard() -> None:
    stems = np.zeros((3, 40), np.float32)
    stems[0, :10] = 1.0
    stems[1] = 1.0
    rows: list[int] = []

    def embed(sounds: torch.Tensor) -> torch.Tensor:
        rows.append(len(sounds))
        return sounds[:, :3]

    found = hear(embed, ((("a",), (), ("c",)), stems), 10)
    assert found.labels == (("a",),)
    assert rows == [1]
    assert float(found.vectors.norm()) == pytest.approx(1)


def test_a_silent_song_is_asked_for_nothing() -> None:
    silent = hear(lambda sounds: sounds[:, :3], ((("a",), ("b",)), np.zeros((2, 40), np.float32)), 10)
    queries = {"a": A, "b": B, "c": C}
    assert query_accuracy([*SONGS, silent], queries).in_song == query_accuracy(SONGS, queries).in_song
    assert found_in_songs([silent], "a", A) is None


def test_confusion_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert plot_confusion(tmp_path / "c.png", ["a", "b"], np.array([[3, 1], [0, 0]])).stat().st_size > 1000
