"""Streaming resampler: polyphase windowed sinc between any two rates, with an exactly known delay.

The filter is a Kaiser-windowed sinc of 128 taps at the lower of the two rates. Its stop band begins at the lower rate's
Nyquist frequency, so aliases and images stay below -110 dB; its pass band ends at 0.438 of the lower rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from backline.kernels.compiled import compiled

Audio = NDArray[np.float32]  # [channel, sample]
Samples = NDArray[np.float64]
PhaseResponse = Literal["linear", "minimum"]

LENGTH = 128  # of the filter, in samples of the lower rate
ATTENUATION_DB = 119.0
MAXIMUM_PHASES = 4096  # ratios with more phases interpolate between the rows of a table of this many
MINIMUM_PHASE_OVERSAMPLING = 64  # a cubic spline between so dense points errs by less than -130 dB


class Resampler:
    """`rate_in` to `rate_out`, block by block; the output does not depend on how the input is cut into blocks.

    Output sample k (from 0) is the input at time k / rate_out - latency_seconds, where the latency is exactly
    `delay_out` output samples. Input sample n lets all outputs with k / rate_out < (n + 1) / rate_in out.

    Args:
        phase: "linear" costs 64 samples of the lower rate; "minimum" costs a few, but bends phases near the band's end.
            Its delay is the group delay at low frequencies, rounded up to a whole output sample.
    """

    def __init__(self, rate_in: int, rate_out: int, channels: int, phase: PhaseResponse = "linear") -> None:
        if not (rate_in > 0 and rate_out > 0):
            raise ValueError(f"cannot resample from {rate_in} to {rate_out} Hz: use numbers above zero")
        self.rate_in, self.rate_out, self.channels = rate_in, rate_out, channels
        ratio = Fraction(rate_out, rate_in)
        self._up, self._down = ratio.numerator, ratio.denominator
        if rate_in == rate_out:
            self.delay_out, self._table = 0, np.ones((1, 1), np.float32)
        else:
            self.delay_out, self._table = _phase_table(self._up, self._down, phase)
        self._taps = self._table.shape[1]
        self._window = np.zeros((channels, 2 * self._taps), np.float32)  # every sample twice: contiguous at any offset
        self._place = np.zeros(2, np.int64)  # write index in the window; next output's phase, in units of 1 / up
        self._received = 0
        self._produced = 0

    @property
    def latency_seconds(self) -> Fraction:
        """By how much output lags behind input."""
        return Fraction(self.delay_out, self.rate_out)

    @property
    def delay_in(self) -> float:
        """The same in input samples."""
        return float(self.latency_seconds * self.rate_in)

    def input_needed(self, output_count: int) -> int:
        """Further input samples after which `output_count` further output samples have come out."""
        newest = (self._produced + output_count - 1) * self._down // self._up
        return max(0, newest + 1 - self._received) if output_count > 0 else 0

    def output_count(self, input_count: int) -> int:
        """Output samples that the next `input_count` input samples let out."""
        return -(-(self._received + input_count) * self._up // self._down) - self._produced

    def process(self, audio: Audio) -> Audio:
        """The output [channel, sample] that the next input block [channel, sample] lets out."""
        if audio.ndim != 2 or audio.shape[0] != self.channels:
            raise ValueError(f"audio is {audio.shape}: give [channel, sample] with {self.channels} channels")
        count = audio.shape[1]
        out = np.empty((self.channels, self.output_count(count)), np.float32)
        self._received += count
        self._produced += out.shape[1]
        if self.rate_in == self.rate_out:
            out[:] = audio
        else:
            audio = np.require(audio, np.float32, ["C", "W"])  # one array type, so that one compilation serves all
            _resample(audio, out, self._window, self._place, self._table, self._up, self._down)
        return out

    def reset(self) -> None:
        """Back to silence and to output sample 0."""
        self._window[:] = 0.0
        self._place[:] = 0
        self._received = self._produced = 0


@compiled(fastmath={"reassoc", "contract", "nsz"})
def _resample(
    audio: Audio, out: Audio, window: Audio, place: NDArray[np.int64], table: Audio, up: int, down: int
) -> None:
    taps = table.shape[1]
    interpolated = table.shape[0] != up
    write, phase = place[0], place[1]
    produced = 0
    for n in range(audio.shape[1]):
        for channel in range(audio.shape[0]):
            window[channel, write] = audio[channel, n]
            window[channel, write + taps] = audio[channel, n]
        oldest = write + 1
        write = oldest if oldest < taps else 0
        while phase < up:
            if interpolated:
                place_in_table = phase / up * (table.shape[0] - 1)
                row = int(place_in_table)
                share = np.float32(place_in_table - row)
            else:
                row, share = phase, np.float32(0.0)
            for channel in range(audio.shape[0]):
                seen = window[channel, oldest : oldest + taps]
                total = _dot(seen, table[row])
                if interpolated:
                    total += share * (_dot(seen, table[row + 1]) - total)
                out[channel, produced] = total
            produced += 1
            phase += down
        phase -= up
    place[0], place[1] = write, phase


@compiled(fastmath={"reassoc", "contract", "nsz"}, inline="always")
def _dot(a: Audio, b: Audio) -> np.float32:
    total = np.float32(0.0)
    for i in range(a.shape[0]):
        total += a[i] * b[i]
    return total


@lru_cache(maxsize=32)
def _phase_table(up: int, down: int, phase: PhaseResponse) -> tuple[int, Audio]:
    """Delay in output samples, and the weights [phase, tap] of the newest `tap` inputs, the oldest first.

    Row p holds the filter at p / up input samples (with more than MAXIMUM_PHASES phases: at p / MAXIMUM_PHASES).
    """
    stretch = max(1.0, down / up)  # input samples in one sample of the lower rate
    kernel, delay = _linear_kernel() if phase == "linear" else _minimum_phase_kernel()
    # The delay is rounded up to a whole number of output samples: then positions need no fractions.
    delay_out = math.ceil(round(delay * stretch * up / down, 9))
    delay_in = delay_out * down / up
    taps = math.ceil(delay_in + (LENGTH - delay) * stretch) + 1
    rows = up if up <= MAXIMUM_PHASES else MAXIMUM_PHASES + 1
    fraction = np.arange(rows) / min(up, MAXIMUM_PHASES)
    age = fraction[:, None] + np.arange(taps)[None, ::-1]  # input samples from a tap's input to the output
    time = (age - delay_in) / stretch + delay
    table = np.where((time >= 0) & (time <= LENGTH), kernel(np.clip(time, 0, LENGTH)), 0.0)
    table /= table.sum(axis=1, keepdims=True)  # a constant stays that constant
    return delay_out, np.ascontiguousarray(table, np.float32)


Kernel = tuple[Callable[[Samples], Samples], float]  # the filter over time in samples of the lower rate, and its delay


def _linear_kernel() -> Kernel:
    beta = 0.1102 * (ATTENUATION_DB - 8.7)  # Kaiser's formulas
    transition = (ATTENUATION_DB - 7.95) / (2.285 * LENGTH) / (2 * np.pi)  # cycles per sample
    cutoff = 0.5 - transition / 2
    centre = LENGTH / 2

    def kernel(time: Samples) -> Samples:
        window = np.i0(beta * np.sqrt(np.clip(1.0 - ((time - centre) / centre) ** 2, 0.0, None))) / np.i0(beta)
        return np.asarray(2 * cutoff * np.sinc(2 * cutoff * (time - centre)) * window)

    return kernel, centre


@lru_cache(maxsize=1)
def _minimum_phase_kernel() -> Kernel:
    """The linear kernel's magnitude with the smallest delay, by folding its real cepstrum."""
    time = np.arange(LENGTH * MINIMUM_PHASE_OVERSAMPLING + 1) / MINIMUM_PHASE_OVERSAMPLING
    prototype = _linear_kernel()[0](time)
    size = 64 * LENGTH * MINIMUM_PHASE_OVERSAMPLING  # deep stop-band zeros make a long cepstrum
    magnitude = np.abs(np.fft.fft(prototype, size))
    cepstrum = np.fft.ifft(np.log(np.maximum(magnitude, magnitude.max() * 1e-8))).real
    fold = np.zeros(size)
    fold[0] = fold[size // 2] = 1.0
    fold[1 : size // 2] = 2.0
    response = np.fft.ifft(np.exp(np.fft.fft(cepstrum * fold))).real[: len(time)]
    group_delay = float((time * response).sum() / response.sum())  # at 0 Hz
    return CubicSpline(time, response), group_delay
