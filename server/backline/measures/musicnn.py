"""musicnn (Pons and Serra 2019), a tagger of music, as an embedding: the 200 numbers behind its last hidden layer.

Its weights come with the PyPI package of that name (0.1.0, ISC licence), which itself does not install beside today's
TensorFlow: they are read from its wheel, or a folder of it, and the network stands here. Model MTT_musicnn, trained on
MagnaTagATune: 16 kHz, log-mel patches of 3 s.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from backline.models.errors import PackError
from backline.nn.mel import slaney_filters
from backline.packs.importers.tensorflow import read_bundle

SAMPLE_RATE = 16_000
FFT, HOP, BANDS = 512, 256, 96
PATCH = 187  # spectral frames: 3 s
APART = 62  # frames from one patch to the next: a second
DIMENSIONS = 200
SCALE = 1e4  # of mel powers, before 1 is added and the logarithm taken
EPSILON = 1e-3  # of batch normalisation
MODEL = "MTT_musicnn"
FILES = (f"{MODEL}/.index", f"{MODEL}/.data-00000-of-00001")
LARGEST = 1 << 26  # bytes of a file
REMEDY = "give the wheel of `pip download --no-deps musicnn==0.1.0`, or a folder that it was unpacked to"

_NORMS = ("", *(f"_{number}" for number in range(1, 11)))  # how TensorFlow numbers layers
_WIDTHS = (204, 204, 51, 51, 51)  # features of the front end: two that hear timbre, three that hear rhythm
_FRONT = sum(_WIDTHS)
_MIDDLE = 64
_KERNELS = [
    (7, 38, 1, 204),
    (7, 67, 1, 204),
    (128, 1, 1, 51),
    (64, 1, 1, 51),
    (32, 1, 1, 51),
]  # [time, band, 1, feature]
_KERNELS += [(7, _FRONT, 1, _MIDDLE), (7, _MIDDLE, 1, _MIDDLE), (7, _MIDDLE, 1, _MIDDLE)]
_POOLED = 2 * (_FRONT + 3 * _MIDDLE)
_NORMED = (1, *_WIDTHS, _MIDDLE, _MIDDLE, _MIDDLE, _POOLED, DIMENSIONS)


class Musicnn:
    """An `Embedding`."""

    name = "musicnn"
    sample_rate = SAMPLE_RATE
    dimensions = DIMENSIONS

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._weights = weights

    def frames(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        """[sample] -> [frame, 200], of 3 s each, a second apart."""
        spectrogram = log_mel(audio)
        starts = range(0, len(spectrogram) - PATCH + 1, APART)
        with torch.inference_mode():
            found = [self._embed(spectrogram[start : start + PATCH]) for start in starts]
        return torch.stack(found).numpy() if found else np.zeros((0, DIMENSIONS), np.float32)

    def _embed(self, patch: Tensor) -> Tensor:
        """[frame, band] -> [200]. Every layer is activated, then normalised."""
        heard = self._normed(patch[None, None], 0)  # [1, 1, frame, band]
        front = []
        for number in range(len(_WIDTHS)):
            kernel = self._weights[f"conv2d{_NORMS[number]}/kernel"].permute(3, 2, 0, 1)
            length = kernel.shape[2]
            before = (length - 1) // 2  # where TensorFlow's "same" pads less
            maps = F.conv2d(
                F.pad(heard, (0, 0, before, length - 1 - before)),
                kernel,
                self._weights[f"conv2d{_NORMS[number]}/bias"],
            )
            front.append(self._normed(maps.relu(), 1 + number).amax(dim=3))  # over bands: [1, feature, frame]
        layers = [torch.cat(front, dim=1)]
        for number in (5, 6, 7):
            kernel = self._weights[f"conv2d{_NORMS[number]}/kernel"][:, :, 0].permute(2, 1, 0)  # [out, feature, time]
            maps = F.conv1d(layers[-1], kernel, self._weights[f"conv2d{_NORMS[number]}/bias"], padding=3)
            maps = self._normed(maps.relu(), 1 + number)
            layers.append(maps if number == 5 else maps + layers[-1])
        features = torch.cat(layers, dim=1)[0]  # [feature, frame]
        pooled = torch.stack([features.amax(dim=1), features.mean(dim=1)], dim=1).reshape(1, -1)  # interleaved
        hidden = self._normed(pooled, 9) @ self._weights["dense/kernel"] + self._weights["dense/bias"]
        return self._normed(hidden.relu(), 10)[0]

    def _normed(self, maps: Tensor, number: int) -> Tensor:
        """Batch normalisation over dimension 1, by the statistics of training."""
        name = f"batch_normalization{_NORMS[number]}"
        mean, variance, weight, bias = (
            self._weights[f"{name}/{part}"] for part in ("moving_mean", "moving_variance", "gamma", "beta")
        )
        return F.batch_norm(maps, mean, variance, weight, bias, eps=EPSILON)


def read_musicnn(place: Path) -> Musicnn:
    """The embedding of a local wheel or folder. Nothing in it is executed.

    Raises:
        PackError: it is no musicnn; every tensor that does not fit is named.
    """
    try:
        index, data = _files(place)
        given = read_bundle(index, lambda shard: data)
    except (ValueError, KeyError, zipfile.BadZipFile, FileNotFoundError) as error:
        raise PackError([f"it is no musicnn ({error})", REMEDY], str(place)) from error
    wanted = dict(_wanted())
    problems = [f"{name} {list(shape)} is missing" for name, shape in wanted.items() if name not in given]
    problems += [
        f"{name} is {list(given[name].shape)}, must be {list(shape)}"
        for name, shape in wanted.items()
        if name in given and given[name].shape != shape
    ]
    if problems:
        raise PackError([*sorted(problems), REMEDY], place.name)
    return Musicnn({name: torch.from_numpy(given[name].copy()) for name in wanted})


def log_mel(audio: NDArray[np.float32]) -> Tensor:
    """[sample] at 16 kHz -> [frame, 96]: log10(1 + 10,000 mel powers), as librosa makes them."""
    if len(audio) <= FFT // 2:
        return torch.zeros(0, BANDS)
    shape = torch.hann_window(FFT)
    spectrum = torch.stft(
        torch.from_numpy(audio), FFT, HOP, window=shape, center=True, pad_mode="reflect", return_complex=True
    )
    return torch.log10(SCALE * (slaney_filters(BANDS, FFT, SAMPLE_RATE) @ spectrum.abs().square()) + 1).T


def _files(place: Path) -> tuple[bytes, bytes]:
    """Index and data."""
    if place.is_dir():
        root = next((root for root in (place, place / "musicnn") if (root / FILES[0]).is_file()), None)
        if root is None:
            raise FileNotFoundError(f"no {FILES[0]} in it")
        return (root / FILES[0]).read_bytes(), (root / FILES[1]).read_bytes()
    with zipfile.ZipFile(place) as wheel:
        infos = [wheel.getinfo(f"musicnn/{name}") for name in FILES]
        if any(info.file_size > LARGEST for info in infos):
            raise ValueError("its files are too large")
        return wheel.read(infos[0]), wheel.read(infos[1])


def _wanted() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the weights."""
    for number, kernel in enumerate(_KERNELS):
        yield f"conv2d{_NORMS[number]}/kernel", kernel
        yield f"conv2d{_NORMS[number]}/bias", kernel[-1:]
    for number, width in enumerate(_NORMED):
        for part in ("moving_mean", "moving_variance", "gamma", "beta"):
            yield f"batch_normalization{_NORMS[number]}/{part}", (width,)
    yield "dense/kernel", (_POOLED, DIMENSIONS)
    yield "dense/bias", (DIMENSIONS,)
