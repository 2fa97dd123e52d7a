"""Whether notes begin when they should: onsets against a grid of beats, and against those of a reference."""

from __future__ import annotations

import numpy as np
from mir_eval.onset import f_measure
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d
from scipy.signal import find_peaks

from backline.nn.mel import mel_filters

TOLERANCE = 0.05  # seconds to either side, as MIREX has it

STRENGTH_RATE = 100  # frames a second
_WINDOW_SECONDS = 0.04
_BANDS = 36
_FLOOR = 1e-2  # of the loudest band: what is below (-40 dB) makes no onset
_SILENCE = 1e-4  # magnitude (-80 dBFS) of a loudest band that is not heard at all
_THRESHOLD = 0.1  # nats that the mean band must rise, above the mean rise around
_AROUND = 17  # frames
_APART = 4  # frames, at least, between two onsets


def onset_f(
    audio: NDArray[np.float32], sample_rate: int, grid_seconds: NDArray[np.float64], window: float = TOLERANCE
) -> float:
    """F-measure of the onsets heard against a grid of times, such as all eighths of the piece.

    The figure has no right value of its own: music neither plays on every point of a grid nor only there. It tells a
    player in time from one who is not by comparison with the true accompaniment on the same grid, from which generated
    music should differ by .05 at most. On eighths at 100 beats a minute, onsets at random meet a third of the points.

    Args:
        grid_seconds: [point], ascending.
        window: seconds to either side of a point.
    """
    return _f(onsets(audio, sample_rate), np.asarray(grid_seconds, np.float64), window)


def onset_agreement(found: NDArray[np.float32], wanted: NDArray[np.float32], sample_rate: int) -> float:
    """F-measure of the onsets of one recording against those of another: 1 the same rhythm, at the same time."""
    return _f(onsets(found, sample_rate), onsets(wanted, sample_rate), TOLERANCE)


def onsets_met(lead: NDArray[np.float32], band: NDArray[np.float32], sample_rate: int) -> float:
    """Share of the onsets of `lead` at which `band` has one too, beyond what chance has; 0: they ignore each other.

    Chance is the same share with the band moved by half a second to two and a half, both ways. It needs no beat to be
    known; bands that play much meet much by chance, so 1 is out of reach.
    """
    leading, playing = onsets(lead, sample_rate), onsets(band, sample_rate)
    if not len(leading) or not len(playing):
        return 0.0

    def met(moved: float) -> float:
        nearest = np.abs(leading[:, None] - moved - playing[None, :]).min(axis=1)
        return float(np.mean(nearest <= TOLERANCE))

    steps = np.arange(0.5, 2.5, 0.05)
    return met(0.0) - float(np.mean([met(moved) for moved in [*steps, *-steps]]))


def onsets(audio: NDArray[np.float32], sample_rate: int) -> NDArray[np.float64]:
    """When notes begin, in seconds: peaks of the spectral flux, in any of which many bands rise together."""
    flux = onset_strength(audio, sample_rate)
    rise = flux - uniform_filter1d(flux, _AROUND, mode="constant")
    peaks, _ = find_peaks(np.pad(rise, 1), height=_THRESHOLD, distance=_APART)
    return (peaks - 1) / STRENGTH_RATE


def _f(found: NDArray[np.float64], wanted: NDArray[np.float64], window: float) -> float:
    if not len(found) or not len(wanted):
        return 0.0
    return float(f_measure(wanted, found, window=window)[0])


def onset_strength(audio: NDArray[np.float32], sample_rate: int) -> NDArray[np.float64]:
    """Nats [frame] by which the mean band is louder than two frames before; frames are 1 / STRENGTH_RATE apart."""
    window = round(_WINDOW_SECONDS * sample_rate)
    shape = np.hanning(window)
    bands = mel_filters(_BANDS, window, sample_rate).numpy() * (2 / shape.sum())  # [band, bin]
    frames = int(len(audio) / sample_rate * STRENGTH_RATE) + 1
    centres = np.round(np.arange(-2, frames) * sample_rate / STRENGTH_RATE).astype(int)
    padded = np.pad(audio, window)
    starts = centres + window - window // 2
    levels = np.empty((len(starts), _BANDS))
    for block in range(0, len(starts), 1024):  # ten minutes at once would take gigabytes
        windows = padded[starts[block : block + 1024, None] + np.arange(window)]
        levels[block : block + 1024] = np.abs(np.fft.rfft(windows * shape)) @ bands.T
    loudest = levels.max()
    if loudest < _SILENCE:
        return np.zeros(frames)
    logarithms = np.log(np.maximum(levels, _FLOOR * loudest))
    return np.maximum(0.0, logarithms[2:] - logarithms[:-2]).mean(axis=1)
