"""VGGish: its spectrogram against a slow one, its shapes, and what it takes for weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.random import default_rng
from numpy.typing import NDArray
from safetensors.torch import save_file

from backline.measures.vggish import (
    DIMENSIONS,
    PATCH,
    PATCH_SAMPLES,
    Vggish,
    VggishNetwork,
    log_mel,
    mel,
    read_vggish,
)
from backline.models.errors import PackError

# What torchvggish's published state dict holds, without its PCA.
LAYOUT = {
    "features.0": (64, 1, 3, 3),
    "features.3": (128, 64, 3, 3),
    "features.6": (256, 128, 3, 3),
    "features.8": (256, 256, 3, 3),
    "features.11": (512, 256, 3, 3),
    "features.13": (512, 512, 3, 3),
    "embeddings.0": (4096, 12288),
    "embeddings.2": (4096, 4096),
    "embeddings.4": (128, 4096),
}


def noise(samples: int, seed: int = 0) -> NDArray[np.float32]:
    return (0.1 * default_rng(seed).standard_normal(samples)).astype(np.float32)


def sine(hertz: float, samples: int = 4000) -> NDArray[np.float32]:
    return np.sin(2 * np.pi * hertz * np.arange(samples) / 16_000).astype(np.float32)


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for layer, shape in LAYOUT.items():
        spread = (2.0 / np.prod(shape[1:])) ** 0.5
        tensors[f"{layer}.weight"] = torch.randn(shape, generator=generator) * spread
        tensors[f"{layer}.bias"] = torch.randn(shape[:1], generator=generator) * 0.1
    return tensors


@pytest.fixture(scope="module")
def vggish(weights: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Vggish:
    file = tmp_path_factory.mktemp("vggish") / "vggish.pth"
    torch.save(weights, file)
    found = read_vggish(file)
    file.unlink()  # 300 MB
    return found


# ---- log-mel ----


def test_the_spectrogram_is_that_of_its_definition() -> None:
    """Term by term: a periodic Hann window, the discrete Fourier transform's sum, triangles in mel, a logarithm."""
    audio = noise(400 + 160 * 2)
    found = log_mel(audio)
    assert found.shape == (3, 64)
    time = np.arange(400)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * time / 400)
    edges = np.linspace(mel(np.array(125.0)), mel(np.array(7500.0)), 66)
    for frame in range(3):
        windowed = audio[160 * frame : 160 * frame + 400] * hann
        magnitudes = [abs(np.sum(windowed * np.exp(-2j * np.pi * k * time / 512))) for k in range(257)]
        for band in range(64):
            low, centre, high = edges[band : band + 3]
            total = 0.0
            for k in range(257):
                place = float(mel(np.array(k * 16_000 / 512)))
                if low < place <= centre:
                    total += magnitudes[k] * (place - low) / (centre - low)
                elif centre < place < high:
                    total += magnitudes[k] * (high - place) / (high - centre)
            assert found[frame, band] == pytest.approx(np.log(total + 0.01), abs=1e-4)


def test_mel_is_the_htk_scale() -> None:
    """2595 log10(1 + f / 700), which puts 1 kHz at 1000 mel."""
    assert float(mel(np.array(1000.0))) == pytest.approx(1000.0, abs=0.1)
    assert float(mel(np.array(7500.0))) == pytest.approx(2595.0 * np.log10(1 + 7500 / 700), rel=1e-4)


def test_silence_is_the_logarithm_of_the_offset() -> None:
    np.testing.assert_allclose(log_mel(np.zeros(4000, np.float32)), np.log(0.01), rtol=1e-6)


@pytest.mark.parametrize("band", [5, 20, 40, 63])
def test_a_sine_is_loudest_in_the_band_it_lies_in(band: int) -> None:
    edges = np.linspace(mel(np.array(125.0)), mel(np.array(7500.0)), 66)
    hertz = 700.0 * np.expm1(edges[band + 1] / 1127.0)
    found = log_mel(sine(hertz)).mean(axis=0)
    assert abs(int(found.argmax()) - band) <= (2 if band < 10 else 0)  # low bands are narrower than a bin of the FFT


def test_below_and_above_the_bands_nothing_is_heard() -> None:
    for hertz in (40.0, 7900.0):
        assert log_mel(sine(hertz))[:, 10:55].max() < log_mel(sine(1000.0)).max() - 5.0


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (399, 0), (400, 1), (559, 1), (560, 2), (16_000, 98)])
def test_only_whole_windows_count(samples: int, frames: int) -> None:
    assert log_mel(noise(samples)).shape == (frames, 64)


# ---- the network ----


def test_the_network_has_the_published_layout() -> None:
    with torch.device("meta"):
        network = VggishNetwork()
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    expected = {f"{layer}.weight": shape for layer, shape in LAYOUT.items()}
    expected |= {f"{layer}.bias": shape[:1] for layer, shape in LAYOUT.items()}
    assert shapes == expected


@pytest.mark.parametrize(
    ("samples", "frames"),
    [(0, 0), (PATCH_SAMPLES - 1, 0), (PATCH_SAMPLES, 1), (PATCH_SAMPLES + 95 * 160, 1), (PATCH_SAMPLES + 96 * 160, 2)],
)
def test_a_frame_is_96_hundredths_of_a_second(vggish: Vggish, samples: int, frames: int) -> None:
    found = vggish.frames(noise(samples))
    assert found.shape == (frames, DIMENSIONS)
    assert found.dtype == np.float32


def test_frames_are_those_of_the_layers_one_by_one(vggish: Vggish, weights: dict[str, torch.Tensor]) -> None:
    """By torch's functions, time and band flattened before channels, and no activation at the end."""
    audio = noise(PATCH_SAMPLES, seed=3)
    maps = torch.from_numpy(log_mel(audio))[None, None]
    assert maps.shape == (1, 1, PATCH, 64)
    for layer, pooled in (("0", True), ("3", True), ("6", False), ("8", True), ("11", False), ("13", True)):
        weight, bias = weights[f"features.{layer}.weight"], weights[f"features.{layer}.bias"]
        maps = torch.relu(torch.nn.functional.conv2d(maps, weight, bias, padding=1))
        maps = torch.nn.functional.max_pool2d(maps, 2) if pooled else maps
    flat = torch.stack([maps[0, :, time, band] for time in range(6) for band in range(4)]).flatten()
    for layer in ("0", "2", "4"):
        flat = weights[f"embeddings.{layer}.weight"] @ flat + weights[f"embeddings.{layer}.bias"]
        flat = torch.relu(flat) if layer != "4" else flat
    found = vggish.frames(audio)
    np.testing.assert_allclose(found[0], flat.numpy(), rtol=1e-3, atol=1e-4)
    assert (found < 0).any(), "the last layer has no activation"


def test_equal_audio_gives_equal_frames_wherever_it_stands(vggish: Vggish) -> None:
    audio = noise(3 * 15_360 + 240)
    found = vggish.frames(audio)
    np.testing.assert_array_equal(found, vggish.frames(audio))
    np.testing.assert_allclose(vggish.frames(audio[15_360:]), found[1:], rtol=1e-4, atol=1e-5)


# ---- weights ----


def test_safetensors_and_a_pca_beside_the_weights_are_fine(
    weights: dict[str, torch.Tensor], vggish: Vggish, tmp_path: Path
) -> None:
    file = tmp_path / "vggish.safetensors"
    save_file(weights | {"pproc.pca_means": torch.zeros(128, 1)}, file)
    audio = noise(PATCH_SAMPLES)
    np.testing.assert_array_equal(read_vggish(file).frames(audio), vggish.frames(audio))


def test_every_tensor_that_does_not_fit_is_named(tmp_path: Path) -> None:
    file = tmp_path / "wrong.safetensors"
    save_file({"features.0.weight": torch.zeros(64, 3, 3, 3), "head.weight": torch.zeros(2)}, file)
    with pytest.raises(PackError) as raised:
        read_vggish(file)
    message = str(raised.value)
    assert "features.0.weight is [64, 3, 3, 3], must be [64, 1, 3, 3]" in message
    assert "embeddings.4.bias [128] is missing" in message
    assert "head.weight is not part of VGGish" in message
    assert "torchvggish" in message


def test_what_is_no_weight_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="no such file"):
        read_vggish(tmp_path / "missing.pth")
    text = tmp_path / "notes.pth"
    text.write_text("no weights here")
    with pytest.raises(PackError, match=r"notes\.pth"):
        read_vggish(text)


class Payload:
    """What a pickle must not be allowed to build."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.trace,)


def test_code_in_a_weight_file_does_not_run(tmp_path: Path) -> None:
    trace, file = tmp_path / "ran", tmp_path / "evil.pth"
    torch.save({"features.0.weight": Payload(trace)}, file)
    with pytest.raises(PackError, match="may run code"):
        read_vggish(file)
    assert not trace.exists()
