"""`backline packs card`: after an evaluation one command leaves a README with pictures beside the weights."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from backline.measures.report import Figure, Gate, Report, write_report
from backline.music.fluidsynth import missing
from backline.music.stems import TRACKS
from backline.packs.pack import read_pack, write_pack
from tests.cli.conftest import Typed
from tests.measures.test_pictures import PNG
from tests.packs.test_pack import CONFIG
from tests.training.test_report import write_log

pytest.importorskip("matplotlib")

Backline = Callable[..., Typed]


def make(tmp_path: Path, measured: str, ports: Sequence[str] = ("main",)) -> list[object]:
    """A pack with these ports, its run, an evaluation of the pack `measured`, and the arguments that name them."""
    write_pack(tmp_path / "echo", CONFIG | {"passthrough": {"ports": list(ports)}}, {})
    write_log(tmp_path / "run" / "codec")
    gate = Gate("in key", 0.5, "at least 0.9", False)
    report = Report("accompaniment", measured, {"world": "narrow"}, {"generated": {"in key": Figure(0.5)}}, [gate])
    write_report(tmp_path / "a.json", report)
    (tmp_path / "limits.md").write_text("It plays nothing of its own.")
    named = {"run": "run", "evaluation": "a.json", "limits": "limits.md", "packs": "echo"}
    return ["packs", "card", "echo", *(part for key, at in named.items() for part in (f"--{key}", tmp_path / at))]


@pytest.mark.slow
@pytest.mark.skipif(missing() is not None, reason=f"songs cannot be rendered: {missing()}")
def test_the_card_shows_what_was_measured_and_what_it_sounds_like(backline: Backline, tmp_path: Path) -> None:
    said = backline(*make(tmp_path, "echo 1"))
    assert said.code == 0, said.err
    folder = tmp_path / "echo"
    assert f"{folder / 'README.md'} written" in said.out
    text = (folder / "README.md").read_text()
    assert "| in key | **missed** | 0.5 | at least 0.9 |" in text
    assert "It plays nothing of its own." in text
    for picture in ("losses.png", "accompaniment.png"):
        assert f"]({picture})" in text
        assert (folder / picture).read_bytes().startswith(PNG)
    assert read_pack(folder).config["card"]["measured"]["accompaniment"]["figures"] == {"generated": {"in key": 0.5}}


@pytest.mark.slow
@pytest.mark.skipif(missing() is not None, reason=f"songs cannot be rendered: {missing()}")
def test_the_card_of_a_pack_that_separates_shows_its_stems(backline: Backline, tmp_path: Path) -> None:
    said = backline(*make(tmp_path, "echo 1", TRACKS))
    assert said.code == 0, said.err
    folder = tmp_path / "echo"
    assert sorted(path.name for path in folder.glob("*.png")) == ["losses.png", "separation.png"]
    assert "](separation.png)" in (folder / "README.md").read_text()
    assert (folder / "separation.png").read_bytes().startswith(PNG)


def test_an_evaluation_of_another_pack_ends_in_one_line(backline: Backline, tmp_path: Path) -> None:
    said = backline(*make(tmp_path, "default 0.1.0"))
    assert said.code == 1
    assert "a.json is of pack default 0.1.0, not of echo 1: evaluate this one" in said.err
    assert [path.name for path in (tmp_path / "echo").iterdir()] == ["pack.toml"]
