"""Which key a recording is in: its notes against how often each degree of a scale sounds in music of that mode."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from backline.measures.notes import chroma, even_spans, notes_heard
from backline.music.theory import Key

SPAN_SECONDS = 2.0
# Shares of the degrees, by semitones above the tonic (Albrecht and Shanahan, 2013: scores from Bach to Brahms).
PROFILES = {
    "major": (0.238, 0.006, 0.111, 0.006, 0.137, 0.094, 0.016, 0.214, 0.009, 0.080, 0.008, 0.081),
    "minor": (0.220, 0.006, 0.104, 0.123, 0.019, 0.103, 0.012, 0.214, 0.062, 0.022, 0.061, 0.052),
}


def key_heard(audio: NDArray[np.float32], sample_rate: int) -> Key | None:
    """The likeliest of the 24 keys of a sound [sample]; None where it holds no notes."""
    sounding = chroma(np.sqrt(notes_heard(audio, sample_rate, even_spans(len(audio), sample_rate, SPAN_SECONDS))))
    shares = sounding.sum(axis=0)
    if shares.max(initial=0.0) - shares.min(initial=0.0) < 1e-9:
        return None
    keys = [Key(tonic, mode) for mode in PROFILES for tonic in range(12)]
    likely = [float(np.corrcoef(shares, np.roll(PROFILES[key.mode], key.tonic))[0, 1]) for key in keys]
    return keys[int(np.argmax(likely))]
