"""VGGish (Hershey et al. 2017) from a local file: 128 numbers of each 0.96 s, what papers take Frechet distances of.

As accompaniment papers use it: 16 kHz mono, no PCA, no activation behind the last layer.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backline.models.errors import PackError
from backline.packs.importers.checkpoint import read_checkpoint

SAMPLE_RATE = 16_000
WINDOW = 400  # samples: 25 ms
HOP = 160  # samples: 10 ms
FFT = 512
BANDS = 64
LOWEST_HZ, HIGHEST_HZ = 125.0, 7500.0
LOG_OFFSET = 0.01
PATCH = 96  # spectral frames
PATCH_SAMPLES = (PATCH - 1) * HOP + WINDOW  # that a patch sees; patches begin PATCH * HOP samples apart
DIMENSIONS = 128

_CHANNELS = (64, None, 128, None, 256, 256, None, 512, 512, None)  # of convolutions; None halves both axes
_BATCH = 16  # patches


class Vggish:
    """An `Embedding`."""

    name = "vggish"
    sample_rate = SAMPLE_RATE
    dimensions = DIMENSIONS

    def __init__(self, network: VggishNetwork) -> None:
        self.network = network.eval()

    def frames(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        """[sample] -> [frame, 128], one for each whole 0.96 s that the log-mel spectrogram has."""
        spectrogram = torch.from_numpy(log_mel(audio))
        patches = spectrogram[: len(spectrogram) // PATCH * PATCH].reshape(-1, PATCH, BANDS)
        with torch.inference_mode():
            found = [self.network(batch) for batch in patches.split(_BATCH)] if len(patches) else []
        return torch.cat(found).numpy() if found else np.zeros((0, DIMENSIONS), np.float32)


class VggishNetwork(nn.Module):
    """[patch, 96, 64] -> [patch, 128]. Parameters are named as the public PyTorch port, torchvggish, names them."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for width in _CHANNELS:
            if width is None:
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
        self.features = nn.Sequential(*layers)
        flat = channels * (PATCH // 16) * (BANDS // 16)
        self.embeddings = nn.Sequential(
            nn.Linear(flat, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, DIMENSIONS)
        )

    def forward(self, patches: Tensor) -> Tensor:
        maps = self.features(patches[:, None])  # [patch, channel, time, band]
        return self.embeddings(maps.permute(0, 2, 3, 1).flatten(1))  # the first layer counts channels fastest


def read_vggish(file: Path) -> Vggish:
    """The embedding of a local file, a state dict as torchvggish publishes it or the same as .safetensors.

    Tensors of the PCA (`pproc.…`) are left alone. No code in the file runs.

    Raises:
        PackError: it is no such file; every tensor that does not fit is named.
    """
    given = {name: tensor for name, tensor in read_checkpoint(file).items() if not name.startswith("pproc.")}
    with torch.device("meta"):
        network = VggishNetwork()
    wanted = network.state_dict()
    problems = [f"{name} {list(wanted[name].shape)} is missing" for name in wanted.keys() - given.keys()]
    problems += [f"{name} is not part of VGGish" for name in given.keys() - wanted.keys()]
    problems += [
        f"{name} is {list(given[name].shape)}, must be {list(wanted[name].shape)}"
        for name in wanted.keys() & given.keys()
        if given[name].shape != wanted[name].shape
    ]
    if problems:
        remedy = "give the VGGish weights of torchvggish, without its PCA"
        raise PackError([*sorted(problems), remedy], file.name)
    network.load_state_dict({name: tensor.float() for name, tensor in given.items()}, assign=True)
    return Vggish(network)


def log_mel(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """[sample] at 16 kHz -> [frame, 64]: ln(mel + 0.01) of magnitudes, whole windows only."""
    if len(audio) < WINDOW:
        return np.zeros((0, BANDS), np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(audio, WINDOW)[::HOP]
    magnitudes = np.abs(np.fft.rfft(windows * _window(), FFT)).astype(np.float32)
    return np.log(magnitudes @ _mel_bands() + np.float32(LOG_OFFSET))


def mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mel scale that VGGish takes, HTK's."""
    return 1127.0 * np.log1p(hertz / 700.0)


@cache
def _window() -> NDArray[np.float32]:
    """Periodic Hann."""
    return (0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)


@cache
def _mel_bands() -> NDArray[np.float32]:
    """[bin, band]: triangles that are straight in mel and reach from the centre below to the centre above."""
    lowest, highest = mel(np.array([LOWEST_HZ, HIGHEST_HZ]))
    edges = np.linspace(lowest, highest, BANDS + 2)
    bins = mel(np.linspace(0.0, SAMPLE_RATE / 2, FFT // 2 + 1))[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
