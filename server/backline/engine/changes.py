"""What a client changes while it plays: controls, transports and MIDI, put in force chunk by chunk.

What a chunk obeys depends on positions only, never on when a message came or how the audio is cut into blocks, as long
as a change is sent before the audio that it belongs to.
"""

from __future__ import annotations

import bisect
import math
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from backline.engine.errors import BadInput
from backline.models.stream import Transport

LOG_LENGTH = 65_536  # newest changes that a session remembers
MIDI_SIZES = {0x8: 3, 0x9: 3, 0xA: 3, 0xB: 3, 0xC: 2, 0xD: 2, 0xE: 3}  # bytes, by the upper half of the first
SAME_SONG_POSITION = 1e-4  # quarter notes within which a transport is where the one before would be


@dataclass(frozen=True)
class LoggedChange:
    """A control, transport or MIDI message and the sample of the session from which it has been in force."""

    at: int
    change: tuple[str, float] | Transport | bytes


@dataclass(frozen=True)
class Control:
    """A parameter's new value, still to come."""

    position: int | None  # None: with the next chunk
    parameter: str
    value: float


class Changes:
    """Changes to come, and what is in force. `add_*`: the client's thread; all else: the engine thread."""

    def __init__(self, rate: int, parameters: Mapping[str, float]) -> None:
        self.parameters = dict(parameters)
        self.transport: Transport | None = None
        self.log: deque[LoggedChange] = deque(maxlen=LOG_LENGTH)
        self._rate = rate
        self._lock = threading.Lock()
        self._controls: list[Control] = []  # as they came
        self._transports: list[tuple[int, Transport]] = []  # by position
        self._newest: Transport | None = None  # that the client has sent
        self._midi: list[tuple[int, bytes]] = []  # by position

    def add_control(self, control: Control) -> None:
        """From the first chunk that starts at or after its position."""
        with self._lock:
            self._controls.append(control)

    def add_transport(self, position: int, transport: Transport) -> None:
        """From `position` on; one that only says what follows from the one before is no change.

        Raises:
            BadInput: a tempo, signature or song position that no music has.
        """
        check_transport(transport)
        # Seconds of the position, not of the session: its time 0 may not be known yet.
        transport = replace(transport, at_seconds=position / self._rate)
        if self._newest is not None and _follows(self._newest, transport):
            return
        self._newest = transport
        with self._lock:
            bisect.insort(self._transports, (position, transport), key=lambda entry: entry[0])

    def add_midi(self, position: int, data: bytes) -> None:
        """Whole MIDI 1.0 channel messages at `position`.

        Raises:
            BadInput: other bytes.
        """
        check_midi(data)
        with self._lock:
            bisect.insort(self._midi, (position, data), key=lambda entry: entry[0])

    def apply(self, origin: int, start: Fraction, previous: Fraction | None, heard: int) -> list[Control]:
        """Puts in force what the next chunk must obey; returns the controls that were meant for an earlier one.

        Args:
            origin: position of the session's time 0.
            start: sample of the session at which the chunk starts; `previous`: the same of the chunk before.
            heard: samples of the session that the chunk has heard.
        """
        with self._lock:
            due = [c for c in self._controls if c.position is None or c.position - origin <= start]
            self._controls = [c for c in self._controls if c not in due]
            # Before the end, not at it: what belongs to the next sample may come with the next block, or just now.
            end = origin + max(1, heard)
            count = bisect.bisect_left(self._transports, end, key=lambda entry: entry[0])
            transports, self._transports = self._transports[:count], self._transports[count:]
            count = bisect.bisect_left(self._midi, end, key=lambda entry: entry[0])
            midi, self._midi = self._midi[:count], self._midi[count:]
        due.sort(key=lambda c: origin - 1 if c.position is None else c.position)
        for control in due:
            self.parameters = {**self.parameters, control.parameter: control.value}
            self.log.append(LoggedChange(math.ceil(start), (control.parameter, control.value)))
        for position, transport in transports:
            at_seconds = (position - origin) / self._rate
            if self.transport is None or at_seconds >= self.transport.at_seconds:
                self.transport = replace(transport, at_seconds=at_seconds)
                self.log.append(LoggedChange(position - origin, self.transport))
        self.log.extend(LoggedChange(position - origin, data) for position, data in midi)
        if previous is None:
            return []
        return [c for c in due if c.position is not None and c.position - origin <= previous]


def check_transport(transport: Transport) -> None:
    """Refuses what no music has.

    Raises:
        BadInput: an impossible tempo, signature or song position; the message names it.
    """
    tempo, numerator, denominator = transport.tempo, transport.numerator, transport.denominator
    if not (0 < tempo < 1000 and 0 < numerator <= 64 and denominator in (1, 2, 4, 8, 16, 32, 64)):
        raise BadInput(
            f"transport with tempo {tempo:g} and signature {numerator}/{denominator}: use a tempo up to 999 and a "
            "signature such as 6/8"
        )
    if not (math.isfinite(transport.song_position) and math.isfinite(transport.bar_start)):
        raise BadInput(
            f"transport at song position {transport.song_position}, bar start {transport.bar_start}: use finite numbers"
        )


def check_midi(data: bytes) -> None:
    """Refuses what is not a row of whole channel messages.

    Raises:
        BadInput: system messages, parts of a message, or none.
    """
    at = 0
    while at < len(data):
        size = MIDI_SIZES.get(data[at] >> 4, 0)
        if size == 0 or at + size > len(data) or any(byte > 127 for byte in data[at + 1 : at + size]):
            break
        at += size
    if at < len(data) or not data:
        raise BadInput(
            f"midi data {data[:8].hex(' ') or 'without bytes'}: send whole channel messages, such as 90 3c 64"
        )


def _follows(earlier: Transport, later: Transport) -> bool:
    """Whether `later` is what `earlier` becomes by itself."""
    expected = replace(earlier, at_seconds=later.at_seconds, song_position=later.song_position)
    drift = earlier.song_position_at(later.at_seconds) - later.song_position
    return later == expected and abs(drift) <= SAME_SONG_POSITION
