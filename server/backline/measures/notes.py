"""How strongly each note sounds in spans of time: a spectrum on a scale of pitch, explained by tones with partials.

As NNLS chroma does (Mauch and Dixon, 2010): what is common to the surrounding half octave, as drums and noise are, is
taken off the spectrum, and the rest is written as a sum of harmonic tones. So a third harmonic is not heard as a fifth.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from scipy.optimize import nnls
from soxr import resample

LOWEST, HIGHEST = 28, 95  # MIDI pitches, both included
_PITCHES = np.arange(LOWEST, HIGHEST + 1)
SPLIT = 50  # pitches below are the bass
RATE = 8_000  # Hz: enough for the highest note and its second partial
WINDOW = 3_200  # samples
HOP = 400  # samples
SILENCE = 1e-4  # RMS (-80 dBFS) under which nothing sounds
_TRANSFORM = 16_384  # samples; the window with zeros
_STEPS = 3  # bins a semitone
_PARTIALS = 12
_DECAY = 0.7  # of amplitude, from one partial to the next

Spans = Sequence[tuple[float, float]]  # (begin, end) in seconds


def notes_heard(audio: NDArray[np.float32], sample_rate: int, spans: Spans) -> NDArray[np.float64]:
    """Amplitude of each note [span, pitch - LOWEST]; all zero where a span is silent or holds no tones."""
    strengths = np.zeros((len(spans), HIGHEST - LOWEST + 1))
    sound = _at_rate(audio, sample_rate)
    for index, (begin, end) in enumerate(spans):
        first, last = round(begin * RATE), round(end * RATE)
        heard = sound[max(0, first) : max(0, last)]
        if len(heard) and np.sqrt(np.mean(np.square(heard))) > SILENCE:
            strengths[index] = nnls(_tones(), _pitch_spectrum(sound, first, last))[0]
    return strengths


def chroma(strengths: NDArray[np.float64]) -> NDArray[np.float64]:
    """Notes [span, pitch - LOWEST] summed over octaves [span, pitch class]."""
    return strengths @ np.eye(12)[_PITCHES % 12]


def bass_chroma(strengths: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same [span, pitch class] of the notes below SPLIT only."""
    return chroma(np.where(_PITCHES < SPLIT, strengths, 0.0))


def even_spans(samples: int, sample_rate: int, seconds: float) -> list[tuple[float, float]]:
    """Spans of equal length, one after another, as many as fit whole."""
    return [(index * seconds, (index + 1) * seconds) for index in range(int(samples / sample_rate / seconds))]


def _at_rate(audio: NDArray[np.float32], sample_rate: int) -> NDArray[np.float64]:
    """The sound at RATE [sample]."""
    if not len(audio) or sample_rate == RATE:
        return audio.astype(np.float64)
    return resample(audio.astype(np.float64), sample_rate, RATE)


def _pitch_spectrum(sound: NDArray[np.float64], first: int, last: int) -> NDArray[np.float64]:
    """Mean magnitude [bin] of windows whose centres lie in the middle half of a span, less what is everywhere.

    The window is about as long as a beat: at the edges of a span it would hear the chord before or after.
    """
    quarter = (last - first) / 4
    centres = np.arange(first + quarter, last - quarter + 1, HOP)
    padded = np.pad(sound, WINDOW)
    starts = np.clip(np.round(centres + WINDOW / 2).astype(int), 0, len(padded) - WINDOW)
    windows = padded[starts[:, None] + np.arange(WINDOW)]
    magnitude = np.abs(np.fft.rfft(windows * np.hanning(WINDOW), _TRANSFORM)).mean(axis=0)
    return _without_floor(_bins() @ magnitude)


def _without_floor(spectrum: NDArray[np.float64]) -> NDArray[np.float64]:
    """What stands out of the half octave around it [bin]."""
    return np.maximum(0.0, spectrum - median_filter(spectrum, 6 * _STEPS + 1, mode="nearest"))


@cache
def _bins() -> NDArray[np.float64]:
    """[bin, frequency] weights: bins of a third of a semitone, or of the transform's resolution where that is wider."""
    pitches = np.arange(LOWEST - 1, HIGHEST + 13, 1 / _STEPS)
    centres = 440.0 * 2.0 ** ((pitches - 69) / 12)
    widths = np.maximum(centres * (2.0 ** (1 / 12 / _STEPS) - 1), RATE / _TRANSFORM)  # Hz
    hertz = np.fft.rfftfreq(_TRANSFORM, 1 / RATE)
    return np.maximum(0.0, 1 - np.abs(hertz - centres[:, None]) / widths[:, None]) * 4 / WINDOW


@cache
def _tones() -> NDArray[np.float64]:
    """[bin, note]: what a tone of amplitude 1 looks like, for every note, as the analysis sees it."""
    time = np.arange(WINDOW) / RATE
    columns = []
    for pitch in _PITCHES:
        hertz = 440.0 * 2.0 ** ((pitch - 69) / 12)
        numbers = np.arange(1, _PARTIALS + 1)
        numbers = numbers[numbers * hertz < RATE / 2]
        tone = (_DECAY ** (numbers - 1))[:, None] * np.sin(2 * np.pi * hertz * numbers[:, None] * time)
        magnitude = np.abs(np.fft.rfft(tone * np.hanning(WINDOW), _TRANSFORM)).sum(axis=0)
        columns.append(_without_floor(_bins() @ magnitude))
    return np.stack(columns, axis=1)
