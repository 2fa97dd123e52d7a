"""The evaluation of voices: what is measured of which kind, and what its gates say."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from backline.codecs.hcodec.network import HCodec
from backline.evaluation import voices
from backline.evaluation.voices import BAND_DBFS, MASK, TRUTH, VOICE_DBFS, cases, evaluate_voices, gates
from backline.measures.report import Figure
from backline.music import fluidsynth
from backline.music.seeds import TEST_SEED
from backline.music.stems import SAMPLE_RATE
from tests.training.test_hcodec import TOY_CODEC

needs_fluidsynth = pytest.mark.skipif(fluidsynth.missing() is not None, reason=str(fluidsynth.missing()))


def level(sound: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(sound, dtype=np.float64))))


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """A man and a band, 44.1 kHz; nobody else."""
    draw = np.random.default_rng(0)
    soundfile.write(tmp_path / "singing_man.flac", 0.3 * np.clip(draw.standard_normal((44_100 * 3, 2)), -3, 3), 44_100)
    soundfile.write(tmp_path / "rock_rest.ogg", 0.1 * draw.standard_normal(44_100 * 12), 44_100)
    (tmp_path / "singing_woman.txt").write_text("Licence")
    return tmp_path


@pytest.fixture(autouse=True)
def hummed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody needs to be installed to sing."""
    draw = np.random.default_rng(1)
    sound = (0.1 * draw.standard_normal(20 * SAMPLE_RATE)).astype(np.float32)
    monkeypatch.setattr(voices, "sung", lambda language, piece: sound)


@needs_fluidsynth
def test_every_kind_stands_over_every_band_at_one_level(recordings: Path) -> None:
    found = list(cases(TEST_SEED, recordings))
    kinds = ["composed", "sung, cs", "sung, en", "sung, it", "sung, ml", "man"]
    assert [case.kind for case in found] == [*kinds, *(f"{kind} over a real band" for kind in kinds)]
    for case in found:
        assert len(case.voice) == len(case.band)
        assert level(case.voice) == pytest.approx(VOICE_DBFS, abs=0.01)
        assert level(case.band) == pytest.approx(BAND_DBFS, abs=0.01)
    assert len(found[5].voice) == 3 * SAMPLE_RATE
    assert len(list(cases(TEST_SEED, None))) == 5


@needs_fluidsynth
def test_gains_of_codec_and_separator_are_over_the_mixture(recordings: Path) -> None:
    torch.manual_seed(0)
    codec = HCodec(TOY_CODEC).eval()
    rows, found = evaluate_voices(codec, lambda mixture, number: mixture, 1, recordings, lambda *_: None)
    assert rows["man"]["separated"].mean == 0
    assert rows["man"][TRUTH].mean > rows["man"][MASK].mean
    assert len(found) == len(rows) + 1
    rows, _ = evaluate_voices(codec, None, 1, None, lambda *_: None)
    assert "separated" not in rows["composed"]


def test_gates_ask_for_two_thirds_of_what_masks_can_do() -> None:
    def row(mask: float, truth: float) -> dict[str, Figure]:
        return {MASK: Figure(mask), TRUTH: Figure(truth)}

    found = {
        gate.name: gate.passed for gate in gates({"composed": row(14.5, 17), "man": row(5, 9), "child": row(7, 9)})
    }
    assert list(found.values()) == [True, True, False, True]
