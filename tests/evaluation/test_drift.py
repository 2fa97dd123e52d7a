"""A long session: pieces stand one after the other with their beats, and what changes over its length is found."""

from fractions import Fraction

import numpy as np
import pytest

from backline.evaluation.drift import CLIPPED, DRIFT, EXCURSION, MEMORY, SILENT, chain, evaluate_drift, gates, levels
from backline.evaluation.live import Setting
from backline.measures.report import Figure
from backline.models.passthrough import PassthroughConfig, PassthroughStream
from backline.music import fluidsynth
from backline.music.world import NARROW

RATE = 8_000
needs_fluidsynth = pytest.mark.skipif(fluidsynth.missing() is not None, reason=str(fluidsynth.missing()))


def verdicts(found: np.ndarray, true: np.ndarray, memory: float = 0.0) -> dict[str, bool]:
    rows = {"generated": levels(found, RATE) | {MEMORY: Figure(memory)}, "reference": levels(true, RATE)}
    return {gate.name: gate.passed for gate in gates(rows)}


def test_each_fault_misses_its_own_gate() -> None:
    steady = 0.1 * np.random.default_rng(0).standard_normal(120 * RATE).astype(np.float32)
    ramp = np.linspace(0, 1, len(steady), dtype=np.float32)
    assert all(verdicts(steady, steady).values())
    assert verdicts(steady, steady, memory=50.0)[MEMORY] is False
    growing = steady * 10 ** (ramp * 2 / 20)  # 2 dB in 2 minutes: 10 dB in 10
    assert verdicts(growing, steady) == {DRIFT: False, EXCURSION: True, CLIPPED: True, SILENT: True, MEMORY: True}
    clipped = steady.copy()
    clipped[500] = 1.0
    assert verdicts(clipped, steady) == {DRIFT: True, EXCURSION: True, CLIPPED: False, SILENT: True, MEMORY: True}
    gap = steady.copy()
    gap[len(gap) // 2 :][: 12 * RATE] = 0
    assert verdicts(gap, steady)[SILENT] is False
    assert verdicts(gap, gap)[SILENT] is True  # where the true band rests, so may the pack


@needs_fluidsynth
def test_a_chain_is_as_long_as_asked_and_tells_every_beat_where_its_piece_begins() -> None:
    take, band = chain(NARROW, 1.0, 3, RATE, lambda doing, share: None)
    assert take.voice.shape == band.shape == (60 * RATE,)
    assert take.seed == 3
    begins = [transport.at_seconds for transport in take.transports]
    assert begins[0] == 0
    lengths = [32 * 60 / transport.tempo for transport in take.transports]  # eight bars of four
    np.testing.assert_allclose(begins[1:], np.cumsum(lengths)[:-1], atol=1e-3)
    assert np.cumsum(lengths)[-1] >= 60 > np.cumsum(lengths)[-2]


@needs_fluidsynth
def test_a_passthrough_holds_out() -> None:
    rows, judged = evaluate_drift(
        PassthroughStream(PassthroughConfig()), NARROW, 1.0, 0, Setting(Fraction(1, 2), 0.5), lambda doing, share: None
    )
    assert {gate.name: gate.passed for gate in judged}[CLIPPED]
    assert abs(rows["generated"][DRIFT].mean) < 20
    assert set(rows) == {"generated", "reference"}


def test_less_than_a_minute_is_too_short() -> None:
    with pytest.raises(ValueError, match="use at least 1"):
        evaluate_drift(
            PassthroughStream(PassthroughConfig()), NARROW, 0.5, 0, Setting(Fraction(1), 1.0), lambda doing, share: None
        )
