"""NISQA (Mittag et al. 2021): what listeners would say of a voice by itself, 1 to 5, and of four sides of it.

Its multidimensional model (section 2 of the paper), from the file `weights/nisqa.tar` of gabrielmittag/NISQA that the
user has: its licence is CC BY-NC-SA 4.0, so it never comes with Backline. Like DNSMOS it was made for speech.

The network stands here because PyPI's package pins torch, torchvision, librosa, pandas and more; tests compare both.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from backline.models.errors import PackError
from backline.nn.mel import slaney_filters
from backline.nn.weights import mismatches
from backline.packs.importers.checkpoint import read_torch, tensors_of

COLUMNS = ("NISQA", "NISQA noisiness", "NISQA discontinuity", "NISQA coloration", "NISQA loudness")  # as it says them
RATE = 48_000  # it takes any, and was trained on this one
WINDOW, HOP, FFT = 960, 480, 4096  # samples: 20 and 10 ms
BANDS, HIGHEST = 48, 20_000  # Hz
FAINTEST, DEEPEST = 1e-4, 80.0  # magnitude; dB below the loudest
SEGMENT, APART = 15, 4  # spectral frames that are seen at once, and from one to the next
SHORTEST = (SEGMENT - 1) * HOP  # samples of one segment; shorter sounds are repeated
LONGEST = 52 * RATE  # samples of the 1,300 segments that it hears at most; longer sounds in equal parts
WIDTH = 64
# What a checkpoint says of its spectrogram, which no shape tells.
SETTINGS: Mapping[str, Any] = {
    "ms_fmax": HIGHEST,
    "ms_n_fft": FFT,
    "ms_hop_length": 0.01,
    "ms_win_length": 0.02,
    "ms_seg_length": SEGMENT,
    "ms_seg_hop_length": APART,
    "td_sa_nhead": 1,
}
REMEDY = "give weights/nisqa.tar of gabrielmittag/NISQA, not nisqa_mos_only.tar or nisqa_tts.tar"


class Nisqa:
    """What it says of voices; the same object for all of them."""

    def __init__(self, network: NisqaNetwork) -> None:
        self.network = network.eval()

    def __call__(self, sound: NDArray[np.float32], sample_rate: int) -> dict[str, float]:
        """Of [sample], by COLUMNS."""
        heard = soxr.resample(sound, sample_rate, RATE) if sample_rate != RATE else sound
        if len(heard) < SHORTEST:
            heard = np.resize(heard, SHORTEST)
        parts = np.array_split(heard, -(-len(heard) // LONGEST))
        with torch.inference_mode():
            said = [self.network(segments(log_mel(torch.from_numpy(part)))) for part in parts]
        return dict(zip(COLUMNS, torch.stack(said).mean(dim=0).tolist(), strict=True))


class NisqaNetwork(nn.Module):
    """[segment, 48, 15] of one sound -> [5]. Parameters are named as published, without their ".model"."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn = SegmentNetwork()
        self.time_dependency = SegmentsNetwork()
        self.pool_layers = nn.ModuleList(AttentionPooling() for _ in COLUMNS)

    def forward(self, seen: Tensor) -> Tensor:
        features = self.time_dependency(self.cnn(seen))
        return torch.cat([pool(features) for pool in self.pool_layers])


class SegmentNetwork(nn.Module):
    """[segment, band, frame] -> [segment, 384]: six convolutions, which end in a single frame of six bands."""

    pools = (((24, 7),), ((12, 5),), (), ((6, 3),), (), ())  # [band, frame] behind each convolution

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 16, 32, WIDTH, WIDTH, WIDTH, WIDTH)
        for number, (before, width) in enumerate(pairwise(widths), 1):
            padding = (1, 0) if number == 6 else (1, 1)
            self.add_module(f"conv{number}", nn.Conv2d(before, width, 3, padding=padding))
            self.add_module(f"bn{number}", nn.BatchNorm2d(width))

    def forward(self, seen: Tensor) -> Tensor:
        maps = seen[:, None]
        for number, pools in enumerate(self.pools, 1):
            maps = self.get_submodule(f"bn{number}")(self.get_submodule(f"conv{number}")(maps)).relu()
            for pool in pools:
                maps = F.adaptive_max_pool2d(maps, pool)
        return maps.flatten(1)


class SegmentsNetwork(nn.Module):
    """[segment, 384] -> [segment, 64]: each hears all."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6 * WIDTH, WIDTH)
        self.norm1 = nn.LayerNorm(WIDTH)
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(WIDTH, 1, WIDTH, batch_first=True) for _ in range(2))

    def forward(self, features: Tensor) -> Tensor:
        heard = self.norm1(self.linear(features))[None]
        for layer in self.layers:
            heard = layer(heard)
        return heard[0]


class AttentionPooling(nn.Module):
    """[segment, 64] -> [1]: one opinion of what is worth hearing."""

    def __init__(self) -> None:
        super().__init__()
        self.linear1 = nn.Linear(WIDTH, 128)
        self.linear2 = nn.Linear(128, 1)
        self.linear3 = nn.Linear(WIDTH, 1)

    def forward(self, features: Tensor) -> Tensor:
        shares = self.linear2(self.linear1(features).relu()).softmax(dim=0)  # [segment, 1]
        return self.linear3((shares * features).sum(dim=0))


def read_nisqa(file: Path) -> Nisqa:
    """NISQA with the weights of a local file. No code in the file runs.

    Raises:
        PackError: it is no such file; everything that does not fit is named.
    """
    content = read_torch(file)
    given = {name.replace(".model.", "."): tensor for name, tensor in tensors_of(content, file).items()}
    told = content.get("args", {})
    problems = [
        f"{name} is {told[name]!r}, must be {value!r}"
        for name, value in SETTINGS.items()
        if isinstance(told, Mapping) and name in told and told[name] != value
    ]
    with torch.device("meta"):
        network = NisqaNetwork()
    problems += mismatches(network.state_dict(), given, "")
    if problems:
        raise PackError([*problems, REMEDY], file.name)
    network.load_state_dict(given, assign=True)
    return Nisqa(network)


def log_mel(sound: Tensor) -> Tensor:
    """[band, frame] of [sample] at RATE: dB, at most DEEPEST below the loudest, as librosa makes them."""
    shape = torch.hann_window(WINDOW)
    spectrum = torch.stft(sound, FFT, HOP, WINDOW, shape, center=True, pad_mode="reflect", return_complex=True)
    levels = 20 * (slaney_filters(BANDS, FFT, RATE, HIGHEST) @ spectrum.abs()).clamp(min=FAINTEST).log10()
    return torch.maximum(levels, levels.max() - DEEPEST)


def segments(spectrogram: Tensor) -> Tensor:
    """[segment, band, SEGMENT] of [band, frame]."""
    return spectrogram.unfold(1, SEGMENT, APART).transpose(0, 1)
