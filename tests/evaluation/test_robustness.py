"""Input from outside the world: every fault misses its own gate, and a passthrough's answers are known."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile

from backline.evaluation.drift import CLIPPED
from backline.evaluation.live import Setting
from backline.evaluation.robustness import (
    AFTER,
    ENDING,
    LOUDEST,
    PEAK,
    RISE,
    SILENCE,
    SINGING,
    evaluate_robustness,
    figures,
    gates,
    sound_after,
    voices,
)
from backline.measures.report import Figure, Row
from backline.models.passthrough import PassthroughConfig, PassthroughStream
from backline.music import fluidsynth
from backline.music.world import NARROW

RATE = 8_000
STEADY = 0.05 * np.random.default_rng(0).standard_normal(60 * RATE).astype(np.float32)
needs_fluidsynth = pytest.mark.skipif(fluidsynth.missing() is not None, reason=str(fluidsynth.missing()))


def missed(band: np.ndarray, after: float = 1.5) -> set[str]:
    """The gates that a pack misses which answers singing with STEADY and something else with `band`."""
    rows: dict[str, Row] = {
        SINGING: figures(STEADY, RATE),
        "other": figures(band, RATE),
        SILENCE: figures(np.zeros_like(STEADY), RATE) | {AFTER: Figure(after)},
    }
    return {gate.name for gate in gates(rows) if not gate.passed}


def test_each_fault_misses_its_own_gate() -> None:
    assert not missed(STEADY)
    assert missed(STEADY, after=2.1) == {AFTER}
    louder = STEADY.copy()
    louder[50 * RATE :] *= 2.2  # 6.8 dB
    assert missed(louder / 3) == {RISE}
    assert missed(2.2 * STEADY) == {LOUDEST}
    clipped = STEADY.copy()
    clipped[7] = -1.0
    assert missed(clipped) == {CLIPPED}
    late = STEADY.copy()
    late[: 30 * RATE] = 0  # a band that rests is no band that grows
    assert not missed(late)


def test_levels_are_those_of_each_ten_seconds() -> None:
    band = np.repeat(np.array([0.1, 0.5, 0.01], np.float32), 10 * RATE)
    found = {name: figure.mean for name, figure in figures(band, RATE).items()}
    assert found["0-10 s"] == pytest.approx(-20, abs=0.01)
    assert found["20-30 s"] == pytest.approx(-40, abs=0.01)
    assert found[LOUDEST] == found[PEAK] == pytest.approx(-6.02, abs=0.01)
    assert found[RISE] == pytest.approx(20 - 6.02, abs=0.01)


def test_sound_is_counted_from_the_voices_end_to_the_last_sample_that_is_not_zero() -> None:
    band = np.zeros(5 * RATE, np.float32)
    assert sound_after(band, RATE, 1.0) == 0
    band[3 * RATE] = 1e-9
    assert sound_after(band, RATE, 1.0) == pytest.approx(2.0, abs=1e-3)
    assert sound_after(band, RATE, 4.0) == 0


def test_recordings_are_played_over_and_over(tmp_path: Path) -> None:
    tone = np.sin(np.arange(2 * RATE) * 0.1).astype(np.float32) / 2
    soundfile.write(tmp_path / "tone.wav", np.stack([tone, tone], axis=1), RATE, subtype="FLOAT")
    (tmp_path / "tone.txt").write_text("a licence")
    found = voices(STEADY, RATE, 0, tmp_path)
    assert "tone.txt" not in found
    assert {len(voice) for voice in found.values()} == {len(STEADY)}
    np.testing.assert_allclose(found["tone.wav"][2 * RATE : 4 * RATE], tone, atol=1e-6)


def test_too_short_a_run_is_refused() -> None:
    stream = PassthroughStream(PassthroughConfig())
    with pytest.raises(ValueError, match="use at least 20"):
        evaluate_robustness(stream, NARROW, 10, 0, Setting(Fraction(1, 2), 0.5), None, lambda doing, share: None)


@needs_fluidsynth
def test_a_passthrough_answers_silence_at_once_and_clipping_with_clipping() -> None:
    stream, setting = PassthroughStream(PassthroughConfig()), Setting(Fraction(1, 2), 0.5)
    rows, judged = evaluate_robustness(stream, NARROW, 20, 0, setting, None, lambda doing, share: None)
    assert rows["white noise, -20 dBFS"]["0-10 s"].mean == pytest.approx(-20, abs=0.1)
    assert rows["sine, 440 Hz"][PEAK].mean == pytest.approx(-6.02, abs=0.01)
    assert rows[ENDING]["10-20 s"].mean == rows[SILENCE]["0-10 s"].mean == -120
    verdicts = {gate.name: gate.passed for gate in judged}
    assert verdicts[AFTER]
    assert not verdicts[CLIPPED]
