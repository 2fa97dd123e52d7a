"""The evaluation of a separator: gains start at the mixture, silent stems have only a level, disk and memory agree."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backline.corpus.corpus import Corpus
from backline.corpus.manifest import CorpusError
from backline.corpus.songs import Composer, CorpusSongs
from backline.evaluation.live import Sound, default_setting
from backline.evaluation.plan import Plan
from backline.evaluation.separation import (
    ALL,
    CODEC,
    CODED,
    GAIN,
    HPSS,
    LEVEL,
    MIXTURE,
    SEPARATED,
    SUM,
    TRUE,
    evaluate_separation,
    gates,
    judge,
    pictured,
    row_name,
    session,
    silent_notes,
    token_settings,
)
from backline.evaluation.separation_baselines import Finder
from backline.evaluation.truth import Truth, has_parts
from backline.measures.report import Figure, Row
from backline.measures.separation import LOG_MEL, SDR, SI_SDR, sum_error
from backline.models.passthrough import PassthroughConfig, PassthroughStream
from backline.models.stems.load import load, tiny_random
from backline.music import fluidsynth
from backline.music.seeds import TEST_SEED
from backline.music.stems import SAMPLE_RATE, TRACKS, Stems
from backline.music.world import NARROW
from tests.support.corpora import composed_corpus, noises, write_corpus, write_song

pytest.importorskip("fast_bss_eval")

needs_fluidsynth = pytest.mark.skipif(fluidsynth.missing() is not None, reason=str(fluidsynth.missing()))


def stems(seed: int = 0) -> Stems:
    """Four noises of a second."""
    return (0.1 * np.random.default_rng(seed).standard_normal((4, 48_000))).astype(np.float32)


def truth_of(true: Stems) -> Truth:
    return Truth(true.sum(axis=0), TRACKS, tuple(frozenset([track]) for track in TRACKS), true)


def named(sounds: Stems) -> dict[str, Sound]:
    return dict(zip(TRACKS, sounds, strict=True))


def four_ports() -> PassthroughStream:
    """A separator that plays the mixture at every port; they come in no order of ours."""
    return PassthroughStream(PassthroughConfig(ports=tuple(reversed(TRACKS))))


def echo(mixed: Sound, seed: int) -> Mapping[str, Sound]:
    return dict.fromkeys(TRACKS, mixed)


def evaluate(find: Finder, plan: Plan, **beside: Finder) -> tuple[Mapping[str, Row], list[str]]:
    rows, _, notes = evaluate_separation(find, plan, beside, None, False, lambda doing, share: None)
    return rows, notes


def test_gains_start_at_the_mixture_and_the_true_stems_are_at_the_top() -> None:
    figures = judge({SEPARATED: named(stems())}, truth_of(stems()), None, False)
    for track in (ALL, *TRACKS):
        assert figures[MIXTURE, track][GAIN] == 0
        assert figures[MIXTURE, track][SI_SDR] == pytest.approx(-4.77, abs=0.2)  # of three noises under one
        assert figures[SEPARATED, track][GAIN] > 100
        assert figures[SEPARATED, track][LOG_MEL] == 0
    assert figures[SEPARATED, ALL][SUM] < -90
    assert figures[MIXTURE, ALL][SUM] == pytest.approx(20 * np.log10(3), abs=0.01)  # four mixtures instead of one
    assert SUM not in figures[MIXTURE, "bass"]
    assert figures[TRUE, "drums"] == {LEVEL: pytest.approx(-6.02, abs=0.1)}  # one noise of four


def test_a_silent_stem_has_a_level_and_is_left_out_of_the_means_and_counted() -> None:
    true = stems()
    true[TRACKS.index("bass")] *= 1e-6
    figures = judge({SEPARATED: named(stems(1))}, truth_of(true), None, False)
    assert figures[SEPARATED, "bass"] == {LEVEL: pytest.approx(-4.77, abs=0.1)}  # against three noises
    heard = [figures[SEPARATED, track][LOG_MEL] for track in TRACKS if track != "bass"]
    assert figures[SEPARATED, ALL][LOG_MEL] == pytest.approx(np.mean(heard))
    whole = judge({SEPARATED: named(stems(1))}, truth_of(stems()), None, False)
    assert silent_notes([figures, whole]) == ["bass: silent in 1 of 2 songs, of which it has nothing but a level"]


def test_beside_coded_stems_the_baselines_are_coded_and_the_pack_is_as_it_plays() -> None:
    true = stems()
    figures = judge({SEPARATED: named(np.tanh(3 * true))}, truth_of(true), lambda sound: np.tanh(3 * sound), False)
    assert figures[SEPARATED, "drums"][SI_SDR + CODED] == pytest.approx(100)  # just what the codec makes of the truth
    assert figures[SEPARATED, "drums"][SI_SDR] == figures[CODEC, "drums"][SI_SDR] < 30
    coded = truth_of(np.tanh(3 * true))
    mixed = np.tanh(3 * true.sum(axis=0))
    again = judge({SEPARATED: dict.fromkeys(TRACKS, mixed)}, coded, None, False)
    for column in (SI_SDR, SDR, LOG_MEL):
        assert figures[MIXTURE, "other"][column + CODED] == pytest.approx(again[SEPARATED, "other"][column], abs=1e-4)
    assert SI_SDR + CODED not in figures[CODEC, "drums"]


def rows(gain: float = 5.1, distance: float = 0.9, error: float = -60.0) -> Mapping[str, Row]:
    """A pack with these figures, beside an HPSS whose log-mel distance is 1."""
    found: dict[str, Row] = {SEPARATED: {SUM: Figure(error)}}
    for track in TRACKS:
        found[row_name(SEPARATED, track)] = {SI_SDR: Figure(1.0), GAIN: Figure(gain), LOG_MEL: Figure(distance)}
        found[row_name(HPSS, track)] = {LOG_MEL: Figure(1.0)}
    return found


def missed(**figures: float) -> list[str]:
    return [gate.name for gate in gates(rows(**figures)) if not gate.passed]


def test_gates_are_missed_at_the_bar_and_passed_above_it() -> None:
    assert missed() == []
    assert missed(gain=5.0) == [f"drums: {GAIN}", f"bass: {GAIN}"]
    assert missed(gain=3.0) == [f"{track}: {GAIN}" for track in TRACKS]
    assert missed(distance=1.0) == [f"{track}: {LOG_MEL}" for track in TRACKS]
    assert missed(error=-59.9) == [SUM]


def test_a_stem_that_sounds_in_no_song_is_no_gate() -> None:
    without = {**rows(), row_name(SEPARATED, "bass"): {LEVEL: Figure(-30.0)}}
    assert not [gate.name for gate in gates(without) if "bass" in gate.name]


def test_ports_are_taken_by_their_names_and_a_pack_without_them_is_refused() -> None:
    stream = four_ports()
    mixed = stems().sum(axis=0)
    found = session(stream, default_setting(stream.spec))(mixed, 0)
    assert {*found} == {*TRACKS}
    for sound in found.values():
        np.testing.assert_array_equal(sound, mixed)
    with pytest.raises(CorpusError, match="plays main, which are not the stems of a song"):
        session(PassthroughStream(PassthroughConfig()), default_setting(stream.spec))


def test_what_is_known_apart_is_judged_by_the_ports_that_it_is(tmp_path: Path) -> None:
    """A guitar and the rest, as Frets on Fire has them; and a singer over a band, before a separator of two stems."""
    guitar, rest = (noises("x", seed=number)["x"] for number in (1, 2))
    rock = write_song(tmp_path, "rock", {"guitar": guitar, "rest": rest}, split="test")
    sung = write_song(tmp_path, "sung", {"vocals": guitar, "instrumental": rest}, split="test")

    def find(mixed: Sound, seed: int) -> Mapping[str, Sound]:
        true = guitar.mean(axis=0)
        return {"vocals": 0.1 * true, "drums": 0 * true, "bass": mixed - 1.1 * true, "other": true}

    def two_stems(mixed: Sound, seed: int) -> Mapping[str, Sound]:
        return {"vocals": guitar.mean(axis=0), "instrumental": rest.mean(axis=0)}

    one = CorpusSongs(write_corpus(tmp_path, rock), has_parts)
    found, notes = evaluate(find, Plan(one, pieces=4), two=two_stems)
    assert notes == ["4 pieces were asked for, and there are 1 to judge by: all were taken"]
    assert found["separated, guitar"][GAIN].mean > 60  # but for the 24th bit
    assert found["separated, rest"][SI_SDR].mean > 60
    assert found["separated, vocals"] == {LEVEL: Figure(pytest.approx(-23.0, abs=0.1))}
    assert "two, guitar" not in found  # its instrumental holds it
    assert found["two, vocals"][LEVEL].mean == pytest.approx(-3.0, abs=0.1)
    assert found["true, rest"][LEVEL].mean == pytest.approx(-3.0, abs=0.1)

    other = CorpusSongs(write_corpus(tmp_path, sung), has_parts)
    found, _ = evaluate(lambda mixed, seed: dict.fromkeys(TRACKS, mixed / 4), Plan(other, pieces=1), two=two_stems)
    assert found["two, vocals"][GAIN].mean > 60
    assert found["two, instrumental"][GAIN].mean > 60
    assert found["separated, instrumental"][GAIN].mean == pytest.approx(0, abs=1e-3)


def test_a_long_song_is_judged_in_parts_of_which_silent_ones_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backline.evaluation.truth.LONGEST_SECONDS", 1.0)
    whole = noises(*TRACKS, seconds=3.0)
    whole["vocals"][:, :48_000] = 0  # nobody sings in the first of three parts
    song = write_song(tmp_path, "long", whole, split="test")
    lengths: list[int] = []

    def find(mixed: Sound, seed: int) -> Mapping[str, Sound]:
        lengths.append(len(mixed))
        return echo(mixed, seed)

    found, _ = evaluate(find, Plan(CorpusSongs(write_corpus(tmp_path, song), has_parts), pieces=1))
    assert lengths == [48_000] * 3
    assert found["mixture, vocals"][SI_SDR].mean == pytest.approx(-4.77, abs=0.2)


def test_what_another_separator_has_cut_out_is_said_to_be_no_truth(tmp_path: Path) -> None:
    song = write_song(tmp_path, "pop", noises("mix", "vocals", "instrumental"), split="test", separator="spleeter 2.4")
    _, notes = evaluate(echo, Plan(CorpusSongs(write_corpus(tmp_path, song), has_parts), pieces=1))
    assert "the stems of 1 songs were separated by spleeter 2.4" in notes[0]


@pytest.mark.slow
@needs_fluidsynth
def test_three_composed_songs_have_the_same_figures_from_the_disk_as_from_memory(tmp_path: Path) -> None:
    composer = Composer(replace(NARROW, bars=4), SAMPLE_RATE)
    disk = CorpusSongs(Corpus.open(composed_corpus(tmp_path, composer, 3)), has_parts)

    def find(mixed: Sound, seed: int) -> Mapping[str, Sound]:
        return {track: mixed * (0.2 + place / 10) for place, track in enumerate(TRACKS)}

    memory, _ = evaluate(find, Plan(composer, pieces=3))
    again, _ = evaluate(find, Plan(disk, pieces=3))
    assert memory.keys() == again.keys()
    for name, row in memory.items():
        for column, figure in row.items():
            assert again[name][column].mean == pytest.approx(figure.mean, abs=0.01), (name, column)
            assert again[name][column].error == pytest.approx(figure.error, abs=0.01), (name, column)


def test_a_pack_that_tells_codes_has_rows_for_the_papers_way_and_no_other_pack_has() -> None:
    stream = load(*tiny_random(), "cpu")
    setting = replace(default_setting(stream.spec), parameters={"readout": 1.0, "transients": 1.0})
    told = token_settings(stream.spec, setting)
    assert list(told) == ["tokens, greedy", "tokens, mean"]
    greedy = told["tokens, greedy"].parameters
    assert greedy == {"readout": 0.0, "phase": 0.0, "consistency": 0.0, "transients": 0.0}
    assert told["tokens, mean"].parameters == greedy | {"readout": 1.0}
    assert token_settings(four_ports().spec, setting) == {}
    mixed = stems().sum(axis=0)
    found = [session(stream, way)(mixed, 0) for way in (default_setting(stream.spec), *told.values())]
    ways = [np.stack([*sounds.values()]) for sounds in found]
    assert [sum_error(way, mixed) < -60 for way in ways] == [True, False, False]
    assert not np.allclose(ways[1], ways[2])


def test_tokens_are_judged_beside_coded_stems_as_they_are() -> None:
    found = {SEPARATED: named(stems()), "tokens, greedy": named(np.tanh(3 * stems()))}
    figures = judge(found, truth_of(stems()), lambda sound: np.tanh(3 * sound), False)
    assert figures["tokens, greedy", ALL][SI_SDR + CODED] == pytest.approx(100)


@pytest.mark.slow
@needs_fluidsynth
def test_a_pack_that_plays_the_mixture_gains_nothing_on_songs() -> None:
    stream, told = four_ports(), []
    found, judged, notes = evaluate_separation(
        session(stream, default_setting(stream.spec)),
        Plan(Composer(NARROW, SAMPLE_RATE), pieces=1),
        {"silence": lambda mixed, seed: dict.fromkeys(TRACKS, np.zeros_like(mixed))},
        None,
        False,
        lambda doing, share: told.append((doing, share)),
    )
    assert list(found)[:5] == [SEPARATED, *(row_name(SEPARATED, track) for track in TRACKS)]
    for track in (ALL, *TRACKS):
        assert found[row_name(SEPARATED, track)] == found[row_name(MIXTURE, track)]
        assert found[row_name(SEPARATED, track)][GAIN] == Figure(0.0)
        assert found[row_name("ideal ratio mask", track)][GAIN].mean > 10
        assert found[row_name("silence", track)][SI_SDR].mean == pytest.approx(-100)
    assert found[HPSS][SUM].mean < -90
    assert found[HPSS][GAIN].mean > 3
    assert [gate.passed for gate in judged[:4]] == [False] * 4
    assert notes == []
    assert all(0 <= share <= 1 for _, share in told)


@needs_fluidsynth
def test_a_picture_shows_the_true_stems_above_the_separated() -> None:
    signals = pictured(echo, Composer(NARROW, SAMPLE_RATE))
    assert list(signals)[1:5] == list(TRACKS)
    assert list(signals)[6:] == [f"{track}, separated" for track in TRACKS]
    np.testing.assert_allclose(sum(signals[track] for track in TRACKS), signals["mixture"], atol=1e-6)
    np.testing.assert_array_equal(signals["drums, separated"], signals["mixture"])


@needs_fluidsynth
def test_judged_songs_are_the_composers_test_songs() -> None:
    (one,) = Plan(Composer(NARROW, 8_000), pieces=1).composed(lambda doing, share: None)
    assert one.piece.seed == TEST_SEED
