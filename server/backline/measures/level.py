"""How loud a recording is, whether that stays so, and how much of it is silence or clipped."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import theilslopes

QUIETEST_DBFS = -120.0  # stands for silence, so that every level is a number
SILENCE_DBFS = -60.0
CLIPPED = 0.999  # of full scale

_BLOCK_SECONDS = 0.1  # of silence_share
_DRIFT_SECONDS = 600.0


def level_dbfs(audio: NDArray[np.float32]) -> float:
    """RMS in dB of full scale: a square wave of full scale has 0, a sine -3; at least QUIETEST_DBFS."""
    power = float(np.mean(np.square(audio, dtype=np.float64))) if len(audio) else 0.0
    return max(QUIETEST_DBFS, 10 * float(np.log10(max(power, 1e-30))))


def level_drift(audio: NDArray[np.float32], sample_rate: int, span_seconds: float = 10.0) -> float:
    """By how many dB the level grows in 10 minutes: the median slope (Theil and Sen) over spans, rests being no trend.

    Raises:
        ValueError: there are not two spans.
    """
    levels = _span_levels(audio, sample_rate, span_seconds)
    return float(theilslopes(levels, np.arange(len(levels)) * span_seconds / _DRIFT_SECONDS).slope)


def level_excursion(audio: NDArray[np.float32], sample_rate: int, span_seconds: float = 10.0) -> float:
    """By how many dB the span that is furthest from the median level differs from it; never negative.

    Raises:
        ValueError: there are not two spans.
    """
    levels = _span_levels(audio, sample_rate, span_seconds)
    return float(np.abs(levels - np.median(levels)).max())


def silence_share(audio: NDArray[np.float32], sample_rate: int) -> float:
    """Share of tenths of a second below SILENCE_DBFS, a shorter one at the end left out; of an empty recording 1."""
    block = max(1, min(len(audio), round(_BLOCK_SECONDS * sample_rate)))
    blocks = audio[: len(audio) // block * block].reshape(-1, block)
    return float(np.mean([level_dbfs(each) < SILENCE_DBFS for each in blocks])) if len(blocks) else 1.0


def clip_share(audio: NDArray[np.float32]) -> float:
    """Share of samples at or above CLIPPED; what is no number counts too."""
    return float(np.mean(~(np.abs(audio) < CLIPPED))) if len(audio) else 0.0


def _span_levels(audio: NDArray[np.float32], sample_rate: int, span_seconds: float) -> NDArray[np.float64]:
    """Levels in dBFS [span] of whole spans; a shorter rest at the end is left out."""
    span = round(span_seconds * sample_rate)
    spans = len(audio) // span
    if spans < 2:
        raise ValueError(
            f"a recording of {len(audio) / sample_rate:.1f} s has no two spans of {span_seconds:g} s to compare: "
            "give a longer one or shorter spans"
        )
    return np.array([level_dbfs(audio[index * span : (index + 1) * span]) for index in range(spans)])
