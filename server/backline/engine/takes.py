"""A session's takes, one after the other: which of them hears what of the input, and what is heard of each.

A take is what a session of its own would play that is opened at its place, with the parameters, texts and transport of
then. The one before plays on until it has been heard up to there, and FADE_SECONDS more, in which one becomes the
other: it hears that much of what comes after it, so that whatever merely repeats its input is not changed by the fade.

The *client's thread* writes and tells of transports, the *engine thread* plays; what both touch stands under a lock.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from backline.engine.errors import Refused
from backline.engine.limits import INPUT_BYTES, PENDING_CHANGES, check_sample
from backline.engine.seams import Seam, Seams
from backline.engine.take import Take
from backline.engine.timeline import InputTimeline, zero_non_finite
from backline.engine.warnings import Warnings
from backline.models.stream import Audio, Transport

FADE_SECONDS = Fraction(1, 100)  # or a chunk, where that is shorter
MOST = 8  # takes at once of which something is still to be computed: then the client waits


class Takes:
    """Those that are not over."""

    def __init__(self, first: Take, make: Callable[..., Take], warnings: Warnings, *, on_jump: bool) -> None:
        """
        Args:
            make: a further take, from a position `origin` on.
            on_jump: see `Seams`.
        """
        rate, chunk = first.config.sample_rate, first.config.chunk_seconds * first.config.sample_rate
        self.timeline = InputTimeline(rate)
        self.number = 0  # of the one that plays
        self._takes = deque([first])
        self._make, self._warnings = make, warnings
        self._lock = threading.Lock()
        self._seams = Seams(rate, chunk, on_jump)
        self._fade = min(math.ceil(FADE_SECONDS * rate), math.ceil(chunk))
        # Never more than two where the input of each is large.
        self._most = max(2, min(MOST, INPUT_BYTES // max(1, first.input.ring.memory_bytes)))
        self._closed = False
        self._partly: int | None = None  # position of a block of which a part has been taken
        channels = sum(port.channels for port in first.ports)
        self._silence: Audio = np.zeros((channels, 0), np.float32)
        self._sent: int | None = None  # position up to which output has gone out
        self._held = self._tail = self._silence  # what lies behind that, and what the take before plays there

    # ---- the client's thread -------------------------------------------------------------------------

    def write(self, position: int, audio: Audio) -> bool:
        """The next block [channel, sample] at `position`, with silence for what is missing before it and zeros for what
        is not finite; false where there is no room yet for all of it: then call again with the same block.

        Raises:
            BadInput: time goes backwards, or too far ahead.
        """
        taken = self.timeline.end - position if self._partly == position else 0
        gap, filled = self.timeline.gap_before(position + taken), 0
        if self._takes[-1].origin is None:
            with self._lock:
                self._takes[-1].origin = position
                self._plan()
        while gap > filled and (count := self._next(gap - filled)):
            self._feed(np.broadcast_to(np.float32(0.0), (audio.shape[0], count)))
            filled += count
        if filled:
            message = "missing input was filled with silence: send every block"
            self._warnings.warn("input_gap", message, filled, position)
        if filled < gap:
            return False
        while taken < audio.shape[1]:
            to_seam = self._to_seam(audio.shape[1] - taken)
            if to_seam == 0 or self._next(to_seam) < to_seam:
                self._partly = position
                return False
            part, zeroed = zero_non_finite(audio[:, taken : taken + to_seam])
            if zeroed:
                message = "NaN or infinite input samples were set to zero"
                self._warnings.warn("non_finite_input", message, zeroed, position)
            self._feed(part)
            taken += to_seam
        self._partly = None
        return True

    def add_transport(self, position: int, transport: Transport) -> None:
        """A transport that is news: it may begin a take, or tell where one will."""
        with self._lock:
            self._seams.add_transport(self._still(position), transport)
            self._plan()

    def begin(self, seam: Seam) -> None:
        """Asks for a take; one that would begin before the input's end begins there.

        Raises:
            BadInput: at a position that no session reaches.
            Refused: too many wait already.
        """
        for position in (seam.position, seam.heard_from or 0):
            check_sample(position, "take")
        with self._lock:
            if self._seams.waiting >= PENDING_CHANGES:
                raise Refused(f"{self._seams.waiting} takes wait in this session, as many as may: ask for fewer")
            self._seams.add(Seam(self._still(seam.position), seam.heard_from, seam.skipped))
            self._plan()

    def close(self) -> None:
        """The input is complete: takes that were to begin with what would have come do not. Any thread."""
        with self._lock:
            self._closed = True
            self._plan()
            for take in self._takes:
                take.closed = True

    # ---- any thread ----------------------------------------------------------------------------------

    @property
    def playing(self) -> Take:
        return self._takes[0]

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def has_chunk(self) -> bool:
        """Whether all the input is there that the next chunk may wait for."""
        take = self._takes[0]
        if take.heard_from is not None and not (take.received or take.closed):
            # It plays ahead of its own beginning, but no further ahead of the input than it was asked to.
            ahead = math.floor(take.config.visibility_seconds * take.config.sample_rate)
            if self.timeline.end < take.chunk_position + ahead:
                return False
        return take.has_chunk

    @property
    def free(self) -> int:
        """Samples of input that can be written now."""
        with self._lock:
            newest, seam = self._takes[-1], self._takes[-1].seam
            if seam is not None and seam.position <= self.timeline.end:
                return 0 if len(self._takes) >= self._most else newest.input.ring.capacity
            return min((take.input.ring.free for take in self._hearing()), default=newest.input.ring.capacity)

    @property
    def memory_bytes(self) -> int:
        """Of the rings that hold their input."""
        return sum(take.input.ring.memory_bytes for take in tuple(self._takes))

    @property
    def now(self) -> int:
        """Position up to which the client has lived: what it has sent, as far as real time has come."""
        newest = self._takes[-1]
        end = self.timeline.end if newest.frames is None else (newest.origin or 0) + newest.length
        return min(end, (newest.origin or 0) + newest.elapsed)

    # ---- the engine thread ---------------------------------------------------------------------------

    def over(self) -> bool:
        """Whether the take that plays has come to its end, which then stays where it is."""
        with self._lock:
            take = self._takes[0]
            take.fixed = take.fixed or take.over
            return take.fixed

    def next(self) -> Take | None:
        """The take that plays now that the one before is over; None: there is none."""
        with self._lock:
            over = self._takes[0]
            if len(self._takes) == 1:
                if over.seam is None:
                    return None
                self._append(over.seam.position)
            self._takes.popleft()
            self.number += 1
            assert over.until is not None
            assert over.end is not None
            self._sent, self._tail = over.until, self._held[:, : over.end - over.until]
            self._held = self._silence
            self._plan()
            return self._takes[0]

    def join(self, start: int, audio: Audio) -> tuple[int, Audio]:
        """What goes out, and at which position, once the take that plays has made `audio` [channel, sample] final from
        its sample `start` on.
        """
        with self._lock:
            take = self._takes[0]
            position = (take.origin or 0) + start
            if self._sent is None:
                self._sent = position
            behind = self._sent + self._held.shape[1]
            if position < behind:  # what the take before has been heard with
                audio = audio[:, behind - position :]
            elif position > behind and audio.shape[1]:  # what was skipped
                audio = np.pad(audio, ((0, 0), (position - behind, 0)))
            audio = self._faded(take, behind, audio)
            whole = np.concatenate([self._held, audio], axis=1)
            sent = self._sent
            most = whole.shape[1] if take.until is None else max(0, take.until - sent)
            whole, self._held = whole[:, :most], whole[:, most:]
            if self._closed and take.frames is None:
                whole = whole[:, : max(0, self.timeline.end - sent)]
            self._sent = sent + whole.shape[1]
        return sent, whole

    def _faded(self, take: Take, position: int, audio: Audio) -> Audio:
        """`audio` at `position`, where the take before is still heard with both."""
        at = position - (take.heard_from or 0)
        tail = self._tail[:, at : at + audio.shape[1]] if take.heard_from is not None else self._silence
        if not tail.shape[1]:
            return audio
        count = tail.shape[1]
        share = ((at + 1 + np.arange(count)) / (self._tail.shape[1] + 1)).astype(np.float32)
        return np.concatenate([tail + (audio[:, :count] - tail) * share, audio[:, count:]], axis=1)

    # ---- parts ---------------------------------------------------------------------------------------

    def _still(self, position: int) -> int:
        """It, or the input's end where that lies beyond."""
        return position if self.timeline.origin is None else max(position, self.timeline.end)

    def _to_seam(self, count: int) -> int:
        """How much of `count` samples lies before the next take; 0 where that may not begin yet."""
        with self._lock:
            self._enter()
            seam = self._takes[-1].seam
            places = [take.origin for take in self._takes if (take.origin or 0) > self.timeline.end]
            places += [] if seam is None else [seam.position]
            return max(0, min([count, *((place or 0) - self.timeline.end for place in places)]))

    def _next(self, count: int) -> int:
        """How many of `count` samples can be fed at once."""
        count = self._to_seam(count)
        with self._lock:
            return min([count, *(take.room(self.timeline.end, count) for take in self._hearing())])

    def _feed(self, audio: Audio) -> None:
        """Gives input, which has room and is for one take, to all that hear it; where the input has been closed
        meanwhile, it came after its end, up to which what is due may be out already.
        """
        with self._lock:
            if self._closed:
                return
            for take in self._hearing():
                take.feed(self.timeline.end, audio)
            self.timeline.advance(audio.shape[1])
            self._seams.forget(self.timeline.end)

    def _hearing(self) -> list[Take]:
        """Those that hear what comes next."""
        end = self.timeline.end
        return [
            take for take in self._takes
            if take.origin is None or (take.origin <= end and (take.end is None or end < take.end))
        ]  # fmt: skip

    def _enter(self) -> None:
        """Begins the take whose place the input has come to, where there may be another one."""
        newest = self._takes[-1]
        if newest.seam is not None and newest.seam.position <= self.timeline.end and len(self._takes) < self._most:
            self._append(newest.seam.position)
            self._plan()

    def _append(self, position: int) -> None:
        before = self._takes[-1]
        take = self._make(origin=position)
        take.follow(before)
        take.closed = self._closed
        self._takes.append(take)

    def _plan(self) -> None:
        """Finds where the newest take ends; one that has not begun, and would begin elsewhere, is made anew."""
        end = self.timeline.end
        while len(self._takes) > 1 and (self._takes[-1].origin or 0) > end and not self._takes[-2].fixed:
            self._takes.pop()
        newest = self._takes[-1]
        if (
            newest.origin is None
            or newest.fixed
            or (self._closed and newest.seam is not None and newest.seam.position < end)
        ):
            return
        seam = None if self._closed else self._seams.after(newest.origin, end)
        heard = [newest.heard_from or newest.origin]
        if newest.heard_from is not None:
            heard.append(newest.heard_from + self._fade)
        if newest is self._takes[0] and self._sent is not None:
            heard.append(self._sent)
        newest.finish(seam, max(heard), self._fade)
