"""Where one taps one's foot to a recording, and how fast: onsets that come at equal distances.

After Ellis, Beat Tracking by Dynamic Programming (2007): the tempo is what the strength of onsets repeats itself by,
weighted by how usual it is; beats are the path through strong onsets whose steps are nearest to that period.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, uniform_filter1d

from backline.measures.rhythm import STRENGTH_RATE, onset_strength

SLOWEST, FASTEST = 40.0, 240.0  # beats a minute
USUAL, SPREAD = 110.0, 0.7  # beats a minute, and octaves around it
REPEATS = 4  # beats, a bar, over which a period must hold
TIGHTNESS = 300.0  # how dear a step is that is not the period's
AROUND_SECONDS = 0.5  # strengths count against what is usual in this time
STEADY_BEATS = 16  # of which a tempo is taken


def beats_heard(audio: NDArray[np.float32], sample_rate: int) -> NDArray[np.float64]:
    """When the beats of a sound [sample] fall [beat], in seconds; none where nothing begins at equal distances."""
    strength = onset_strength(audio, sample_rate)
    period = _period(strength)
    if period is None:
        return np.zeros(0)
    return _path(gaussian_filter1d(strength, 1.0), period) / STRENGTH_RATE


def tempo_of(beats: NDArray[np.float64]) -> float | None:
    """Beats a minute that most of a piece goes at; None of fewer than two beats."""
    if len(beats) < 2:
        return None
    reach = min(STEADY_BEATS, len(beats) - 1)
    return float(60 * reach / np.median(beats[reach:] - beats[:-reach]))


def _period(strength: NDArray[np.float64]) -> float | None:
    """Frames from one beat to the next."""
    rise = strength - uniform_filter1d(strength, round(AROUND_SECONDS * STRENGTH_RATE), mode="nearest")
    size = 1 << (2 * len(rise) - 1).bit_length()
    spectrum = np.fft.rfft(rise, size)
    alike = np.fft.irfft(np.square(np.abs(spectrum)), size)[: len(rise)]
    if not len(rise) or alike[0] <= 1e-9:
        return None
    alike = gaussian_filter1d(alike / alike[0], 1.0)
    tempi = np.exp(np.arange(np.log(SLOWEST), np.log(FASTEST), 0.002))
    periods = 60 * STRENGTH_RATE / tempi
    at = np.arange(len(alike))
    combs = np.mean([np.interp(n * periods, at, alike, right=0.0) for n in range(1, REPEATS + 1)], axis=0)
    likely = combs * np.exp(-0.5 * np.square(np.log2(tempi / USUAL) / SPREAD))
    best = int(likely.argmax())
    return float(periods[best]) if likely[best] > 0 else None


def _path(strength: NDArray[np.float64], period: float) -> NDArray[np.int64]:
    """The frames of the beats: strong ones, from each to the next about a period."""
    strength = strength / max(1e-12, float(strength.std()))
    steps = np.arange(round(period / 2), round(2 * period) + 1)
    dear = -TIGHTNESS * np.square(np.log(steps / period))
    total, source = strength.copy(), np.full(len(strength), -1)
    for frame in range(len(strength)):
        before = frame - steps
        before = before[before >= 0]
        if len(before):
            scores = total[before] + dear[: len(before)]
            best = int(scores.argmax())
            if scores[best] > 0:
                total[frame] += scores[best]
                source[frame] = before[best]
    last = len(strength) - round(period) + int(total[-round(period) :].argmax()) if len(strength) > period else 0
    path = [max(0, last)]
    while source[path[-1]] >= 0:
        path.append(int(source[path[-1]]))
    return np.array(path[::-1])
