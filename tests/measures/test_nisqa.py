"""NISQA: its spectrogram against a slow one, its network against the published code, and what it takes for weights."""

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from backline.measures.nisqa import COLUMNS, LONGEST, SHORTEST, NisqaNetwork, log_mel, read_nisqa, segments
from backline.models.errors import PackError
from backline.nn.mel import slaney_filters
from tests.support.nisqa_checkpoint import SETTINGS, random_tensors, write_nisqa


def noise(samples: int, seed: int = 0) -> NDArray[np.float32]:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


# ---- hearing ----


def test_the_spectrogram_is_that_of_its_definition() -> None:
    """Frame by frame: 4096 samples around its hop, mirrored at the ends, of which the middle 960 are weighted."""
    sound = noise(7000).astype(np.float64)
    found = log_mel(torch.from_numpy(sound.astype(np.float32)))
    assert found.shape == (48, 15)
    mirrored = np.concatenate([sound[2048:0:-1], sound, sound[-2:-2050:-1]])
    shape = np.zeros(4096)
    shape[1568:2528] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(960) / 960)
    filters = slaney_filters(48, 4096, 48_000, 20_000).double().numpy()
    for frame in (0, 7, 14):
        magnitudes = np.abs(np.fft.rfft(mirrored[480 * frame : 480 * frame + 4096] * shape))
        expected = 20 * np.log10(np.maximum(filters @ magnitudes, 1e-4))
        np.testing.assert_allclose(found[:, frame], expected, atol=1e-3)


def test_nothing_lies_more_than_80_db_below_the_loudest() -> None:
    tone = 0.9 * torch.sin(2 * torch.pi * 1000 * torch.arange(48_000) / 48_000)
    tone[24_000:] = 0
    heard = log_mel(tone)
    assert heard.max() > -20
    assert heard.min() == heard.max() - 80
    assert torch.equal(log_mel(torch.zeros(48_000)), torch.full((48, 101), -80.0))


def test_a_segment_is_15_frames_and_the_next_begins_4_later() -> None:
    spectrogram = torch.arange(2 * 30).reshape(2, 30)
    found = segments(spectrogram)
    assert found.shape == (4, 2, 15)
    assert torch.equal(found[3], spectrogram[:, 12:27])


# ---- saying ----


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_nisqa(tmp_path / "nisqa.tar")


def test_it_says_five_things_of_a_sound_of_any_length_and_rate(file: Path) -> None:
    nisqa = read_nisqa(file)
    assert tuple(nisqa(noise(48_000), 48_000)) == COLUMNS
    short = noise(1000)
    assert nisqa(short, 48_000) == nisqa(np.resize(short, SHORTEST), 48_000)
    low = np.sin(2 * np.pi * 440 * np.arange(32_000) / 16_000).astype(np.float32)
    high = np.sin(2 * np.pi * 440 * np.arange(96_000) / 48_000).astype(np.float32)
    assert nisqa(low, 16_000) == pytest.approx(nisqa(high, 48_000), abs=0.05)


def test_of_a_sound_longer_than_it_hears_it_says_the_mean_of_equal_parts(file: Path) -> None:
    nisqa = read_nisqa(file)
    sound = np.concatenate([noise(LONGEST // 2), 0.1 * noise(LONGEST // 2 + 2, 1)])
    halves = [nisqa(half, 48_000) for half in np.array_split(sound, 2)]
    whole = nisqa(sound, 48_000)
    for column in COLUMNS:
        assert whole[column] == pytest.approx((halves[0][column] + halves[1][column]) / 2, abs=1e-5)
    assert halves[0] != halves[1]


# ---- weights ----


def test_the_network_has_the_published_layout() -> None:
    with torch.device("meta"):
        network = NisqaNetwork()
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert shapes == {name.replace(".model.", "."): tuple(tensor.shape) for name, tensor in random_tensors().items()}


def test_everything_that_does_not_fit_is_named(tmp_path: Path) -> None:
    tensors = random_tensors()
    tensors["cnn.model.conv1.weight"] = torch.zeros(16, 2, 3, 3)
    tensors["pool.model.linear1.weight"] = tensors.pop("pool_layers.4.model.linear1.weight")
    torch.save({"args": {**SETTINGS, "ms_fmax": 16_000}, "model_state_dict": tensors}, tmp_path / "other.tar")
    with pytest.raises(PackError) as raised:
        read_nisqa(tmp_path / "other.tar")
    message = str(raised.value)
    assert "ms_fmax is 16000, must be 20000" in message
    assert "cnn.conv1.weight is [16, 2, 3, 3], must be [16, 1, 3, 3]" in message
    assert "pool_layers.4.linear1.weight [128, 64] is missing" in message
    assert "pool.linear1.weight is not part of this network" in message
    assert "give weights/nisqa.tar" in message
    with pytest.raises(PackError, match="no such file"):
        read_nisqa(tmp_path / "missing.tar")


# ---- the published code ----


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """NISQA_lib of PyPI's wheel, without what it reads files and draws with: its networks use nothing of it."""
    folder = os.environ.get("BACKLINE_WEIGHTS")
    wheels = sorted(Path(folder).glob("nisqa-*.whl")) if folder else []
    if not wheels:
        pytest.skip("needs the wheel of nisqa: `make weights`")
    for name in ("librosa", "pandas", "matplotlib", "matplotlib.pyplot", "tqdm"):
        monkeypatch.setitem(sys.modules, name, MagicMock())
    monkeypatch.syspath_prepend(wheels[0])
    yield importlib.import_module("nisqa.NISQA_lib")
    for name in ("nisqa", "nisqa.NISQA_lib"):
        sys.modules.pop(name, None)


@pytest.mark.weights
def test_the_network_says_what_the_published_one_says(published: ModuleType, file: Path) -> None:
    theirs = published.NISQA_DIM(cnn_kernel_size=(3, 3), cnn_pool_1=[24, 7], cnn_pool_2=[12, 5], cnn_pool_3=[6, 3])
    theirs.load_state_dict(random_tensors())
    spectrogram = log_mel(torch.from_numpy(noise(48_000)))
    seen, count = published.segment_specs("", spectrogram, 15, 4, 1300)
    with torch.inference_mode():
        expected = theirs.eval()(seen[None], torch.tensor([int(count)]))[0]
        found = read_nisqa(file).network(segments(spectrogram))
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
