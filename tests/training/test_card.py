"""A pack's README and card say what its training and its evaluations found, and nothing of another pack."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from backline.measures.report import Figure, Gate, Report, write_report
from backline.models.errors import PackError
from backline.packs.pack import read_pack, write_pack
from backline.packs.quantized import quantize
from backline.training.card import write_card
from tests.measures.test_pictures import PNG
from tests.packs.test_pack import CONFIG
from tests.training.test_report import write_log

pytest.importorskip("matplotlib")

CARD: dict[str, Any] = {
    "data": "composed here",
    "world": "World(bars=8)",
    "seed": 3,
    "steps": {"codec": 1200, "semantic": 40},
    "trained_minutes": {"codec": 25.5, "semantic": 2.0},
    "hardware": "2 cores",
    "command": "backline train default-pack --minutes 1",
    "commit": "0123abcd",
    "validation": {"codec": {"mel": 0.25}, "semantic": {"loss": 1.5, "late": 1.75}},
}
REPORT = Report(
    kind="accompaniment",
    pack="echo 1",
    settings={"world": "narrow", "chunk_seconds": 0.8, "parameters": {}},
    rows={"generated": {"chord match": Figure(0.41, 0.02)}, "reference": {"chord match": Figure(0.96)}},
    gates=[Gate("chords", 0.41, "at least 0.48", False), Gate("in key", 0.9, "at least 0.88", True)],
    notes=["no FAD: too few frames"],
)


def make_pack(tmp_path: Path) -> tuple[Path, Path]:
    """A run folder and a pack's."""
    write_log(tmp_path / "run" / "codec")
    folder = tmp_path / "echo"
    write_pack(folder, {**CONFIG, "card": CARD}, quantize({"codec.weight": torch.ones(64, 64)}))
    return tmp_path / "run", folder


def written(tmp_path: Path, *reports: Report) -> list[Path]:
    paths = [tmp_path / f"{number}.json" for number in range(len(reports))]
    for path, report in zip(paths, reports, strict=True):
        write_report(path, report)
    return paths


def test_the_readme_holds_training_gates_figures_limits_and_pictures(tmp_path: Path) -> None:
    run, folder = make_pack(tmp_path)
    (folder / "accompaniment.png").write_bytes(PNG)
    text = write_card(run, folder, written(tmp_path, REPORT), "It knows *three* instruments.\n", "Ours.").read_text()
    for line in (
        "# echo 1",
        "an echo. Family passthrough, Apache-2.0, 0.0 MB, matrices in int8.",
        "Settings: world narrow, chunk_seconds 0.8.",
        "- world: World(bars=8)",
        "- seed: 3",
        "- hardware: 2 cores",
        "| codec | 1200 | 25.5 | mel 0.25 |",
        "| semantic | 40 | 2.0 | loss 1.5, late 1.75 |",
        "| chords | **missed** | 0.41 | at least 0.48 |",
        "| in key | **passed** | 0.9 | at least 0.88 |",
        "| generated | 0.41 ±0.02 |",
        "| reference | 0.96 |",
        "- no FAD: too few frames",
        "It knows *three* instruments.",
        "## What is a paper's, and what is ours",
        "Ours.",
        "![accompaniment](accompaniment.png)",
        "    backline train default-pack --minutes 1",
    ):
        assert line in text.splitlines(), line
    assert text.count("losses.png") == 1
    assert (folder / "losses.png").read_bytes().startswith(PNG)


def test_the_card_gains_what_was_measured_and_the_pack_stays_whole(tmp_path: Path) -> None:
    run, folder = make_pack(tmp_path)
    before = read_pack(folder)
    other = Report("accompaniment", "echo 1", {"transport": False}, {"generated": {"level": Figure(math.nan)}})
    write_card(run, folder, written(tmp_path, REPORT, other), "Much.")
    after = read_pack(folder)
    assert after.files == before.files
    card = after.config["card"]
    assert {key: card[key] for key in CARD} == CARD
    assert card["limits"] == "Much."
    assert card["measured"]["accompaniment"] == {
        "settings": {"world": "narrow", "chunk_seconds": 0.8, "parameters": {}},
        "figures": {"generated": {"chord match": 0.41}, "reference": {"chord match": 0.96}},
        "gates": {"chords": "missed: 0.41, wanted at least 0.48", "in key": "passed: 0.9, wanted at least 0.88"},
    }
    assert card["measured"]["accompaniment 2"]["settings"] == {"transport": False}
    assert math.isnan(card["measured"]["accompaniment 2"]["figures"]["generated"]["level"])


def test_writing_again_keeps_the_limits_and_replaces_the_figures(tmp_path: Path) -> None:
    run, folder = make_pack(tmp_path)
    write_card(run, folder, written(tmp_path, REPORT), "It knows one trio.", "Its method is ours.")
    text = write_card(run, folder, []).read_text()
    assert "It knows one trio." in text
    assert "Its method is ours." in text
    assert "chords" not in text
    assert read_pack(folder).config["card"]["measured"] == {}


@pytest.mark.parametrize("content", ["{", "[]", '{"kind": "codec"}', json.dumps({"rows": {"a": {"b": 1.0}}})])
def test_what_is_no_evaluation_is_refused_by_name(tmp_path: Path, content: str) -> None:
    run, folder = make_pack(tmp_path)
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(ValueError, match=r"bad\.json is no evaluation .*give what `backline evaluate"):
        write_card(run, folder, [tmp_path / "bad.json"])
    assert not (folder / "README.md").exists()


def test_an_evaluation_of_another_pack_is_refused(tmp_path: Path) -> None:
    run, folder = make_pack(tmp_path)
    old = Report("codec", "echo 0", {}, {})
    with pytest.raises(ValueError, match=r"0\.json is of pack echo 0, not of echo 1"):
        write_card(run, folder, written(tmp_path, old))


def test_a_pack_that_was_changed_gets_no_card(tmp_path: Path) -> None:
    run, folder = make_pack(tmp_path)
    weights = folder / "codec.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(PackError, match="has changed since the pack was made"):
        write_card(run, folder, [])
