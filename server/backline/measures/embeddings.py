"""What a sound is to the Frechet audio distance: one vector for each 0.96 s, of our own features or of VGGish."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from backline.codecs.harmony import HOP, SAMPLE_RATE, HarmonyFeatures
from backline.kernels.chroma import BASS, FEATURES, LEVEL, ONSETS, TONALITY, TREBLE
from backline.measures.spectra import stft
from backline.nn.mel import mel_filters

Sound = NDArray[np.float32]  # [sample], mono

WINDOW = 48  # feature frames of 20 ms that one vector pools: 0.96 s, as VGGish
BANDS = 16
FFT = 1024
SPECTRAL_OFFSET = 1e-3  # -54 dB against a full-scale sine: below, bands are equally silent


class Embedding(Protocol):
    """Audio to vectors whose distances mean something."""

    name: str
    sample_rate: int  # that `frames` takes
    dimensions: int

    def frames(self, audio: Sound) -> NDArray[np.float32]:
        """[sample] -> [frame, dim], one for each whole window; too short a sound has none."""
        ...


class MusicEmbedding:
    """The default: our semantic encoder's features and a coarse spectrum, pooled to their means and deviations.

    It needs no weights and does not change from pack to pack. Where a set of NARROW accompaniments is measured against
    another (24 songs, 470 frames each; the distance of two untouched sets is 1):

        change               semantic features   codec latents   this
        a semitone higher                 81               8     57
        WIDE songs                        96              19     54
        low-pass at 2 kHz                 16              19     89
        low-pass at 8 kHz                1.1               5     10
        level -3 dB                       35               8      6
        decoded by that codec             19              57     11

    Latents of a codec hear that codec's own faults best and harmony least, and are another ruler with every pack. The
    semantic features alone hear no timbre, and level above all; hence the spectrum, and GAINS.
    """

    name = "music"
    sample_rate = SAMPLE_RATE
    dimensions = 2 * (FEATURES + BANDS)

    def __init__(self) -> None:
        self._features = HarmonyFeatures()

    def frames(self, audio: Sound) -> NDArray[np.float32]:
        windows = len(audio) // (WINDOW * HOP)
        if not windows:
            return np.zeros((0, self.dimensions), np.float32)
        signal = torch.from_numpy(audio)[None]
        music = self._features(signal[:, None])[0]
        magnitudes = mel_filters(BANDS, FFT, SAMPLE_RATE) @ stft(signal, FFT, HOP)[0].abs()
        spectrum = torch.log(magnitudes + SPECTRAL_OFFSET).T
        joined = torch.cat([part[: windows * WINDOW] for part in (music, spectrum)], dim=1).numpy() * GAINS
        pooled = joined.reshape(windows, WINDOW, -1)
        return np.concatenate([pooled.mean(axis=1), pooled.std(axis=1)], axis=1)


def _gains() -> NDArray[np.float32]:
    """[feature, then band], chosen so that chroma varies most in music, and no other group outweighs it."""
    gains = np.zeros(FEATURES + BANDS, np.float32)
    gains[BASS] = gains[TREBLE] = 1.0  # 0 to 1 each
    gains[ONSETS] = 1.0  # nats, most frames 0
    gains[TONALITY] = 0.5  # 0 to 2
    gains[LEVEL] = 0.25  # nats
    gains[FEATURES:] = 0.2  # nats
    return gains


GAINS = _gains()


def embedded(embedding: Embedding, sounds: Iterable[Sound], sample_rate: int) -> list[NDArray[np.float32]]:
    """Frames [frame, dim] of each of mono sounds [sample] of any one rate.

    Raises:
        ValueError: a sound is not mono.
    """
    found = []
    for sound in sounds:
        if sound.ndim != 1:
            raise ValueError(f"a sound is {list(sound.shape)}: mix it down to [sample]")
        found.append(embedding.frames(soxr.resample(sound.astype(np.float32), sample_rate, embedding.sample_rate)))
    return found
