"""The evaluation of an accompaniment: the true band beats chance in every row, and gates say what they mean."""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from backline.codecs.convnext import ConvNeXtCodec
from backline.corpus.corpus import Corpus
from backline.corpus.multitrack import has_voice_and_band
from backline.corpus.songs import Composer, CorpusSongs, Songs
from backline.evaluation.accompaniment import (
    CHORDS,
    CHROMA,
    IN_KEY,
    IN_SCALE,
    LEVEL,
    ONSETS,
    OVER,
    OWN_SCALE,
    RHYTHM,
    TOGETHER,
    Sung,
    cannot_tell,
    evaluate_accompaniment,
    figures_of,
    gates,
)
from backline.evaluation.live import SONG_RATE, Setting, Sound
from backline.evaluation.plan import Plan
from backline.evaluation.separation_baselines import Finder
from backline.measures.embeddings import Embedding, MusicEmbedding
from backline.measures.frechet import Distance
from backline.measures.report import Figure, Gate, Row
from backline.models.hafm.load import TINY_CODEC
from backline.models.passthrough import PassthroughConfig, PassthroughStream
from backline.music import fluidsynth
from backline.music.seeds import HELD_OUT_SEED, TEST_SEED
from backline.music.songs import song
from backline.music.world import NARROW
from tests.support.corpora import composed_corpus, noises, write_corpus, write_song

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
def heard() -> Sung:
    return Sung.of(Composer(NARROW, SONG_RATE).song(TEST_SEED), SONG_RATE)


@pytest.mark.slow
@needs_fluidsynth
def test_the_true_band_is_right_and_the_same_band_a_tone_higher_and_late_is_wrong(heard: Sung) -> None:
    assert heard.score is not None
    true = figures_of(heard.band, heard)
    assert true[CHORDS] > 0.8
    assert true[IN_KEY] > 0.85
    assert true[IN_SCALE] > 0.85
    assert true[CHROMA] == pytest.approx(1.0)
    assert true[RHYTHM] == 1.0
    assert true[TOGETHER] > 0.2
    late = np.roll(heard.band, round(heard.score.piece.seconds_per_beat / 4 * heard.sample_rate))
    assert figures_of(late, heard)[ONSETS] < true[ONSETS] - 0.3
    assert figures_of(late, heard)[TOGETHER] < true[TOGETHER] - 0.2
    assert figures_of(late / 2, heard)[LEVEL] == pytest.approx(true[LEVEL] - 6.02, abs=0.05)
    assert figures_of(late / 2, heard)[OVER] == pytest.approx(true[OVER] - 6.02, abs=0.05)
    other = song(TEST_SEED, replace(NARROW, tonics=(1,))).accompaniment  # the same piece a semitone up
    assert figures_of(other, heard)[CHORDS] < 0.1
    assert figures_of(other, heard)[IN_KEY] < 0.6
    assert figures_of(other, heard)[IN_SCALE] < 0.6
    assert figures_of(other, heard)[OWN_SCALE] == pytest.approx(true[OWN_SCALE], abs=0.05)


class Levels:
    """An `Embedding` of one number, so that few frames are enough: RMS of each second."""

    name, sample_rate, dimensions = "rms", 8_000, 1

    def frames(self, audio: np.ndarray) -> np.ndarray:
        seconds = audio[: len(audio) // self.sample_rate * self.sample_rate].reshape(-1, self.sample_rate)
        return np.sqrt(np.square(seconds).mean(axis=1, keepdims=True))


def evaluate(
    *embeddings: Embedding, songs: Songs | None = None, pieces: int = 2, **separators: Finder
) -> tuple[Mapping[str, Row], list[Gate], list[str], list[str]]:
    """A passthrough, which repeats the voice, and a codec of random weights; and what was told."""
    told: list[str] = []
    found = evaluate_accompaniment(
        PassthroughStream(PassthroughConfig()),
        ConvNeXtCodec(TINY_CODEC),
        Plan(songs or Composer(replace(NARROW, bars=4), SONG_RATE), pieces=pieces, pool=40),
        Setting(Fraction(1, 2), 0.5),
        embeddings,
        separators,
        lambda doing, share: told.append(doing),
    )
    return *found, told


@pytest.mark.slow
@needs_fluidsynth
def test_every_row_is_measured_and_a_pack_that_repeats_the_voice_misses_the_gates() -> None:
    def half(mixed: Sound, seed: int) -> Mapping[str, Sound]:
        return {"vocals": mixed / 2, "instrumental": mixed / 2}

    found, judged, notes, told = evaluate(Levels(), half=half)
    assert list(found)[:6] == ["generated", "offline", "reference", "codec", "shuffled", "retrieval"]
    assert {"playing live", "playing offline", "playing to a voice of half"} <= set(told)
    live = {column: figure for column, figure in found["generated"].items() if "FAD" not in column}
    assert live.items() <= found["offline"].items()  # of a passthrough both are the voice
    assert found["reference"][CHROMA].mean == pytest.approx(1.0)
    assert found["generated"][CHORDS].mean < found["reference"][CHORDS].mean
    assert found["shuffled"][LEVEL].mean == pytest.approx(found["generated"][LEVEL].mean, abs=1.0)
    assert not all(gate.passed for gate in judged)
    for column in ("FAD (rms)", "FAD of the mix (rms)"):
        distances = {name: row[column].mean for name, row in found.items() if column in row}
        assert "reference" not in distances
        assert distances["retrieval"] < distances["generated"] == distances["FAD_i, isolated voice"]
        for separator in ("an oracle's mask", "half"):
            assert distances[f"FAD gap, {separator}"] == pytest.approx(
                abs(distances["FAD_i, isolated voice"] - distances[f"FAD_s, {separator}"])
            )
    assert notes[0].startswith("FAD (rms) cannot tell a band from a shuffled one")  # it is the same set of sounds
    assert "frames" in notes[-1]


@pytest.mark.slow
@needs_fluidsynth
def test_too_few_pieces_for_a_distance_are_said_and_nothing_is_played_for_it() -> None:
    found, _, notes, told = evaluate(MusicEmbedding())
    assert notes[0].startswith("no FAD (music): ")
    assert "play more pieces" in notes[0]
    assert not [text for text in told if text.startswith("playing to")]
    assert list(found)[-1] == "retrieval"


@pytest.mark.slow
@needs_fluidsynth
def test_three_composed_songs_have_the_same_figures_from_the_disk_as_from_memory(tmp_path: Path) -> None:
    composer = Composer(replace(NARROW, bars=4), 48_000)
    disk = CorpusSongs(Corpus.open(composed_corpus(tmp_path, composer, 3)), has_voice_and_band)
    memory, _, _, _ = evaluate(Levels(), songs=composer, pieces=3)
    again, judged, notes, _ = evaluate(Levels(), songs=disk, pieces=9)
    assert judged == []  # no chords, no key, no beats
    assert "there are 3 to judge by" in notes[0]
    assert "no score" in notes[1]
    assert memory.keys() - again.keys() == {"retrieval"}
    for name, row in again.items():
        if name == "codec":
            continue  # of random weights: the 24th bit tips codes over
        assert row.keys() == memory[name].keys() - {CHORDS, IN_KEY, ONSETS}
        for column, figure in row.items():
            assert figure.mean == pytest.approx(memory[name][column].mean, abs=0.01), (name, column)


def test_a_distance_that_grows_for_other_songs_bands_can_tell_them() -> None:
    own, other = Distance(1.0, np.array([1.0, 1.1, 0.9])), Distance(2.0, np.array([2.0, 2.15, 1.9]))
    assert cannot_tell("FAD", own, other) == ""
    assert "cannot tell a band from a shuffled one, 1 from 1" in cannot_tell("FAD", own, own)
    assert "from 0.5" in cannot_tell("FAD", own, Distance(0.5, np.array([0.5, 0.6, 0.4])))
    few = Distance(1.0, np.zeros(0))
    assert "error of the difference unknown" in cannot_tell("FAD", few, Distance(9.0, np.zeros(0)))


def test_of_a_long_song_the_part_is_heard_in_which_the_voice_is_loudest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backline.evaluation.accompaniment.LONGEST_SECONDS", 2.0)
    stems = noises("vocals", "guitar", seconds=6.0)
    stems["vocals"][:, : 3 * 48_000] = 0
    song = write_corpus(tmp_path, write_song(tmp_path, "late singer", stems)).songs()[0]
    heard = Sung.of(song, 48_000)
    assert (heard.seconds, heard.score) == (2.0, None)
    begin = next(
        b for b in (3, 4) if np.allclose(heard.vocal, stems["vocals"].mean(axis=0)[b * 48_000 :][:96_000], atol=1e-6)
    )
    np.testing.assert_allclose(heard.band, stems["guitar"].mean(axis=0)[begin * 48_000 :][:96_000], atol=1e-6)
