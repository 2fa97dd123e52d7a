"""A short-time Fourier transform that gives back exactly what it is given, in float32."""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from backline.models.stream import Audio

Spectra = NDArray[np.complex64]  # [signal, frame, bin]


class Transform:
    """Root-Hann windows of `size` samples every `step`, a whole number of at least two to a window.

    Frame 0 begins size - step samples before the signal, so every sample lies in equally many frames.
    """

    def __init__(self, size: int, step: int) -> None:
        if size % step or size < 2 * step:
            raise ValueError(f"size and step are {size} and {step}: use a size of two or more whole steps")
        self.size, self.step = size, step
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
        self._window = np.sqrt(hann * (2 * step / size)).astype(np.float32)  # their squares sum to 1

    def analyse(self, audio: Audio) -> Spectra:
        """Spectra of [signal, sample]."""
        ahead = self.size - self.step
        behind = ahead + -audio.shape[1] % self.step
        padded = np.pad(audio.astype(np.float32, copy=False), ((0, 0), (ahead, behind)))
        frames = sliding_window_view(padded, self.size, axis=1)[:, :: self.step]
        return np.asarray(scipy.fft.rfft(frames * self._window, axis=2), np.complex64)

    def synthesise(self, spectra: Spectra, length: int) -> Audio:
        """[signal, sample], `length` samples of each: the inverse of `analyse`."""
        frames = scipy.fft.irfft(spectra, self.size, axis=2) * self._window
        signals, count, _ = frames.shape
        steps = self.size // self.step
        total = np.zeros((signals, count + steps - 1, self.step), np.float32)
        for number, part in enumerate(np.split(frames, steps, axis=2)):
            total[:, number : number + count] += part
        ahead = self.size - self.step
        return total.reshape(signals, -1)[:, ahead : ahead + length]
