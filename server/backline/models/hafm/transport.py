"""The transport source: where in its bar every 40 ms of the song lies, as tokens."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from backline.models.hafm.config import BAR_STEPS, NOT_PLAYING, TRANSPORT
from backline.models.stream import Transport


def transport_tokens(transport: Transport | None, first: int, frames: int) -> NDArray[np.int64]:
    """Tokens [frame] of `frames` frames at 25 Hz from number `first` of the session on.

    A token is the bar phase at the frame's start in 48ths; NOT_PLAYING where there is no transport or it stands still.
    The host's tempo is taken to go on, so frames may lie ahead.
    """
    if transport is None or not transport.playing:
        return np.full(frames, NOT_PLAYING, dtype=np.int64)
    seconds = (first + np.arange(frames)) / TRANSPORT.rate
    steps = [int(transport.bar_phase_at(float(at)) * BAR_STEPS) for at in seconds]
    return np.minimum(np.array(steps, dtype=np.int64), BAR_STEPS - 1)
