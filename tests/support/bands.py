"""A small deterministic separator: a band of the spectrum for each track, at a level that it tells frame by frame.

What it tells of a frame depends on what it told of the one before, so forced codes are heard in all that follows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.fft

from backline.models.rows import each
from backline.models.windowed.polarity import middle
from backline.models.windowed.separator import History, Separated, Window

CODES = 16
PATHS, BOOKS = 2, 3
EDGES = (0.0, 0.02, 0.08, 0.2, 0.5)  # of the bands, in shares of the rate
TRACKS = ("vocals", "drums", "bass", "other")
BAND_OF_TRACK = (1, 3, 0, 2)


class BandSeparator:
    """A `Separator` (models/windowed/separator.py)."""

    device = "cpu"
    tracks = TRACKS

    def __init__(self, sample_rate: int = 48_000, window_frames: int = 50) -> None:
        self.sample_rate, self.frame_samples = sample_rate, sample_rate * 2 // 25
        self.window_frames = window_frames
        self.calls: list[int] = []  # the `new_frames` of every window

    def silence(self) -> History:
        return self._tell(np.zeros((len(TRACKS), self.window_frames)), None, self.window_frames)

    def separate(self, windows: Sequence[Window]) -> list[Separated | Exception]:
        return each(self._separate, windows)

    def _separate(self, window: Window) -> Separated:
        hop_frames = window.new_frames
        assert window.audio.shape[1] == self.window_frames * self.frame_samples
        assert window.audio.dtype == np.float32
        self.calls.append(hop_frames)
        audio = middle(window.audio)[0]
        spectrum = scipy.fft.rfft(audio)
        frequency = np.arange(len(spectrum)) / len(audio)
        bands = np.stack(
            [
                scipy.fft.irfft(spectrum * ((EDGES[band] <= frequency) & (frequency < EDGES[band + 1])), len(audio))
                for band in BAND_OF_TRACK
            ]
        )
        framed = bands.reshape(len(TRACKS), self.window_frames, -1)
        told = self._tell(np.sqrt((framed**2).mean(axis=2)), window.history, hop_frames)
        gain = 0.9 + 0.2 * told.codes.mean(axis=(1, 2)) / CODES
        estimates = (framed * gain[:, :, np.newaxis]).reshape(len(TRACKS), 1, -1).astype(np.float32)
        return Separated(estimates, told)

    def _tell(self, level: np.ndarray, history: History | None, hop_frames: int) -> History:
        """`level` [track, frame]."""
        forced = self.window_frames - hop_frames
        codes = np.zeros((len(TRACKS), PATHS, BOOKS, self.window_frames), np.int64)
        if history is not None and forced:
            codes[..., :forced] = history.codes[..., hop_frames:]
        loudness = np.floor(20 * level).astype(np.int64)
        place = np.arange(PATHS * BOOKS).reshape(PATHS, BOOKS)
        for frame in range(forced, self.window_frames):
            before = codes[..., frame - 1] if frame else place
            codes[..., frame] = (loudness[:, frame, np.newaxis, np.newaxis] + 3 * before + place) % CODES
        return History(codes)
