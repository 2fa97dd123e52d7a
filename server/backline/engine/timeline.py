"""Positions: where input belongs, where output goes, and what comes too late to be played."""

from __future__ import annotations

import numpy as np

from backline.engine.errors import BadInput
from backline.engine.limits import check_sample
from backline.kernels.overlap import crossfade
from backline.models.stream import Audio

MAXIMUM_GAP_SECONDS = 60  # a longer jump ahead is a mistake or a new take, not lost blocks

FASTEST_CARD = 5e-4  # by which a client's sound card may run faster than this machine's clock


class InputTimeline:
    """Input positions: they start anywhere and never go back; what is skipped becomes silence."""

    def __init__(self, rate: int) -> None:
        self.origin: int | None = None  # position of the first sample: the session's time 0
        self.received = 0  # samples since the origin, silence for gaps included
        self._maximum_gap = MAXIMUM_GAP_SECONDS * rate

    @property
    def end(self) -> int:
        """Position after the newest sample."""
        return (self.origin or 0) + self.received

    def gap_before(self, position: int) -> int:
        """Samples missing between the end and a block at `position`; the first block sets the origin.

        Raises:
            BadInput: no session reaches the position, or it goes back, or so far ahead that silence would not be what
                is meant.
        """
        check_sample(position, "audio block")
        if self.origin is None:
            self.origin = position
        gap = position - self.end
        if gap < 0:
            raise BadInput(
                f"audio block at position {position} goes back: input up to {self.end} has been received. "
                "Positions must not decrease; open a new session to start over"
            )
        if gap > self._maximum_gap:
            raise BadInput(
                f"audio block at position {position} leaves a gap of {gap} samples after {self.end}: "
                f"at most {self._maximum_gap} are filled with silence; open a new session instead"
            )
        return gap

    def check(self, position: int) -> None:
        """Refuses the position of an event that cannot be meant; before the first block any may be.

        Raises:
            BadInput: the position lies before time 0, or beyond any gap that may follow, or where no session is.
        """
        check_sample(position, "event")
        if self.origin is not None and not self.origin <= position <= self.end + self._maximum_gap:
            raise BadInput(
                f"position {position} is outside of the session: use {self.origin} to {self.end + self._maximum_gap}"
            )

    def advance(self, count: int) -> None:
        """`count` further samples have been received."""
        self.received += count


def zero_non_finite(audio: Audio) -> tuple[Audio, int]:
    """`audio` with zeros for NaN and infinities, and how many there were; the array itself where all is well."""
    finite = np.isfinite(audio)
    if finite.all():
        return audio, 0
    return np.where(finite, audio, np.float32(0.0)), int(audio.size - np.count_nonzero(finite))


class OutputTimeline:
    """Output at the model's rate: what is not committed may be laid over, and is then cross-faded."""

    def __init__(self, channels: int) -> None:
        self.committed = 0  # samples since the session's start that will not change
        self.dropped = 0  # samples that came for committed positions
        self.missing = 0  # samples that no chunk covered; they are silence
        self._open = np.zeros((channels, 0), np.float32)  # from `committed` on

    @property
    def end(self) -> int:
        """Samples since the session's start that there is output for."""
        return self.committed + self._open.shape[1]

    def lay(self, position: int, audio: Audio) -> None:
        """Lays a chunk [channel, sample] at `position`, linearly cross-faded over what is there.

        Equal audio cross-fades into itself, so what merely repeats its past changes nothing.
        """
        too_late = min(max(0, self.committed - position), audio.shape[1])
        self.dropped += too_late
        position, audio = position + too_late, audio[:, too_late:]
        if audio.shape[1] == 0:
            return
        gap = max(0, position - self.end)
        self.missing += gap
        kept = min(position - self.committed, self._open.shape[1])
        overlap = min(self._open.shape[1] - kept, audio.shape[1])
        parts = [
            self._open[:, :kept],
            np.zeros((audio.shape[0], gap), np.float32),
            crossfade(self._open[:, kept : kept + overlap], audio[:, :overlap], "linear"),
            audio[:, overlap:],
            self._open[:, kept + overlap :],  # it may be shorter than what it lies over
        ]
        self._open = np.concatenate(parts, axis=1)

    def commit(self) -> Audio:
        """The samples [channel, sample] that have become final since the last call."""
        done, self._open = self._open, self._open[:, :0]
        self.committed += done.shape[1]
        return done


def late_samples(position: int, count: int, now: int, latency: int) -> int:
    """How many of `count` samples from `position` on should have been played before `now`, `latency` included."""
    return min(max(0, now - latency - position), count)


def sent_ahead(needed: float, elapsed: float, lead: float) -> bool:
    """Whether input up to `needed` seconds, once it is there, has been sent more than `lead` ahead of real time."""
    return needed > elapsed * (1.0 + FASTEST_CARD) + lead
