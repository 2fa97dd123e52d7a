"""What a client changes while it plays: controls, texts, transports and MIDI, put in force chunk by chunk.

What a chunk obeys depends on positions only, never on when a message came or how the audio is cut into blocks, as long
as a change is sent before the audio that it belongs to. Of many changes of one thing before a chunk the last one
counts, and finding it costs a chunk no more than one does.
"""

from __future__ import annotations

import math
import re
import threading
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Generic, TypeAlias, TypeVar

from backline.engine.errors import BadInput, Refused
from backline.engine.keys import Keys
from backline.engine.limits import (
    MIDI_BYTES,
    PENDING_CHANGES,
    PENDING_MIDI_BYTES,
    check_quarters,
    check_sample,
)
from backline.engine.texts import Prepared
from backline.models.stream import Transport

T = TypeVar("T")

NO_TEXTS: Mapping[str, Prepared] = {}
LOG_LENGTH = 65_536  # newest changes that a session remembers, and PENDING_MIDI_BYTES of MIDI
SHORTEST_LOOP = 1 / 64  # quarter notes: a shorter region is none, as hosts have that loop nothing
SAME_SONG_POSITION = 1e-3  # quarter notes within which a transport is where the one before would be; hosts round
# Note off, note on, pressure of a key, controller and pitch bend have two data bytes, program and pressure have one.
CHANNEL_MESSAGES = re.compile(rb"(?:[\x80-\xbf\xe0-\xef][\x00-\x7f]{2}|[\xc0-\xdf][\x00-\x7f])+")


Change: TypeAlias = "tuple[str, float | str] | Transport | bytes"  # a control or text, a transport, MIDI


@dataclass(frozen=True)
class LoggedChange:
    """A control, text, transport or MIDI message and the sample of the session from which it has been in force."""

    at: int
    change: Change


@dataclass(frozen=True)
class Control:
    """A parameter's new value, still to come."""

    position: int | None  # None: with the next chunk
    parameter: str
    value: float


@dataclass(frozen=True)
class Applied:
    """What one chunk has brought into force. Positions are the client's."""

    controls: Mapping[str, float]
    texts: Mapping[str, str]
    transport: tuple[int, Transport] | None
    notes: tuple[tuple[int, bytes], ...]

    def __bool__(self) -> bool:
        return bool(self.controls or self.texts or self.transport or self.notes)


@dataclass(frozen=True)
class LateControls:
    """Controls of one parameter that came after the chunk they were meant for."""

    parameter: str
    count: int
    position: int  # of the first


class Changes:
    """Changes to come, and what is in force. `add_*`: the client's thread; all else: the engine thread."""

    def __init__(self, rate: int, parameters: Mapping[str, float], texts: Mapping[str, Prepared] = NO_TEXTS) -> None:
        self.parameters, self.texts = dict(parameters), dict(texts)
        self.transport: Transport | None = None
        self.new_texts: dict[str, Prepared] = {}  # that came into force with the chunk at hand
        self.notes: list[tuple[int, bytes]] = []  # that the chunk at hand has heard: sample of the take, messages
        self.applied = Applied({}, {}, None, ())  # with the chunk at hand
        self._rate = rate
        self._lock = threading.Lock()  # of all that is to come
        self._controls: _Named[float] = _Named()
        self._texts: _Named[Prepared] = _Named()
        self._transports: _Lane[Transport] = _Lane()
        self._midi: _Lane[bytes] = _Lane()
        self._late_transports: _Lane[tuple[int, Transport]] = _Lane()  # by the chunk that is the first to obey them
        self._late_midi: _Lane[tuple[int, bytes]] = _Lane()
        self._midi_bytes = 0
        self._keys = Keys()
        self._down: list[bytes] = []  # what tells a take that begins which keys are down
        self._newest: Transport | None = None  # that the client has sent
        self._log: deque[tuple[list[tuple[int, Change]], int]] = deque()  # what each chunk brought, and bytes of MIDI
        self._logged, self._logged_bytes = 0, 0

    @property
    def log(self) -> list[LoggedChange]:
        """The newest changes that have been in force, oldest first."""
        return [LoggedChange(at, change) for part, _ in list(self._log) for at, change in part]

    def add_control(self, control: Control) -> None:
        """From the first chunk that starts at or after its position; a later one at the same position replaces it.

        Raises:
            BadInput: a position that no session reaches.
            Refused: too many changes wait already.
        """
        if control.position is not None:
            check_sample(control.position, "control")
        with self._lock:
            self._controls.add(control.position, control.parameter, control.value, self._check_room)

    def add_text(self, name: str, text: Prepared, position: int | None) -> None:
        """As a control: from the first chunk that starts at or after its position, or with the next one.

        Raises:
            Refused: too many changes wait already.
        """
        with self._lock:
            self._texts.add(position, name, text, self._check_room)

    def add_transport(self, position: int, transport: Transport, after: int | None = None) -> Transport | None:
        """From `position` on; one that only says what follows from the one before is no change.

        Args:
            after: a chunk that starts before obeys it no more than if it were not there.

        Returns:
            It, at the seconds of its position; None where it is no change.

        Raises:
            BadInput: a tempo, signature or position that no music has.
            Refused: too many changes wait already.
        """
        check_sample(position, "transport")
        check_sample(after or 0, "the chunk that a transport comes after")
        check_transport(transport)
        # Seconds of the position, not of the session: its time 0 may not be known yet.
        transport = replace(transport, at_seconds=position / self._rate)
        if after is None and self._newest is not None and _follows(self._newest, transport):
            return None
        with self._lock:
            if after is not None:
                self._check_room()
                self._late_transports.add(after, (position, transport))
            elif not self._transports.replace(position, transport):
                self._check_room()
                self._transports.add(position, transport)
        self._newest = transport
        return transport

    def add_midi(self, position: int, data: bytes, after: int | None = None) -> None:
        """Whole MIDI 1.0 channel messages at `position`; `after` as in `add_transport`.

        Raises:
            BadInput: other bytes, more than MIDI_BYTES of them, or a position that no session reaches.
            Refused: too many changes wait already.
        """
        check_sample(position, "midi")
        check_sample(after or 0, "the chunk that midi comes after")
        check_midi(data)
        with self._lock:
            self._check_room(len(data))
            if after is None:
                self._midi.add(position, data)
            else:
                self._late_midi.add(after, (position, data))
            self._midi_bytes += len(data)

    def begin_take(self, before: int, origin: int) -> None:
        """The next chunk is the first of a take whose time 0 lies at `origin`; that of the one before lay at `before`.
        What has been in force stays so, the transport goes on, and the keys that are down are played anew.
        """
        if self.transport is not None:
            seconds = (origin - before) / self._rate
            self.transport = self.transport.moved_to(seconds, zero=seconds)
        self._down = self._keys.told()

    def apply(
        self, origin: int, start: Fraction, previous: Fraction | None, heard: int, until: int | None = None
    ) -> list[LateControls]:
        """Puts in force what the next chunk must obey; returns the controls that were meant for an earlier one.

        Args:
            origin: position of the take's time 0.
            start: sample of the take at which the chunk starts; `previous`: the same of the chunk before.
            heard: samples of the take that the chunk has heard.
            until: position of another take, which what lies there is for.
        """
        first = math.ceil(start)
        # Before the end, not at it: what belongs to the next sample may come with the next block, or just now.
        end, due = origin + max(1, heard), origin + math.floor(start) + 1
        if until is not None:
            end, due = min(end, until), min(due, until)
        with self._lock:
            passed = None if previous is None else origin + math.floor(previous) + 1
            values, late = self._controls.due(origin, due, passed)
            self.new_texts, _ = self._texts.due(origin, due, passed)
            for position, delayed in self._late_transports.take(due)[1]:
                self._transports.add(position, delayed)
            for position, messages in self._late_midi.take(due)[1]:
                self._midi.add(position, messages)
            transports = self._transports.take(end)
            midi = self._midi.take(end)
            midi_bytes = sum(map(len, midi[1]))
            self._midi_bytes -= midi_bytes
        told: tuple[int, Transport] | None = None
        if values:
            self.parameters = {**self.parameters, **values}
            self._remember([(first, item) for item in values.items()])
        if self.new_texts:
            self.texts = {**self.texts, **self.new_texts}
            self._remember([(first, (name, prepared.text)) for name, prepared in self.new_texts.items()])
        if transports[0]:
            position, transport = transports[0][-1], transports[1][-1]
            at_seconds = (position - origin) / self._rate
            if self.transport is None or at_seconds >= self.transport.at_seconds:
                self.transport = replace(transport, at_seconds=at_seconds)
                self._remember([(position - origin, self.transport)])
                told = (position, transport)
        self.notes = [(position - origin, data) for position, data in zip(*midi, strict=True)]
        if self.notes:
            self._remember(list(self.notes), midi_bytes)
        new_texts = {name: prepared.text for name, prepared in self.new_texts.items()}
        self.applied = Applied(values, new_texts, told, tuple(zip(*midi, strict=True)))
        down, self._down = self._down, []
        self.notes = [*((0, data) for data in down), *self.notes]
        for _, data in self.applied.notes:
            self._keys.hear(data)
        return late

    def _check_room(self, midi_bytes: int = 0) -> None:
        """Whether one more change may wait. Under the lock."""
        late = len(self._late_transports) + len(self._late_midi)
        waiting = len(self._transports) + len(self._midi) + len(self._controls) + len(self._texts) + late
        if waiting >= PENDING_CHANGES:
            raise Refused(
                f"{waiting} changes wait in this session, as many as may: send each with the audio that it belongs to"
            )
        if self._midi_bytes + midi_bytes > PENDING_MIDI_BYTES:
            raise Refused(
                f"{self._midi_bytes} bytes of MIDI wait in this session, of {PENDING_MIDI_BYTES}: send each message "
                "with the audio that it belongs to"
            )

    def _remember(self, part: list[tuple[int, Change]], midi_bytes: int = 0) -> None:
        self._log.append((part, midi_bytes))
        self._logged += len(part)
        self._logged_bytes += midi_bytes
        while len(self._log) > 1 and (self._logged > LOG_LENGTH or self._logged_bytes > PENDING_MIDI_BYTES):
            oldest, oldest_bytes = self._log.popleft()
            self._logged -= len(oldest)
            self._logged_bytes -= oldest_bytes


class _Lane(Generic[T]):
    """What is to come of one kind, by position; among equals what came first stands first."""

    def __init__(self) -> None:
        self._positions: list[int] = []
        self._entries: list[T] = []

    def __len__(self) -> int:
        return len(self._positions)

    def add(self, position: int, entry: T) -> None:
        """Costs the more the further from the end it belongs: some 10 us among 65,536."""
        at = bisect_right(self._positions, position)
        self._positions.insert(at, position)
        self._entries.insert(at, entry)

    def replace(self, position: int, entry: T) -> bool:
        """Puts `entry` in the place of the one at `position`; false where there is none."""
        at = bisect_left(self._positions, position)
        if at == len(self._positions) or self._positions[at] != position:
            return False
        self._entries[at] = entry
        return True

    def take(self, end: int) -> tuple[list[int], list[T]]:
        """Positions and entries before `end`, which are taken out; nothing is touched where there are none."""
        if not self._positions or self._positions[0] >= end:
            return [], []
        count = bisect_left(self._positions, end)
        taken = self._positions[:count], self._entries[:count]
        del self._positions[:count], self._entries[:count]
        return taken


class _Named(Generic[T]):
    """Values to come of several names, each with a lane of its own. Under the lock of the changes."""

    def __init__(self) -> None:
        self._at_once: dict[str, T] = {}  # those without a position: the newest of each name
        self._lanes: dict[str, _Lane[T]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def add(self, position: int | None, name: str, value: T, check_room: Callable[[], None]) -> None:
        """Puts `value` in the place of the one at `position`, or adds it where `check_room` does not raise."""
        if position is None:
            self._at_once[name] = value
            return
        lane = self._lanes.setdefault(name, _Lane())
        if not lane.replace(position, value):
            check_room()
            lane.add(position, value)

    def due(self, origin: int, end: int, passed: int | None) -> tuple[dict[str, T], list[LateControls]]:
        """The value of every name that changes with a chunk before `end`, and what came late: before `passed`."""
        values, self._at_once = self._at_once, {}
        late: list[LateControls] = []
        found: list[tuple[int, str, T]] = []
        for name, lane in self._lanes.items():
            positions, given = lane.take(end)
            if not positions:
                continue
            if positions[-1] >= origin or name not in values:  # one without position counts as just before time 0
                found.append((positions[-1], name, given[-1]))
            count = 0 if passed is None else bisect_left(positions, passed)
            if count:
                late.append(LateControls(name, count, positions[0]))
        found.sort(key=lambda entry: entry[0])
        return {**values, **{name: value for _, name, value in found}}, late


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
    check_quarters(transport.song_position, "transport at song position")
    check_quarters(transport.bar_start, "transport with bar start")


def check_midi(data: bytes) -> None:
    """Refuses what is not a row of whole channel messages.

    Raises:
        BadInput: system messages, parts of a message, none, or too many.
    """
    if len(data) > MIDI_BYTES:
        raise BadInput(f"midi data of {len(data)} bytes: send at most {MIDI_BYTES} at once")
    if CHANNEL_MESSAGES.fullmatch(data) is None:
        raise BadInput(
            f"midi data {data[:8].hex(' ') or 'without bytes'}: send whole channel messages, such as 90 3c 64"
        )


def _follows(earlier: Transport, later: Transport) -> bool:
    """Whether `later` is what `earlier` becomes by itself; whole bars further on the bar's start means the same."""
    expected = replace(
        earlier, at_seconds=later.at_seconds, song_position=later.song_position, bar_start=later.bar_start
    )
    # A pass of its loop is news: what is drawn by the song's time is drawn anew from there.
    drift = replace(earlier, loop=None).song_position_at(later.at_seconds) - later.song_position
    bars = (later.bar_start - earlier.bar_start) / earlier.quarters_per_bar
    return (
        later == expected
        and abs(drift) <= SAME_SONG_POSITION
        and abs(bars - round(bars)) * earlier.quarters_per_bar <= SAME_SONG_POSITION
        and (later.playing or later.bar_start == earlier.bar_start)
    )
