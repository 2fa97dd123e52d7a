"""The evaluation of an accompaniment: the true band beats chance in every row, and gates say what they mean."""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from backline.codecs.convnext import ConvNeXtCodec
from backline.evaluation.accompaniment import (
    CHORDS,
    CHROMA,
    IN_KEY,
    LEVEL,
    ONSETS,
    RHYTHM,
    TEST_SEED,
    Plan,
    evaluate_accompaniment,
    figures_of,
    gates,
)
from backline.evaluation.embeddings import MusicEmbedding
from backline.evaluation.live import Setting
from backline.evaluation.report import Figure
from backline.models.hafm.load import TINY_CODEC
from backline.models.passthrough import PassthroughConfig, PassthroughStream
from backline.music import fluidsynth
from backline.music.songs import Song, song
from backline.music.world import NARROW
from backline.training.data import HELD_OUT_SEED

needs_fluidsynth = pytest.mark.skipif(fluidsynth.missing() is not None, reason=str(fluidsynth.missing()))


def rows(**generated: float) -> Mapping[str, Mapping[str, Figure]]:
    """A pack that just passes every gate, changed."""
    figures = {
        "generated": {CHORDS: 0.5, IN_KEY: 0.81, ONSETS: 0.74} | generated,
        "shuffled": {CHORDS: 0.25, IN_KEY: 0.8, ONSETS: 0.3},
        "reference": {CHORDS: 1.0, IN_KEY: 0.9, ONSETS: 0.7},
    }
    return {name: {column: Figure(value) for column, value in row.items()} for name, row in figures.items()}


def missed(**generated: float) -> list[bool]:
    """Chord match against shuffled and against reference, in key, onsets."""
    return [not gate.passed for gate in gates(rows(**{name.replace("_", " "): v for name, v in generated.items()}))]


def test_gates_are_passed_at_the_bar_and_missed_below_it() -> None:
    assert missed() == [False, False, False, False]
    assert missed(chord_match=0.49) == [True, True, False, False]
    assert missed(in_key=0.8) == [False, False, True, False]
    assert missed(onset_F=0.76) == [False, False, False, True]  # too many onsets on the grid are wrong, too
    assert missed(onset_F=0.64) == [False, False, False, True]
    assert [gate.found for gate in gates(rows())] == [0.5, 0.5, 0.81, 0.74]


def test_judged_pieces_are_held_out() -> None:
    assert TEST_SEED > HELD_OUT_SEED


@pytest.fixture(scope="module")
def heard() -> Song:
    return song(TEST_SEED, NARROW)


@pytest.mark.slow
@needs_fluidsynth
def test_the_true_band_is_right_and_the_same_band_a_tone_higher_and_late_is_wrong(heard: Song) -> None:
    true = figures_of(heard.accompaniment, heard)
    assert true[CHORDS] > 0.8
    assert true[IN_KEY] > 0.85
    assert true[CHROMA] == pytest.approx(1.0)
    assert true[RHYTHM] == 1.0
    late = np.roll(heard.accompaniment, round(heard.piece.seconds_per_beat / 4 * heard.sample_rate))
    assert figures_of(late, heard)[ONSETS] < true[ONSETS] - 0.3
    assert figures_of(late / 2, heard)[LEVEL] == pytest.approx(true[LEVEL] - 6.02, abs=0.05)
    other = song(TEST_SEED, replace(NARROW, tonics=(1,)))  # the same piece a semitone up
    assert figures_of(other.accompaniment, heard)[CHORDS] < 0.1
    assert figures_of(other.accompaniment, heard)[IN_KEY] < 0.6


@pytest.mark.slow
@needs_fluidsynth
def test_every_row_is_measured_and_a_pack_that_repeats_the_voice_misses_the_gates() -> None:
    world = replace(NARROW, bars=4)
    told: list[str] = []
    found, judged, notes = evaluate_accompaniment(
        PassthroughStream(PassthroughConfig()),
        ConvNeXtCodec(TINY_CODEC),
        Plan(world, pieces=2, pool=40),
        Setting(Fraction(1, 2), 0.5),
        MusicEmbedding(),
        lambda doing, share: told.append(doing),
    )
    assert list(found)[:6] == ["generated", "offline", "reference", "codec", "shuffled", "retrieval"]
    assert found["generated"] == found["offline"]  # of a passthrough both are the voice
    assert found["reference"][CHROMA].mean == pytest.approx(1.0)
    assert found["generated"][CHORDS].mean < found["reference"][CHORDS].mean
    assert found["shuffled"][LEVEL].mean == pytest.approx(found["generated"][LEVEL].mean, abs=1.0)
    assert not all(gate.passed for gate in judged)
    assert any(note.startswith("no FAD: ") for note in notes)  # two pieces are too few
    assert {"composing and rendering", "playing live", "playing offline", "playing separated"} <= set(told)
