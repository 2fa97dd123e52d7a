"""The evaluation of a separator: gains start at the mixture, silent stems are left out, gates say what they mean."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from backline.evaluation.accompaniment import Plan
from backline.evaluation.live import default_setting
from backline.evaluation.separation import (
    ALL,
    CODEC,
    CODED,
    GAIN,
    HPSS,
    MIXTURE,
    SEPARATED,
    SUM,
    check_ports,
    evaluate_separation,
    gates,
    judge_song,
    pictured,
    row_name,
    separate,
    silent_notes,
    token_settings,
)
from backline.evaluation.separation_baselines import mixture
from backline.measures.report import Figure, Row
from backline.measures.separation import LOG_MEL, SDR, SI_SDR, sum_error
from backline.models.passthrough import PassthroughConfig, PassthroughStream
from backline.models.stems.load import load, tiny_random
from backline.music import fluidsynth
from backline.music.stems import TRACKS, Stems
from backline.music.world import NARROW

pytest.importorskip("fast_bss_eval")

needs_fluidsynth = pytest.mark.skipif(fluidsynth.missing() is not None, reason=str(fluidsynth.missing()))


def stems(seed: int = 0) -> Stems:
    """Four noises of a second."""
    return (0.1 * np.random.default_rng(seed).standard_normal((4, 48_000))).astype(np.float32)


def four_ports() -> PassthroughStream:
    """A separator that plays the mixture at every port; they come in no order of ours."""
    return PassthroughStream(PassthroughConfig(ports=tuple(reversed(TRACKS))))


def test_gains_start_at_the_mixture_and_the_true_stems_are_at_the_top() -> None:
    true = stems()
    mixed = true.sum(axis=0)
    figures = judge_song({MIXTURE: mixture(mixed, true), SEPARATED: true}, true, None, False)
    for track in (ALL, *TRACKS):
        assert figures[MIXTURE, track][GAIN] == 0
        assert figures[MIXTURE, track][SI_SDR] == pytest.approx(-4.77, abs=0.2)  # of three noises under one
        assert figures[SEPARATED, track][GAIN] > 100
        assert figures[SEPARATED, track][LOG_MEL] == 0
    assert figures[SEPARATED, ALL][SUM] < -90
    assert figures[MIXTURE, ALL][SUM] == pytest.approx(20 * np.log10(3), abs=0.01)  # four mixtures instead of one
    assert SUM not in figures[MIXTURE, "bass"]


def test_a_silent_stem_is_left_out_of_the_means_and_counted() -> None:
    true = stems()
    true[TRACKS.index("bass")] *= 1e-6
    figures = judge_song({MIXTURE: mixture(true.sum(axis=0), true), SEPARATED: stems(1)}, true, None, False)
    assert (SEPARATED, "bass") not in figures
    heard = [figures[SEPARATED, track][LOG_MEL] for track in TRACKS if track != "bass"]
    assert figures[SEPARATED, ALL][LOG_MEL] == pytest.approx(np.mean(heard))
    whole = judge_song({MIXTURE: stems(1), SEPARATED: stems(1)}, stems(), None, False)
    assert silent_notes([figures, whole]) == ["bass: silent in 1 of 2 songs, which its figures leave out"]


def test_beside_coded_stems_the_baselines_are_coded_and_the_pack_is_as_it_plays() -> None:
    true = stems()
    found = {MIXTURE: mixture(true.sum(axis=0), true), SEPARATED: np.tanh(3 * true)}
    figures = judge_song(found, true, lambda sound: np.tanh(3 * sound), False)
    assert figures[SEPARATED, "drums"][SI_SDR + CODED] == pytest.approx(100)  # just what the codec makes of the truth
    assert figures[SEPARATED, "drums"][SI_SDR] == figures[CODEC, "drums"][SI_SDR] < 30
    again = judge_song({MIXTURE: np.tanh(3 * found[MIXTURE])}, np.tanh(3 * true), None, False)
    for column in (SI_SDR, SDR, LOG_MEL):
        assert figures[MIXTURE, "other"][column + CODED] == pytest.approx(again[MIXTURE, "other"][column], abs=1e-4)
    assert SI_SDR + CODED not in figures[CODEC, "drums"]


def rows(gain: float = 5.1, distance: float = 0.9, error: float = -60.0) -> Mapping[str, Row]:
    """A pack with these figures, beside an HPSS whose log-mel distance is 1."""
    found: dict[str, Row] = {SEPARATED: {SUM: Figure(error)}}
    for track in TRACKS:
        found[row_name(SEPARATED, track)] = {GAIN: Figure(gain), LOG_MEL: Figure(distance)}
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


def test_a_stem_that_no_song_has_is_no_gate() -> None:
    without = {name: row for name, row in rows().items() if "bass" not in name}
    assert not [gate.name for gate in gates(without) if "bass" in gate.name]


def test_ports_are_taken_by_their_names_and_a_pack_without_them_is_refused() -> None:
    stream = four_ports()
    check_ports(stream.spec)
    mixed = stems().sum(axis=0)
    np.testing.assert_array_equal(separate(stream, mixed, 0, default_setting(stream.spec)), np.tile(mixed, (4, 1)))
    with pytest.raises(ValueError, match=r"plays main: use one with the ports vocals, drums, bass, other"):
        check_ports(PassthroughStream(PassthroughConfig()).spec)


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
    ways = [separate(stream, mixed, 0, way) for way in (default_setting(stream.spec), *told.values())]
    assert [sum_error(way, mixed) < -60 for way in ways] == [True, False, False]
    assert not np.allclose(ways[1], ways[2])


def test_tokens_are_judged_beside_coded_stems_as_they_are() -> None:
    true = stems()
    found = {MIXTURE: mixture(true.sum(axis=0), true), SEPARATED: true, "tokens, greedy": np.tanh(3 * true)}
    figures = judge_song(found, true, lambda sound: np.tanh(3 * sound), False)
    assert figures["tokens, greedy", ALL][SI_SDR + CODED] == pytest.approx(100)


@pytest.mark.slow
@needs_fluidsynth
def test_a_pack_that_plays_the_mixture_gains_nothing_on_songs() -> None:
    stream, told = four_ports(), []
    found, judged, notes = evaluate_separation(
        stream,
        Plan(NARROW, pieces=1),
        default_setting(stream.spec),
        {"silence": lambda mixed, true: np.zeros_like(true)},
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
    stream = four_ports()
    signals = pictured(stream, NARROW, default_setting(stream.spec))
    assert list(signals)[1:5] == list(TRACKS)
    assert list(signals)[6:] == [f"{track}, separated" for track in TRACKS]
    np.testing.assert_allclose(sum(signals[track] for track in TRACKS), signals["mixture"], atol=1e-6)
    np.testing.assert_array_equal(signals["drums, separated"], signals["mixture"])
