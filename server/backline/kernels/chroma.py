"""Per-frame music features in Numba: bass and treble chroma, tonality, four onset bands and level.

Every frame is computed by the same instructions from its own window of samples and a little recursive state, in a fixed
order: that is what makes any split of a signal into blocks, and any batch, give bit-identical features and tokens.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from backline.kernels.compiled import compiled
from backline.kernels.dot import dot

BANDS = 4
FEATURES = 12 + 12 + BANDS + 2  # bass chroma, treble chroma, onset of each band, tonality, level
BASS = slice(0, 12)
TREBLE = slice(12, 24)
ONSETS = slice(24, 28)
TONALITY = 28
LEVEL = 29

_CHROMA_FLOOR = 1e-2  # amplitude (-40 dB, as the noise on training vocals) below which chroma fades to zero
_ENERGY_FLOOR = 1e-5  # mean square (-50 dB) that stands for silence in every logarithm
_TRAIL_DECAY = 0.2  # nats that a band's recent maximum falls per frame; a rise above it is an onset
_ONSET_LIMIT = 5.0  # nats: an attack out of silence says no more than one of 22 dB


@compiled
def music_features(
    signal: NDArray[np.float32],  # [window - hop + frames * hop]
    hop: int,
    window: int,  # samples that one frame sees, up to its newest
    lookahead: int,  # samples after the frame's own that its window includes
    cosines: NDArray[np.float32],  # [tap], the filters one after another, each ending at the window's end
    sines: NDArray[np.float32],  # [tap]
    starts: NDArray[np.int64],  # [filter + 1] into the taps
    pitches: NDArray[np.int64],  # [filter], MIDI
    bass_below: int,  # pitches under this sound in the bass chroma
    treble_from: int,  # pitches from this on sound in the treble chroma
    sections: NDArray[np.float64],  # [band, section, 5]: b0 b1 b2 a1 a2
    memory: NDArray[np.float64],  # [band, section, 2], advanced in place
    trail: NDArray[np.float64],  # [band], log energy, advanced in place
    out: NDArray[np.float32],  # [frame, FEATURES]
) -> None:
    """Features of all frames of `signal`. The recursive state moves by exactly these frames."""
    band_energy = np.empty(BANDS, np.float64)
    for frame in range(out.shape[0]):
        seen = signal[frame * hop : frame * hop + window]
        row = out[frame]
        row[:] = 0.0

        tonal = 0.0
        for k in range(pitches.size):
            first, last = starts[k], starts[k + 1]
            part = seen[window - (last - first) :]
            re = dot(part, cosines[first:last])
            im = dot(part, sines[first:last])
            power = re * re + im * im
            tonal += power
            if pitches[k] < bass_below:
                row[pitches[k] % 12] += power
            if pitches[k] >= treble_from:
                row[12 + pitches[k] % 12] += power
        for group in range(2):
            chroma = row[12 * group : 12 * group + 12]
            norm = _CHROMA_FLOOR * _CHROMA_FLOOR
            for c in range(12):
                norm += chroma[c]
            for c in range(12):
                chroma[c] = np.sqrt(chroma[c] / norm)

        band_energy[:] = 0.0
        energy = 0.0
        for n in range(window - lookahead - hop, window - lookahead):
            sample = np.float64(seen[n])
            energy += sample * sample
            for band in range(BANDS):
                value = sample
                for s in range(sections.shape[1]):
                    b0, b1, b2, a1, a2 = sections[band, s]
                    filtered = b0 * value + memory[band, s, 0]
                    memory[band, s, 0] = b1 * value - a1 * filtered + memory[band, s, 1]
                    memory[band, s, 1] = b2 * value - a2 * filtered
                    value = filtered
                band_energy[band] += value * value
        for band in range(BANDS):
            loudness = np.log(band_energy[band] / hop + _ENERGY_FLOOR)
            row[24 + band] = min(max(loudness - trail[band], 0.0), _ONSET_LIMIT)
            trail[band] = max(loudness, trail[band] - _TRAIL_DECAY)
        mean_square = energy / hop
        row[TONALITY] = min(0.5 * tonal / (mean_square + _ENERGY_FLOOR), 2.0)
        row[LEVEL] = np.log(mean_square + _ENERGY_FLOOR)
        # Decaying filters end in denormal numbers, each a hundred times as slow; so silence becomes exactly silent.
        for band in range(BANDS):
            for s in range(sections.shape[1]):
                for i in range(2):
                    if abs(memory[band, s, i]) < 1e-30:
                        memory[band, s, i] = 0.0


def silent_trail() -> float:
    """A band's log energy in silence: what `trail` starts from."""
    return float(np.log(_ENERGY_FLOOR))


@compiled
def nearest(
    features: NDArray[np.float32],  # [frame, feature]
    mean: NDArray[np.float32],  # [feature]
    gain: NDArray[np.float32],  # [feature]
    centroids: NDArray[np.float32],  # [token, feature], of the normalised features
    out: NDArray[np.int64],  # [frame]
) -> None:
    """The centroid nearest to (features - mean) * gain, the lowest index among equals."""
    for frame in range(features.shape[0]):
        best, best_distance = 0, np.inf
        for token in range(centroids.shape[0]):
            distance = 0.0
            for i in range(features.shape[1]):
                difference = np.float64((features[frame, i] - mean[i]) * gain[i]) - centroids[token, i]
                distance += difference * difference
            if distance < best_distance:
                best, best_distance = token, distance
        out[frame] = best
