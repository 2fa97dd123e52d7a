"""A session's way out: what is late is dropped, the rest goes to the client, and waits there within bounds."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence

from backline.engine.errors import Refused
from backline.engine.events import Event, Frames, OutputBlock
from backline.engine.ledger import LedgerBook
from backline.engine.limits import INPUT_BYTES, UNREAD_BYTES
from backline.engine.take import Take
from backline.engine.timeline import late_samples
from backline.engine.warnings import Warnings
from backline.models.stream import Audio, Port, SessionConfig

UNREAD_SECONDS = 4  # of output that may wait for an unread client before its session pauses; see UNREAD_BYTES, too


class Outlet:
    """Sends on the engine thread; any thread may acknowledge."""

    def __init__(
        self,
        on_event: Callable[[Event], None],
        warnings: Warnings,
        book: LedgerBook,
        config: SessionConfig,
        ports: Sequence[Port],
    ) -> None:
        """Raises Refused where three chunks of output take more memory than a session may hold."""
        self._on_event, self._warnings, self._book, self._want_audio = on_event, warnings, book, config.want_audio
        self.limit = (len(ports) if config.want_audio else 1) * unread_chunks(config, ports)
        self._unread = 0  # blocks that the client has not acknowledged
        self._lock = threading.Lock()  # of that
        self._sequence = 0

    @property
    def full(self) -> bool:
        """Whether no more may wait for the client. Any thread."""
        return self._unread >= self.limit

    def acknowledge(self, blocks: int) -> None:
        """The client has taken so many. Any thread."""
        with self._lock:
            self._unread = max(0, self._unread - blocks)

    def send(self, take: Take, position: int, audio: Audio, now: int | None) -> tuple[int, int]:
        """Sends [channel of all ports, sample] of a take from `position` on.

        Args:
            now: up to where the client has lived; None: nothing comes too late for it.

        Returns:
            How many samples are late, and how many the client is sent of each port.
        """
        late = 0 if now is None else late_samples(position, audio.shape[1], now, self._book.promised_samples)
        if late:
            self._warnings.warn("late_output", "output came too late to be played and was dropped", late, position)
        position, audio = position + late, audio[:, late:]
        count = audio.shape[1] if self._want_audio else 0
        if count:
            for port, part in enumerate(take.output.split(audio)):
                self._wait_for_one_more()
                self._on_event(OutputBlock(self._sequence, position, port, part, committed=position + count))
                self._sequence += 1
        return late, count

    def send_frames(self, frames: Frames) -> None:
        """Sends the codec frames of a chunk; where the client wants no audio, these are what may wait for it."""
        if not self._want_audio:
            self._wait_for_one_more()
        self._on_event(frames)

    def _wait_for_one_more(self) -> None:
        with self._lock:
            self._unread += 1


def unread_chunks(config: SessionConfig, ports: Sequence[Port]) -> int:
    """Chunks whose output may wait for the client: seconds of them, as far as they take no more than their memory.

    Raises:
        Refused: three chunks, which the playing needs, take too much of it.
    """
    channels = sum(port.channels for port in ports)
    chunk_bytes = max(1, math.ceil(channels * 4 * config.chunk_seconds * config.sample_rate))
    if 3 * chunk_bytes > INPUT_BYTES:
        raise Refused(
            f"three chunks of output take {3 * chunk_bytes >> 20} MiB, and a session may hold {INPUT_BYTES >> 20}: "
            "choose a shorter chunk, a lower sample rate, or fewer channels"
        )
    return max(3, min(math.ceil(UNREAD_SECONDS / config.chunk_seconds), UNREAD_BYTES // chunk_bytes))
