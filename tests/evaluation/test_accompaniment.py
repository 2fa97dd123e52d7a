"""The evaluation of an accompaniment: the true band beats chance in every row, and gates say what they mean."""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from backline.codecs.convnext import ConvNeXtCodec
from backline.corpus.songs import Composer
from backline.evaluation.accompaniment import (
    CHORDS,
    CHROMA,
    IN_KEY,
    LEVEL,
    ONSETS,
    RHYTHM,
    evaluate_accompaniment,
    figures_of,
    gates,
)
from backline.evaluation.live import SONG_RATE, Setting
from backline.evaluation.plan import Plan
from backline.measures.embeddings import Embedding, MusicEmbedding
from backline.measures.report import Figure, Gate, Row
from backline.models.hafm.load import TINY_CODEC
from backline.models.passthrough import PassthroughConfig, PassthroughStream
from backline.music import fluidsynth
from backline.music.seeds import HELD_OUT_SEED, TEST_SEED
from backline.music.songs import Song, song
from backline.music.world import NARROW

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


class Levels:
    """An `Embedding` of one number, so that few frames are enough: RMS of each second."""

    name, sample_rate, dimensions = "rms", 8_000, 1

    def frames(self, audio: np.ndarray) -> np.ndarray:
        seconds = audio[: len(audio) // self.sample_rate * self.sample_rate].reshape(-1, self.sample_rate)
        return np.sqrt(np.square(seconds).mean(axis=1, keepdims=True))


def evaluate(embedding: Embedding) -> tuple[Mapping[str, Row], list[Gate], list[str], list[str]]:
    """A passthrough, which repeats the voice, and a codec of random weights on two pieces; and what was told."""
    told: list[str] = []
    found = evaluate_accompaniment(
        PassthroughStream(PassthroughConfig()),
        ConvNeXtCodec(TINY_CODEC),
        Plan(Composer(replace(NARROW, bars=4), SONG_RATE), pieces=2, pool=40),
        Setting(Fraction(1, 2), 0.5),
        embedding,
        lambda doing, share: told.append(doing),
    )
    return *found, told


@pytest.mark.slow
@needs_fluidsynth
def test_every_row_is_measured_and_a_pack_that_repeats_the_voice_misses_the_gates() -> None:
    found, judged, notes, told = evaluate(Levels())
    assert list(found)[:6] == ["generated", "offline", "reference", "codec", "shuffled", "retrieval"]
    assert {"composing and rendering", "playing live", "playing offline", "playing separated"} <= set(told)
    live = {column: figure for column, figure in found["generated"].items() if column != "FAD (rms)"}
    assert live.items() <= found["offline"].items()  # of a passthrough both are the voice
    assert found["reference"][CHROMA].mean == pytest.approx(1.0)
    assert found["generated"][CHORDS].mean < found["reference"][CHORDS].mean
    assert found["shuffled"][LEVEL].mean == pytest.approx(found["generated"][LEVEL].mean, abs=1.0)
    assert not all(gate.passed for gate in judged)
    distances = {name: row["FAD (rms)"].mean for name, row in found.items() if "FAD (rms)" in row}
    assert "reference" not in distances
    assert distances["retrieval"] < distances["generated"] == distances["FAD_i, isolated voice"]
    assert distances["FAD gap"] == abs(distances["FAD_i, isolated voice"] - distances["FAD_s, separated voice"])
    assert "frames" in notes[0]


@pytest.mark.slow
@needs_fluidsynth
def test_too_few_pieces_for_a_distance_are_said_and_nothing_is_played_for_it() -> None:
    found, _, notes, told = evaluate(MusicEmbedding())
    assert notes[0].startswith("no FAD: ")
    assert "play more pieces" in notes[0]
    assert "playing separated" not in told
    assert list(found)[-1] == "retrieval"
