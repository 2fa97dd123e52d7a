"""A session's way out: what is late is dropped, the rest goes to the client, and waits there within bounds."""

from __future__ import annotations

import heapq
import math
import threading
from collections.abc import Callable, Sequence

from backline.engine.errors import Refused, TooLarge
from backline.engine.events import Event, Frames, Marked, OutputBlock, Skipped
from backline.engine.ledger import LedgerBook
from backline.engine.limits import INPUT_BYTES, PENDING_MARKERS, UNREAD_BYTES, check_sample
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
        """Raises TooLarge where three chunks of output take more memory than a session may hold."""
        self._on_event, self._warnings, self._book, self._want_audio = on_event, warnings, book, config.want_audio
        self.limit = (len(ports) if config.want_audio else 1) * unread_chunks(config, ports)
        self._chunk_samples = math.floor(config.chunk_seconds * config.sample_rate)
        self._unread = 0  # blocks that the client has not acknowledged
        self._credit: int | None = None  # samples that it wants yet; None: it has never said
        self._markers: list[tuple[int, int]] = []  # a heap: position, id
        self._lock = threading.Lock()  # of the three
        self._sequence = 0
        self._end: int | None = None  # the position up to which all has been sent or skipped

    @property
    def full(self) -> bool:
        """Whether no more may wait for the client. Any thread."""
        return self._unread >= self.limit

    @property
    def wanted(self) -> bool:
        """Whether the client wants another chunk. Any thread."""
        return self._credit is None or self._credit >= self._chunk_samples

    def grant(self, samples: int) -> None:
        """The client wants so many samples more, and from the first time on no others. Any thread."""
        with self._lock:
            self._credit = (self._credit or 0) + samples

    def mark(self, marker: int, position: int) -> None:
        """Has `Marked` be told when the output at a position has been sent; `tell_marked` is due. Any thread.

        Raises:
            BadInput: no session reaches the position.
            Refused: too many wait already.
        """
        check_sample(position, "marker")
        with self._lock:
            if len(self._markers) >= PENDING_MARKERS:
                raise Refused(f"{PENDING_MARKERS} markers wait in this session, as many as may: set them further apart")
            heapq.heappush(self._markers, (position, marker))

    def tell_marked(self) -> None:
        """Tells of markers whose position has been sent. The engine thread."""
        while self._end is not None and self._markers and self._markers[0][0] < self._end:
            with self._lock:
                position, marker = heapq.heappop(self._markers)
            self._on_event(Marked(marker, position))

    def skip(self, position: int, samples: int) -> None:
        """Tells that there is no output from a position on."""
        self._on_event(Skipped(position, samples))
        self._end = position + samples

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
            self.skip(position, late)
        position, audio = position + late, audio[:, late:]
        count = audio.shape[1] if self._want_audio else 0
        if count:
            for port, part in enumerate(take.output.split(audio)):
                self._wait_for_one_more()
                self._on_event(OutputBlock(self._sequence, position, port, part, committed=position + count))
                self._sequence += 1
        with self._lock:
            if self._credit is not None:
                self._credit -= audio.shape[1]
        self._end = position + audio.shape[1]
        self.tell_marked()
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
        TooLarge: three chunks, which the playing needs, take too much of it.
    """
    channels = sum(port.channels for port in ports)
    chunk_bytes = max(1, math.ceil(channels * 4 * config.chunk_seconds * config.sample_rate))
    if 3 * chunk_bytes > INPUT_BYTES:
        raise TooLarge(
            f"three chunks of output take {3 * chunk_bytes >> 20} MiB, and a session may hold {INPUT_BYTES >> 20}: "
            "choose a shorter chunk, a lower sample rate, or fewer channels"
        )
    return max(3, min(math.ceil(UNREAD_SECONDS / config.chunk_seconds), UNREAD_BYTES // chunk_bytes))
