"""A bounded ring of interleaved audio between one writing and one reading thread."""

from __future__ import annotations

import numpy as np

from backline.engine.errors import TooLarge
from backline.engine.limits import INPUT_BYTES
from backline.models.stream import Audio


class Ring:
    """All channels in one preallocated array [sample, channel], so that left and right cannot come apart.

    One thread writes, one thread reads; each moves only its own counter, after the samples are in place.
    """

    def __init__(self, capacity: int, channels: int) -> None:
        """Raises TooLarge where that is more memory than a session may hold."""
        if (size := 4 * capacity * channels) > INPUT_BYTES:
            raise TooLarge(
                f"{capacity} samples of {channels} channels take {size >> 20} MiB, and a session may hold "
                f"{INPUT_BYTES >> 20} of input: choose a shorter chunk, smaller blocks, a lower sample rate, or fewer "
                "channels"
            )
        self.capacity, self.channels = capacity, channels
        self.written = 0  # samples since the start; moved by the writing thread
        self.read_count = 0  # samples since the start; moved by the reading thread
        self._buffer = np.zeros((capacity, channels), np.float32)

    @property
    def memory_bytes(self) -> int:
        """Of its samples."""
        return self._buffer.nbytes

    @property
    def available(self) -> int:
        """Samples that can be read."""
        return self.written - self.read_count

    @property
    def free(self) -> int:
        """Samples that can be written."""
        return self.capacity - self.available

    def write(self, audio: Audio) -> None:
        """Appends [channel, sample]. Writing thread only."""
        count = audio.shape[1]
        if count > self.free:
            raise ValueError(f"{count} samples do not fit: the ring has room for {self.free}")
        at = self.written % self.capacity
        first = min(count, self.capacity - at)
        self._buffer[at : at + first] = audio[:, :first].T
        self._buffer[: count - first] = audio[:, first:].T
        self.written += count

    def read(self, count: int) -> Audio:
        """Takes the oldest `count` samples [channel, sample]. Reading thread only."""
        if count > self.available:
            raise ValueError(f"{count} samples are not there: the ring holds {self.available}")
        at = self.read_count % self.capacity
        first = min(count, self.capacity - at)
        out = np.empty((self.channels, count), np.float32)
        out[:, :first] = self._buffer[at : at + first].T
        out[:, first:] = self._buffer[: count - first].T
        self.read_count += count
        return out
