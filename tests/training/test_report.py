"""A run and its pack tell what happened: every loss at its minute."""

import json
import sys
from pathlib import Path

import pytest

from backline.measures.pictures import NoPicture
from backline.training.loop import read_log
from backline.training.report import curves, hardware, plot_losses

LOG = [
    {"kind": "train", "step": 1, "seconds": 30.0, "loss": 6.0, "norm": 0.5, "rate": 1e-3},
    {"kind": "train", "step": 2, "seconds": 60.0, "loss": 5.0, "norm": 0.4, "rate": 1e-3},
    {"kind": "validation", "step": 2, "seconds": 60.0, "loss": 5.5, "late": 5.75, "sdr_drums": 3.0},
]


def write_log(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in LOG))


def test_a_log_reads_back_as_what_was_written(tmp_path: Path) -> None:
    assert read_log(tmp_path / "codec") == []
    write_log(tmp_path / "codec")
    assert read_log(tmp_path / "codec") == LOG


def test_curves_are_losses_over_minutes_and_nothing_in_another_unit() -> None:
    assert curves(LOG) == {
        "loss": {"train": [(0.5, 6.0), (1.0, 5.0)], "validation": [(1.0, 5.5)]},
        "late": {"train": [], "validation": [(1.0, 5.75)]},
    }


def test_the_losses_of_all_parts_become_one_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    write_log(tmp_path / "codec")
    one = imread(plot_losses(tmp_path))
    write_log(tmp_path / "semantic")
    (tmp_path / "shards-0").mkdir()  # is no part
    both = imread(plot_losses(tmp_path))
    assert both.shape[0] == 2 * one.shape[0]


def test_a_run_in_which_nothing_was_trained_has_no_picture(tmp_path: Path) -> None:
    with pytest.raises(NoPicture, match=r"no part of .* has been trained yet"):
        plot_losses(tmp_path)


def test_without_matplotlib_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    write_log(tmp_path / "codec")
    with pytest.raises(NoPicture, match=r"pip install 'backline\[demo\]'"):
        plot_losses(tmp_path)


def test_the_machine_is_named_with_its_cores_and_torch() -> None:
    assert " cores, " in hardware()
    assert "torch 2." in hardware()
