"""Every sound is drawn at its pitch and level."""

from pathlib import Path

import numpy as np
import pytest

from backline.measures.pictures import HOP, WINDOW, plot_spectrograms, spectrogram

PNG = b"\x89PNG\r\n"


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
