"""The transport as a source of tokens: where in its bar every frame of the song lies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from backline.models.hafm.config import BAR_STEPS, TRANSPORT
from backline.models.stream import Transport

BEAT_STEPS = 192  # of a bar, where the frame and not the chunk is what must be in time: 12.5 ms at 96 beats a minute


def transport_tokens(
    transport: Transport | None, first: int, frames: int, rate: int = TRANSPORT.rate, steps: int = BAR_STEPS
) -> NDArray[np.int64]:
    """Tokens [frame] of `frames` frames at `rate` per second from number `first` of the session on.

    A token is the bar phase at the frame's start in `steps`; `steps` itself where there is no transport or it stands
    still. The host's tempo is taken to go on, so frames may lie ahead.
    """
    if transport is None or not transport.playing:
        return np.full(frames, steps, dtype=np.int64)
    seconds = (first + np.arange(frames)) / rate
    phases = np.array([transport.bar_phase_at(float(at)) for at in seconds])
    return np.minimum((phases * steps).astype(np.int64), steps - 1)
