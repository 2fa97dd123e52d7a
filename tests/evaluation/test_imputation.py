"""Imputation is judged beside the truth and beside chance: who gives the true stems back has no distance."""

from pathlib import Path
from typing import cast

import numpy as np
import pytest

from backline.corpus.songs import Songs
from backline.evaluation.imputation import (
    ANOTHER,
    BOTH,
    CHROMA,
    IMPUTED,
    IN_KEY,
    LEVEL,
    ONSETS,
    RATE,
    SHUFFLED,
    SILENCE,
    TRUE,
    VAE,
    Piece,
    evaluate_imputation,
    pictured,
    sub_fad_column,
)
from backline.evaluation.live import Sound
from backline.evaluation.plan import Plan
from backline.evaluation.queried import Impute, imputation, players
from backline.evaluation.separation import row_name
from backline.measures.report import Gate, Row
from backline.models.mge.offline import Sampling
from backline.music.seeds import TEST_SEED
from tests.support.queried import BAND, Knowing, Library, Loudness, Pulses, write_random_pack

PIECES = 3
KNOWN = Knowing([Library().song(TEST_SEED + number) for number in range(PIECES)], RATE)
FAD = sub_fad_column(Loudness())


def judged(impute: Impute, library: Library | None = None) -> tuple[dict[str, Row], list[Gate], list[str]]:
    plan = Plan(cast(Songs, library or Library()), PIECES)
    rows, gates, notes = evaluate_imputation(
        impute, plan, lambda sound: 0.5 * sound, [Loudness()], lambda doing, share: None
    )
    return dict(rows), gates, notes


def test_who_gives_the_true_stems_back_is_the_true_stems_row() -> None:
    rows, gates, notes = judged(KNOWN.impute)
    for group in ("vocals", "drums", "bass", "comping", BOTH):
        assert rows[row_name(IMPUTED, group)] == pytest.approx(rows[row_name(TRUE, group)])
        assert rows[row_name(TRUE, group)][FAD].mean == pytest.approx(0, abs=1e-9)
        assert rows[row_name(TRUE, group)][ONSETS].mean == 1.0
        assert rows[row_name(TRUE, group)][LEVEL].mean == 0.0
        assert rows[row_name(SHUFFLED, group)] == pytest.approx(rows[row_name(ANOTHER, group)])
        assert rows[row_name(VAE, group)][LEVEL].mean == pytest.approx(-6.02, abs=0.01)
    assert rows["shuffled, drums"][ONSETS].mean < 0.75
    assert rows["shuffled, drums"][FAD].mean > 0
    assert rows["imputed, bass"][CHROMA].mean == pytest.approx(1.0)
    assert CHROMA not in rows["imputed, drums"]
    assert {gate.name for gate in gates if not gate.passed} == set()
    assert {"drums: " + ONSETS, "bass: " + IN_KEY, "bass: " + CHROMA, f"bass: {FAD}"} <= {gate.name for gate in gates}
    assert notes == []


def test_silence_is_the_row_of_silence() -> None:
    def rest(given: Sound, prompts: list[str], seed: int) -> list[Sound]:
        return [np.zeros_like(given) for _ in prompts]

    rows, gates, _ = judged(cast(Impute, rest))
    for group in ("vocals", "drums", "bass", "comping", BOTH):
        assert rows[row_name(IMPUTED, group)] == rows[row_name(SILENCE, group)]
    assert rows["imputed, drums"][ONSETS].mean == 0.0
    assert rows["imputed, drums"][FAD].mean > rows["true, drums"][FAD].mean
    assert not any(gate.passed for gate in gates)


def test_drums_and_bass_are_asked_for_one_after_the_other() -> None:
    asked: list[list[str]] = []

    def listen(given: Sound, prompts: list[str], seed: int) -> list[Sound]:
        asked.append(prompts)
        return KNOWN.impute(given, prompts, seed)

    judged(cast(Impute, listen))
    assert asked[: len(asked) // PIECES] == [
        *([f"the sound of the {name}"] for name in BAND),
        ["the sound of the drums", "the sound of the electric bass"],
    ]


def test_what_one_song_alone_has_is_not_shuffled() -> None:
    class Mixed(Library):
        def song(self, seed: int) -> Pulses:
            return Pulses(seed, BAND if seed == TEST_SEED else ("drums", "piano"))

    library = Mixed()
    known = Knowing([library.song(TEST_SEED + number) for number in range(PIECES)], RATE)
    rows, _, notes = judged(known.impute, library)
    assert "shuffled, drums" in rows
    assert "shuffled, vocals" not in rows
    assert "imputed, vocals" in rows
    assert any(note.startswith("vocals: in one song alone") for note in notes)


def test_too_short_a_set_has_no_distance_and_says_so() -> None:
    class Long(Loudness):
        dimensions = 50

    plan = Plan(cast(Songs, Library(("drums", "piano"))), 2)
    known = Knowing([Library(("drums", "piano")).song(TEST_SEED + number) for number in range(2)], RATE)
    rows, _, notes = evaluate_imputation(known.impute, plan, lambda sound: sound, [Long()], lambda doing, share: None)
    assert FAD not in rows["imputed, drums"]
    assert any("it takes at least 51" in note for note in notes)


def test_one_song_cannot_be_shuffled() -> None:
    with pytest.raises(ValueError, match="use at least 2"):
        evaluate_imputation(KNOWN.impute, Plan(cast(Songs, Library()), 1), lambda sound: sound, [], lambda *_: None)


def test_a_silent_stem_is_not_asked_for() -> None:
    piece = Piece.of(Pulses(0, rests={"drums": 0.0}))
    assert [group for group, _ in piece.targets()] == ["vocals", "bass", "comping"]


def test_a_pack_joins_in_and_is_drawn(tmp_path: Path) -> None:
    player = players(write_random_pack(tmp_path), "cpu")["n-grams"]
    impute = imputation(player, Sampling(2), RATE)
    given = Pulses(0).read("piano", RATE)[0][:17_001]
    drums, bass = impute(given, ["drums", "bass"], 1)
    assert drums.shape == bass.shape == given.shape
    again = impute(given, ["drums", "bass"], 1)
    assert np.array_equal(again[0], drums)
    assert np.array_equal(again[1], bass)
    assert not np.array_equal(impute(given, ["drums"], 2)[0], drums)
    signals = pictured(impute, Plan(cast(Songs, Library(("drums", "piano"))), 1))
    assert list(signals) == ["the song", "imputed", "drums, true", "drums, imputed", "piano, true", "piano, imputed"]
    assert np.allclose(signals["imputed"], signals["drums, imputed"] + signals["piano, imputed"])
