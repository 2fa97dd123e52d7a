"""Generation is judged by how far it lies from held-out songs: those themselves have no distance."""

from pathlib import Path
from typing import cast

import numpy as np

from backline.corpus.labelled import stems_of
from backline.corpus.songs import Songs
from backline.evaluation.generation import (
    GENERATED,
    HELD_OUT,
    LEVEL,
    PROMPTED,
    RATE,
    SILENT,
    TRAINING,
    VAE,
    evaluate_generation,
)
from backline.evaluation.live import Sound
from backline.evaluation.plan import Plan
from backline.evaluation.queried import generation, players
from backline.measures.report import Row
from backline.models.mge.offline import Sampling
from backline.music.seeds import TEST_SEED
from tests.support.queried import Library, Loudness, write_random_pack

PIECES = 3
FAD = f"FAD ({Loudness.name})"


def judged(generate: object) -> tuple[dict[str, Row], list[str], dict[str, Sound]]:
    plan = Plan(cast(Songs, Library()), PIECES)
    rows, notes, sounds = evaluate_generation(
        generate,  # type: ignore[arg-type]
        plan,
        lambda sound: 0.5 * sound,
        [Loudness()],
        lambda doing, share: None,
    )
    return dict(rows), notes, sounds


def test_held_out_songs_have_no_distance_and_noise_has_some() -> None:
    asked: list[str] = []

    def generate(seconds: float, prompt: str, seed: int) -> Sound:
        asked.append(prompt)
        if prompt:
            return stems_of(Library().song(TEST_SEED + seed), RATE)[1].sum(axis=0)
        return np.random.default_rng(seed).standard_normal(round(seconds * RATE)).astype(np.float32)

    rows, notes, sounds = judged(generate)
    assert asked == ["", "the sound of the vocals, drums, electric bass and piano"] * PIECES
    assert rows[PROMPTED][FAD].mean < 1e-9 < rows[TRAINING][FAD].mean < rows[GENERATED][FAD].mean
    assert rows[PROMPTED][LEVEL] == rows[HELD_OUT][LEVEL]
    assert FAD not in rows[HELD_OUT]
    assert rows[VAE][LEVEL].mean < rows[HELD_OUT][LEVEL].mean - 6
    assert any("frames in every set" in note for note in notes)
    assert [len(sound) for sound in sounds.values()] == [2 * RATE] * len(rows)


def test_silence_is_told() -> None:
    rows, _, _ = judged(lambda seconds, prompt, seed: np.zeros(round(seconds * RATE), np.float32))
    assert rows[GENERATED][SILENT].mean == 1.0
    assert rows[HELD_OUT][SILENT].mean == 0.0


def test_a_pack_generates_the_same_song_for_a_seed(tmp_path: Path) -> None:
    player = players(write_random_pack(tmp_path), "cpu")["n-grams"]
    generate = generation(player, Sampling(2), RATE)
    song = generate(1.3, "drums", 0)
    assert song.shape == (round(1.3 * RATE),)
    assert np.array_equal(generate(1.3, "drums", 0), song)
    assert not np.array_equal(generate(1.3, "drums", 1), song)
    assert not np.array_equal(generate(1.3, "piano", 0), song)
