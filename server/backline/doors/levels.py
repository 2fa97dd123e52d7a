"""How loud a port is at a position: peak and mean power of the sound that is being heard, not of what was computed."""

from __future__ import annotations

from collections import deque

import numpy as np

from backline.models.stream import Audio

WINDOW_SECONDS = 0.05
WINDOWS = 1_024  # that wait for being heard
SILENT = -120.0  # dBFS, that silence is told as
STILL_LOOKS = 10  # without news, after which a port is silent


class Levels:
    """Of one port, or of the input. One thread."""

    def __init__(self, sample_rate: int) -> None:
        self._window = max(1, round(WINDOW_SECONDS * sample_rate))
        self._waiting: deque[tuple[int, float, float]] = deque(maxlen=WINDOWS)  # end, peak, mean square
        self._still = 0
        self.now = (SILENT, SILENT)  # dBFS of peak and root mean square

    def add(self, position: int, audio: Audio) -> None:
        """[channel, sample] that will be heard at `position`."""
        for start in range(0, audio.shape[1], self._window):
            piece = audio[:, start : start + self._window]
            if piece.size:
                peak, power = float(np.abs(piece).max()), float(np.square(piece).mean())
                self._waiting.append((position + start + piece.shape[1], peak, power))

    def look(self, position: int) -> None:
        """What is heard up to `position` since the last look becomes `now`."""
        heard = []
        while self._waiting and self._waiting[0][0] <= position:
            heard.append(self._waiting.popleft())
        if heard:
            self._still = 0
            self.now = (
                decibels(max(peak for _, peak, _ in heard)),
                decibels(float(np.sqrt(np.mean([power for _, _, power in heard])))),
            )
        else:
            self._still += 1
            if self._still > STILL_LOOKS:
                self.now = (SILENT, SILENT)


def decibels(amplitude: float) -> float:
    """dBFS, not below SILENT."""
    return max(SILENT, 20.0 * float(np.log10(max(amplitude, 1e-9))))
