"""A run and its pack tell what happened: every loss at its minute, every sound at its pitch and level."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from backline.training.loop import read_log
from backline.training.report import (
    HOP,
    WINDOW,
    NoPicture,
    curves,
    hardware,
    plot_losses,
    plot_spectrograms,
    spectrogram,
)

PNG = b"\x89PNG\r\n"
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


def test_a_sine_stands_in_its_bin_at_its_level() -> None:
    line = 100
    sine = 0.1 * np.sin(2 * np.pi * line / WINDOW * np.arange(20 * HOP)).astype(np.float32)
    settled = spectrogram(sine)[:, 4:-4]  # whose windows lie within the signal
    assert (settled.argmax(axis=0) == line).all()
    assert settled[line] == pytest.approx(-20.0, abs=0.01)
    assert settled[line + 3 :].max() < -100.0
    assert spectrogram(np.zeros(8 * HOP, np.float32)).max() == pytest.approx(-180.0)


def test_spectrograms_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    noise = np.random.default_rng(0).standard_normal(24_000).astype(np.float32) * 0.1
    path = plot_spectrograms(tmp_path / "sounds.png", {"reference": noise, "generated": 0 * noise}, 24_000)
    assert path.read_bytes().startswith(PNG)


def test_spectrograms_fill_as_many_columns_as_are_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    signals = {name: np.zeros(4_096, np.float32) for name in "abcd"}
    two, four = (imread(plot_spectrograms(tmp_path / "sounds.png", signals, 24_000, columns)) for columns in (2, 4))
    assert (two.shape[0], 2 * two.shape[1]) == (2 * four.shape[0], four.shape[1])


def test_the_machine_is_named_with_its_cores_and_torch() -> None:
    assert " cores, " in hardware()
    assert "torch 2." in hardware()
