"""The gate: where nobody sings, no transport plays and no chord is held, the band is silent, whatever its stages play.

The voice's level is taken frame by frame. After HOLD frames without a voice the band fades to exact zeros; it fades in
where the voice is back, and where the host's transport plays or a keyboard leads, whatever the voice does.

A session's gate runs `lag` frames behind the voice: the chunk less its visibility, which is the least by which the end
of every chunk can be decided before it is played. So the gate is the same wherever chunks are cut. Where a chunk hears
to its end or further, the gate is in time with the voice. Who plays ahead cannot know earlier: at a visibility of -2 s
and chunks of 0.4 s, all of this comes 2.4 s late, the band's entry included. Until something has been heard, the gate
stands as it begins: closed, unless the transport plays from the start.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from backline.models.hafm.grid import Grid
from backline.models.hafm.sources import VOCAL
from backline.models.stream import Audio, Parameter, Transport

HOLD = 40  # frames of the voice (20 ms): a breath between two phrases is shorter
FADE_OUT, FADE_IN = 20, 3  # frames
OPEN = FADE_OUT * FADE_IN  # an open gate's phase; a closed one's is 0, and fades pass through whole numbers
HYSTERESIS = 3.0  # dB by which a voice must exceed the level to begin, and fall below it to end
OFF = -120.0  # dBFS: the gate never closes

GATE = Parameter(
    "gate", -50.0, OFF, 0.0, "dBFS", "the band rests while the voice is below and no transport plays; -120: never"
)


class Gate:
    """One session's: `hear` takes the input of a chunk, `apply` then answers for the sound of that chunk."""

    def __init__(self, grid: Grid, hop: int, output_rate: int) -> None:
        """`hop`: samples of input in a frame, 20 ms; the grid's visibility is as far as input comes."""
        self._lag = max(0, grid.frames(VOCAL.rate) - math.floor(grid.visibility * VOCAL.rate))
        self._hop, self._output_rate = hop, output_rate
        self._heard = 0  # frames
        self._quiet = HOLD  # frames since the voice was last there
        self._transport: Transport | None = None  # that holds at the frame heard last
        self._phases: list[int] = []  # where the output's frames begin, from number `_first` on
        self._first = 0

    def hear(
        self, audio: Audio, transport: Transport | None, level: float, held: Callable[[float], bool] = lambda _: False
    ) -> None:
        """Takes the input [1, sample], whole frames, that a chunk adds, and what is in force for it.

        Args:
            held: whether a chord is, at a time of the session in seconds.
        """
        if not self._phases:
            begins_open = level <= OFF or (_holds(transport, 0) and _plays(transport))
            self._phases = [OPEN if begins_open else 0] * (self._lag + 1)
        frames = audio[0].reshape(-1, self._hop).astype(np.float64)
        begins, ends = (10 ** ((level + step) / 10) for step in (HYSTERESIS, -HYSTERESIS))
        for power in frames.var(axis=1):  # without what is constant: an offset is no voice
            present = power >= (ends if self._quiet < HOLD else begins)
            self._quiet = 0 if present else self._quiet + 1
            if _holds(transport, self._heard):
                self._transport = transport
            leads = _plays(self._transport) or held((self._heard + 1) / VOCAL.rate)
            is_open = level <= OFF or leads or self._quiet < HOLD
            step = OPEN // FADE_IN if is_open else -(OPEN // FADE_OUT)
            self._phases.append(min(OPEN, max(0, self._phases[-1] + step)))
            self._heard += 1

    def apply(self, audio: Audio, position: int) -> Audio:
        """`audio` [channel, sample] as the gate lets it through; `position`: its first sample, at the output rate."""
        samples = audio.shape[1]
        if not samples:
            return audio
        # Whole numbers, so that a sample's place in its frame is the same in every cut.
        frame, remainder = np.divmod(VOCAL.rate * np.arange(position, position + samples), self._output_rate)
        del self._phases[: int(frame[0]) - self._first]
        self._first = int(frame[0])
        phases: NDArray[np.float64] = np.array(self._phases, np.float64) / OPEN
        if (phases == 1).all():
            return audio
        frame -= self._first
        phase = phases[frame] + (phases[frame + 1] - phases[frame]) * (remainder / self._output_rate)
        return audio * (phase * phase * (3 - 2 * phase)).astype(np.float32)


def _holds(transport: Transport | None, frame: int) -> bool:
    """Whether `transport` is there and true by a frame of the voice."""
    return transport is not None and transport.at_seconds * VOCAL.rate <= frame


def _plays(transport: Transport | None) -> bool:
    return transport is not None and transport.playing
