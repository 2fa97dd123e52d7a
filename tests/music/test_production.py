"""Productions: stems still sum to the mix, amplifiers drive, masters reach their loudness, and nothing clips."""

import sys
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from backline.music.composer import compose
from backline.music.kits import KitsMissing
from backline.music.production import CEILING, Production, amplified, mastered, produce
from backline.music.render import Gear, Stems
from backline.music.world import BAND, OPEN, PARTS

with_pedalboard = pytest.mark.skipif(find_spec("pedalboard") is None, reason="pedalboard is not installed")
RATE = 48_000
PIECE = compose(1, replace(OPEN, styles=("rock",), forms=("short",), tunes=0.0))
PLAN = Production(Gear(), drive=20.0, amplified_bass=8.0, room=5.0, master=-14.0, seed=3)


def stems(seconds: float = 2.0) -> Stems:
    """Noise that swells, in each part."""
    rng = np.random.default_rng(0)
    swell = np.linspace(0.01, 0.2, round(seconds * RATE), dtype=np.float32)
    parts = {part: swell * rng.standard_normal(len(swell), dtype=np.float32) for part in PARTS}
    return Stems(parts, np.sum(list(parts.values()), axis=0))


@with_pedalboard
@pytest.mark.parametrize("plan", [PLAN, replace(PLAN, room=None, master=None, amplified_bass=None)])
def test_stems_sum_to_the_band_and_the_mix_does_not_clip(plan: Production) -> None:
    vocal = stems().parts["pad"]
    sung, band = produce(PIECE, vocal, stems(), plan, RATE)
    np.testing.assert_allclose(np.sum(list(band.parts.values()), axis=0), band.accompaniment, atol=1e-6)
    assert tuple(band.parts) == PARTS
    assert np.abs(sung + band.accompaniment).max() <= CEILING + 1e-5
    again, same = produce(PIECE, vocal, stems(), plan, RATE)
    np.testing.assert_array_equal(sung, again)
    np.testing.assert_array_equal(band.accompaniment, same.accompaniment)


def test_a_master_comes_near_its_loudness_and_does_to_one_track_what_it_does_to_all() -> None:
    tracks = np.stack([*stems().parts.values()])
    made = mastered(tracks, RATE, -14.0, np.random.default_rng(1))
    assert 20 * np.log10(np.sqrt(np.mean(made.sum(axis=0) ** 2))) == pytest.approx(-14, abs=2.5)
    assert np.abs(made.sum(axis=0)).max() < 1.15  # `produce` scales what the limiter leaves
    with_silence = mastered(np.concatenate([tracks, np.zeros_like(tracks[:1])]), RATE, -14.0, np.random.default_rng(1))
    np.testing.assert_allclose(with_silence[:-1], made, atol=1e-6)
    assert not with_silence[-1].any()


@with_pedalboard
def test_an_amplifier_adds_overtones_within_its_cabinet_and_no_loudness() -> None:
    tone = 0.1 * np.sin(2 * np.pi * 200 * np.arange(RATE) / RATE).astype(np.float32)
    clean, driven = (np.abs(np.fft.rfft(amplified(tone, RATE, drive, (60.0, 4_000.0)))) for drive in (-20.0, 30.0))
    assert driven[600] / driven[200] > 10 * clean[600] / clean[200]
    assert driven[12_000:].max() < 0.01 * driven.max()
    loudness = np.sqrt(np.mean(amplified(tone, RATE, 30.0, (60.0, 4_000.0)) ** 2))
    assert loudness == pytest.approx(0.1 / np.sqrt(2), rel=0.02)


def test_without_pedalboard_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pedalboard", None)
    with pytest.raises(KitsMissing, match=r"pip install 'backline\[train\]'"):
        produce(compose(1, BAND), np.zeros(RATE, np.float32), stems(1.0), PLAN, RATE)
