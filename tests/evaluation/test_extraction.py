"""Extraction is judged by what it finds: who knows all finds all, and an echo of the mixture is the mixture's row."""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from backline.corpus.songs import Songs
from backline.evaluation.extraction import (
    ABSENT,
    ADAPTIVE,
    COMPING,
    FOUND,
    HELD,
    IDEAL_MASK,
    LEVEL,
    NAMELESS,
    QUIET,
    READOUTS,
    REPAINT,
    STEMS,
    VAE,
    Judged,
    Readout,
    ablations,
    evaluate_extraction,
    gates,
    judge,
    readout_of,
    scenes,
)
from backline.evaluation.live import Sound
from backline.evaluation.plan import Plan
from backline.evaluation.queried import (
    Extract,
    asking_for,
    extraction,
    middle,
    players,
    repainting,
    through_vae,
)
from backline.evaluation.separation import ALL, GAIN, HPSS, MIXTURE, row_name
from backline.evaluation.separation_baselines import Finder
from backline.measures.report import Figure, Row
from backline.measures.separation import LOG_MEL, SI_SDR
from backline.models.errors import PackError
from backline.models.mge.offline import Sampling
from backline.models.windowed.consistency import MASK, OFF, RESIDUAL
from backline.music.seeds import TEST_SEED
from backline.music.stems import SAMPLE_RATE
from backline.packs.pack import Pack, write_pack
from tests.packs.test_pack import CONFIG
from tests.support.queried import BAND, Knowing, Library, Pulses, write_random_pack

pytest.importorskip("fast_bss_eval")

PIECES = 2
SESSION = Readout(RESIDUAL, 1.0)
KNOWN = Knowing([Library().song(TEST_SEED + number) for number in range(PIECES)], SAMPLE_RATE)


def echo(mixture: Sound, prompt: str, seed: int) -> tuple[Sound, Sound]:
    return mixture, np.zeros_like(mixture)


def judged(extract: Extract, library: Library | None = None, pieces: int = PIECES, **beside: Finder) -> Judged:
    plan = Plan(cast(Songs, library or Library()), pieces)
    readers = {"n-grams": extract}
    return evaluate_extraction(
        extract, SESSION, plan, lambda sound: 0.9 * sound, readers, beside, {}, lambda doing, share: None
    )


@pytest.fixture(scope="module")
def known() -> Judged:
    return judged(KNOWN.extract)


def test_who_knows_everything_finds_everything(known: Judged) -> None:
    paper = {group: known.rows[row_name(READOUTS[OFF], group)] for group in (ALL, "vocals", "drums", "bass", COMPING)}
    for row in paper.values():
        assert row[FOUND].mean == 1.0
        assert row[LOG_MEL].mean == 0.0
        assert row[SI_SDR].mean == pytest.approx(100)  # as much as is counted
    assert known.rows[READOUTS[MASK]][FOUND].mean == 1.0
    assert known.rows[READOUTS[MASK]][GAIN].mean > 8
    assert known.rows[HELD.format("n-grams")][FOUND].mean == 1.0
    assert np.array_equal(known.confusion, PIECES * np.eye(len(BAND)))
    assert set(known.names) == set(BAND)
    assert [gate.name for gate in known.gates if not gate.passed] == []


def test_the_answer_to_what_is_not_there_is_silence(known: Judged) -> None:
    row = known.rows[row_name(READOUTS[OFF], ABSENT)]
    assert row[LEVEL].mean < -60
    assert row[QUIET].mean == 1.0


def test_an_echo_of_the_mixture_is_the_mixtures_row() -> None:
    found = judged(echo)
    for group in (ALL, "vocals", "drums", "bass", "keys", COMPING):
        assert found.rows[row_name(READOUTS[OFF], group)] == found.rows[row_name(MIXTURE, group)]
    assert found.rows[READOUTS[MASK]][GAIN].mean == pytest.approx(0, abs=0.2)
    assert found.rows[READOUTS[MASK]][FOUND].mean == pytest.approx(1 / len(BAND))  # whatever is asked, one is nearest
    assert found.rows[row_name(READOUTS[OFF], ABSENT)][LEVEL].mean == 0
    assert found.rows[row_name(READOUTS[OFF], ABSENT)][QUIET].mean == 0
    missed = {gate.name for gate in found.gates if not gate.passed}
    assert {f"by name: {FOUND}", f"drums: {GAIN}", f"what is not there: {QUIET}"} <= missed


def test_the_vae_alone_is_judged_as_it_leaves_the_stems(known: Judged) -> None:
    """Here it makes them quieter, which no mask hears."""
    assert known.rows[VAE][LOG_MEL].mean == pytest.approx(-np.log(0.9), abs=0.03)  # but for what is silence
    assert known.rows[f"{VAE}, mask"][SI_SDR].mean == pytest.approx(known.rows[READOUTS[MASK]][SI_SDR].mean, abs=0.1)


def test_separators_answer_for_what_they_tell_apart() -> None:
    def tracks(mixed: Sound, seed: int) -> Mapping[str, Sound]:
        return dict.fromkeys(("vocals", "drums", "bass", "other"), mixed)

    rows = judged(echo, pieces=1, four=tracks).rows
    assert rows["four, other"] == rows["mixture, other"]
    assert {"HPSS, vocals", "HPSS, drums", "HPSS, bass", "HPSS, other"} <= rows.keys()
    rows = judged(echo, Library((*BAND, "flute")), 1, four=tracks).rows
    assert "four, vocals" in rows
    assert not {"four, other", "HPSS, other", "four, woodwinds", "mixture, other"} & rows.keys()
    assert {"mixture, comping", "mixture, woodwinds", "mixture, keys"} <= rows.keys()
    assert "four" not in rows  # the mean of fewer stems than are asked for
    assert LOG_MEL in rows[IDEAL_MASK]


def test_what_has_no_name_is_not_asked_for_and_may_be_any_instrument() -> None:
    """As the guitar of a song whose other stems nobody has told apart."""

    def tracks(mixed: Sound, seed: int) -> Mapping[str, Sound]:
        return {**dict.fromkeys(("vocals", "drums", "bass"), np.zeros_like(mixed)), "other": mixed}

    found = judged(echo, Library(("rest", "guitar")), 1, four=tracks)
    assert found.rows["four, other"] == found.rows["mixture, guitar"] == found.rows["mixture"]
    assert row_name(READOUTS[MASK], ABSENT) not in found.rows
    assert set(found.names) <= {"guitar", NAMELESS}
    assert found.confusion.sum() == 1


def test_a_stem_is_judged_where_it_sounds() -> None:
    (scene,) = scenes(Pulses(0, seconds=21.0, rests={"piano": 7.0, "drums": 0.0}))
    piano = scene.labels.index(("piano", "keys"))
    assert scene.sounding[piano].tolist() == [True, False, False]
    assert [scene.labels[stem][0] for stem in scene.asked()] == ["vocals", "electric bass", "piano"]
    answer = scene.stems[piano].copy()
    answer[8 * SAMPLE_RATE :] = scene.mixed[8 * SAMPLE_RATE :]  # where it rests
    row = judge(scene, piano, {"judged": answer})[0]["judged", ALL]
    assert row[LOG_MEL] < 1e-4
    assert row[FOUND] == 1.0


def test_long_songs_are_asked_in_parts() -> None:
    assert [part.stems.shape[1] for part in scenes(Pulses(0, ("drums", "piano"), seconds=61.0))] == [30.5 * 48_000] * 2
    assert middle(Pulses(0, seconds=100.0)).seconds == 60.0
    assert middle(Pulses(0)).seconds == 2.0


def test_gates_are_those_of_the_design() -> None:
    mask = READOUTS[MASK]
    rows: dict[str, Row] = {
        mask: {FOUND: Figure(0.9)},
        HELD.format("minilm"): {FOUND: Figure(0.79)},
        HELD.format("n-grams"): {FOUND: Figure(0.61)},
        row_name(mask, "drums"): {GAIN: Figure(8.0), LOG_MEL: Figure(0.9)},
        row_name(mask, COMPING): {GAIN: Figure(1.9)},
        row_name(HPSS, "drums"): {LOG_MEL: Figure(1.0)},
        row_name(STEMS, "drums"): {LOG_MEL: Figure(0.6)},
        row_name(mask, ABSENT): {QUIET: Figure(0.8)},
        ADAPTIVE: {LOG_MEL: Figure(1.0)},
        REPAINT.format(1): {LOG_MEL: Figure(2.0)},
        REPAINT.format(4): {LOG_MEL: Figure(0.9)},
    }
    assert [(gate.name, gate.passed) for gate in gates(rows, mask)] == [
        (f"by name: {FOUND}", True),
        (f"held-out words, minilm: {FOUND}", False),
        (f"held-out words, n-grams: {FOUND}", True),
        (f"drums: {GAIN}", True),
        (f"{COMPING}: {GAIN}", False),
        (f"drums: {LOG_MEL} beside HPSS", True),
        (f"drums: {LOG_MEL} beside stems", False),
        (f"what is not there: {QUIET}", True),
        (f"{ADAPTIVE}: {LOG_MEL}", False),
    ]


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return write_random_pack(tmp_path_factory.mktemp("packs"))


def test_a_pack_is_asked_by_every_tower_that_reads(pack: Pack) -> None:
    assert list(players(pack, "cpu"))[-1] == "n-grams"
    assert readout_of(pack) == Readout(MASK, 1.0)


def test_packs_of_other_families_answer_no_prompts(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="give a pack of the family mge"):
        players(write_pack(tmp_path / "other", CONFIG, {}), "cpu")


def test_answers_are_as_long_as_the_mixture_and_the_same_for_a_seed(pack: Pack) -> None:
    player = players(pack, "cpu")["n-grams"]
    mixture = Pulses(0).read("vocals", 24_000)[0][:17_001]
    for extract in (extraction(player, Sampling(2), 24_000), repainting(player, 2, 2, 1.0, 24_000)):
        source, rest = extract(mixture, asking_for("vocals"), 1)
        assert source.shape == rest.shape == mixture.shape
        assert np.array_equal(extract(mixture, asking_for("vocals"), 1)[0], source)
        assert not np.array_equal(extract(mixture, asking_for("vocals"), 2)[0], source)
        assert not np.array_equal(extract(mixture, asking_for("drums"), 1)[0], source)
    assert through_vae(player, 24_000)(mixture).shape == mixture.shape


def test_repaint_begins_every_step_from_noise_of_its_own(pack: Pack) -> None:
    player = players(pack, "cpu")["n-grams"]
    mixture = Pulses(0).read("vocals", SAMPLE_RATE)[0]
    once, twice = (repainting(player, 2, repeats, 1.0, SAMPLE_RATE) for repeats in (1, 2))
    assert not np.allclose(once(mixture, "drums", 0)[0], twice(mixture, "drums", 0)[0])


def test_an_ablation_has_steps_guidance_and_repaint(pack: Pack) -> None:
    player = players(pack, "cpu")["n-grams"]
    ways = ablations(player, Sampling(1))
    assert {"steps = 1", "steps = 32", "guidance = 2", ADAPTIVE, REPAINT.format(4)} <= ways.keys()
    plan = Plan(cast(Songs, Library(("drums", "piano"))), 1)
    extract = extraction(player, Sampling(1), SAMPLE_RATE)
    few = {name: ways[name] for name in ("steps = 1", ADAPTIVE, REPAINT.format(1))}
    found = evaluate_extraction(
        extract, SESSION, plan, through_vae(player, SAMPLE_RATE), {}, {}, few, lambda doing, share: None
    )
    assert found.rows["steps = 1"] == found.rows[READOUTS[RESIDUAL]]
    assert found.rows[ADAPTIVE] != found.rows["steps = 1"]
    assert any(gate.name.startswith(ADAPTIVE) for gate in found.gates)
