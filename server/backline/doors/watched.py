"""A session as a door sees it: whoever opened it, it can be looked at and steered."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

from backline.doors.levels import Levels
from backline.doors.sample_clock import SampleClock
from backline.engine.audience import News
from backline.engine.clock import Clock
from backline.engine.errors import BadInput, NotFound
from backline.engine.events import Failed, InputBlock, OutputBlock, Warned
from backline.engine.limits import quoted
from backline.engine.session import Session, State
from backline.engine.timeline import zero_non_finite
from backline.models.stream import Heard, Parameter, Transport

HEARD = 256  # events that wait for the door's next look, as far as they take no more than
HEARD_BYTES = 8 << 20
CHUNKS = 512  # whose latency is remembered
AHEAD = 1_024  # chords that wait for being heard
TEMPO = 120.0  # that a transport begins with of which nobody has said one
SENT = 16  # transports of doors that are remembered
TAPS = 8  # newest, of which the tempo is taken
TAP_SECONDS = 2.0  # after which the next tap is a first one


@dataclass(frozen=True)
class Beat:
    """Where in its bar a transport is."""

    beat: int  # from 1
    phase: float  # of the beat, 0 to 1


class Watched:
    """One session under its short name. All runs on the door's thread, but where it says otherwise."""

    def __init__(self, session: Session, name: str, clock: Clock) -> None:
        rate = session.config.sample_rate
        self.session, self.name = session, name
        self.clock = SampleClock(rate)
        self.input_level = Levels(rate)
        self.levels = {port.name: Levels(rate) for port in session.ports}
        self.parameters = {parameter.name: parameter for parameter in session.spec.parameters}
        self.warning: Warned | None = None  # the newest
        self.failure: Exception | None = None
        self.chord = ""  # that the model plays by, as it is heard; "": it has told none
        self.heir = ""  # name of the session that its client has gone over to
        self.chunk_latency_seconds = 0.0  # of the newest chunk, from the capture of its first sample to its arrival
        self.chunk_latencies: deque[tuple[float, float]] = deque(maxlen=CHUNKS)  # of the newest: when by the clock, s
        self._now = clock
        self._end: int | None = None  # of the newest input
        self._ahead: deque[Heard] = deque(maxlen=AHEAD)
        self._beat: Transport | None = None  # that the model hears
        self._heard: deque[tuple[float, News]] = deque(maxlen=waiting_events(session))
        self._sent: tuple[Transport, ...] = ()  # by doors, the newest, in the session's seconds
        self._taps: list[float] = []  # by the clock
        session.listen(self._hear)

    def _hear(self, event: News) -> None:
        """The engine's and the client's thread: notes the event and the time, nothing more."""
        if isinstance(event, InputBlock):
            self._end = event.position + event.audio.shape[1]
        self._heard.append((self._now(), event))

    def leave(self) -> None:
        """Nobody looks any more. Any thread."""
        self.session.unlisten(self._hear)
        self._heard.clear()

    @property
    def open(self) -> bool:
        """Whether it still plays."""
        return self.session.state is not State.CLOSED

    @property
    def position(self) -> int:
        """Of the next input sample."""
        return self.session.origin if self._end is None else self._end

    @property
    def captured(self) -> int:
        """The sample of the input that comes now, as far as its arrivals tell."""
        return self.clock.position_at(self._now()) if self.clock.runs else self.position

    def look(self) -> None:
        """Takes in what has happened since the last look."""
        while self._heard:
            seconds, event = self._heard.popleft()
            match event:
                case InputBlock():
                    self.clock.observe(seconds, event.position + event.audio.shape[1])
                    self.input_level.add(event.position, zero_non_finite(event.audio)[0])
                case OutputBlock():
                    self.levels[self.session.ports[event.port].name].add(event.position, event.audio)
                    if event.port == 0 and self.clock.runs:
                        self.chunk_latency_seconds = seconds - self.clock.seconds_at(event.position)
                        self.chunk_latencies.append((seconds, self.chunk_latency_seconds))
                case Heard():
                    self._ahead.append(event)
                    self._beat = event.transport
                case Warned():
                    self.warning = event
                case Failed():
                    self.failure = event.error
        self.input_level.look(self.position)
        for levels in self.levels.values():
            levels.look(self.position - self.session.ledger.latency_samples)
        sounding = self._seconds(self.captured - self.session.ledger.latency_samples)
        while self._ahead and self._ahead[0].at_seconds <= sounding:
            self.chord = self._ahead.popleft().chord

    def tap(self, seconds: float) -> Callable[[Transport], Transport] | None:
        """A beat is at `seconds` by the clock; from the second on, what that makes of the transport."""
        if self._taps and not 0.0 < seconds - self._taps[-1] <= TAP_SECONDS:
            self._taps = []
        self._taps = [*self._taps[1 - TAPS :], seconds]
        if len(self._taps) < 2:
            return None
        beats_a_minute = 60.0 / statistics.median(after - before for before, after in pairwise(self._taps))

        def tapped(now: Transport) -> Transport:
            beat = 4.0 / now.denominator
            place = round(now.song_position / beat) * beat
            return replace(now, playing=True, tempo=beats_a_minute * beat, song_position=place)

        return tapped

    # ---- changes: on the session's client's thread ---------------------------------------------------

    def set_parameter(self, name: str, value: float | str, position: int | None) -> None:
        """By its value, or by what that is called.

        Raises:
            NotFound, BadInput, Refused: see `Session.control`.
        """
        self._check_steerable()
        if isinstance(value, str):
            value = self._value_called(name, value)
        self.session.control(name, value, position)

    def set_normalised(self, name: str, share: float, position: int | None) -> None:
        """By its place between minimum and maximum, 0 to 1."""
        if not 0.0 <= share <= 1.0:
            raise BadInput(f"{name!r} is {share:g} of its range: use 0 to 1")
        parameter = self.parameters[name]
        value = parameter.minimum + share * (parameter.maximum - parameter.minimum)
        self.set_parameter(name, float(round(value)) if parameter.integer else value, position)

    def set_text(self, name: str, text: str, position: int | None) -> None:
        """See `Session.set_text`."""
        self._check_steerable()
        self.session.set_text(name, text, position)

    def change_transport(self, position: int | None, change: Callable[[Transport], Transport]) -> tuple[int, Transport]:
        """Puts `change` of what holds at `position` (None: now) in force there; tells where, and what that is.

        Raises:
            BadInput, Refused: see `Session.set_transport`.
        """
        self._check_steerable()
        position = self.position if position is None else position
        changed = change(self.transport_at(position))
        self.session.set_transport(
            position,
            playing=changed.playing,
            tempo=changed.tempo,
            numerator=changed.numerator,
            denominator=changed.denominator,
            song_position=changed.song_position,
            bar_start=changed.bar_start,
        )
        self._sent = (*self._sent[1 - SENT :], replace(changed, at_seconds=self._seconds(position)))
        return position, changed

    # ---- what holds ----------------------------------------------------------------------------------

    def transport_at(self, position: int) -> Transport:
        """What holds at `position`, be it the host's or a door's: a transport of that moment."""
        seconds, held = self._seconds(position), self.session.take.changes.transport
        told = [each for each in (held, *self._sent) if each is not None and each.at_seconds <= seconds]
        if not told:
            return Transport(seconds, False, TEMPO)
        newest = sorted(told, key=lambda transport: transport.at_seconds)[-1]  # of several at one sample the last
        return replace(newest, at_seconds=seconds, song_position=newest.song_position_at(seconds))

    def beat(self) -> Beat | None:
        """Of the input that comes now, by the transport that plays, or else by what the model hears; None: neither."""
        told = self.transport_at(self.position)
        transport = told if told.playing else self._beat
        if transport is None:
            return None
        beats = transport.bar_phase_at(self._seconds(self.captured)) * transport.numerator
        return Beat(int(beats) % transport.numerator + 1, beats % 1.0)

    def value(self, name: str) -> float:
        """Of a parameter, as it is in force."""
        return self.session.take.changes.parameters[name]

    def normalised(self, name: str) -> float:
        """Of a parameter: its place between minimum and maximum."""
        parameter = self.parameters[name]
        reach = parameter.maximum - parameter.minimum
        return (self.value(name) - parameter.minimum) / reach if reach else 0.0

    def _seconds(self, position: int) -> float:
        """Session time of a position."""
        return (position - self.session.origin) / self.session.config.sample_rate

    def _check_steerable(self) -> None:
        if self.session.config.offline:
            raise BadInput("a render depends on nothing but what its client sends: only live sessions are steered")

    def _value_called(self, name: str, label: str) -> float:
        parameter = self.parameters[name]
        if label not in parameter.labels:
            known = ", ".join(parameter.labels) or "a number"
            raise NotFound(f"parameter {name!r} has no value called {quoted(label)}: use {known}")
        return parameter.minimum + parameter.labels.index(label)


def jump(transport: Transport, song_position: float) -> Transport:
    """The transport moved to `song_position`, whose bar lines stay where they are."""
    if not math.isfinite(song_position):
        raise BadInput(f"song position {song_position}: use a number of quarter notes")
    bars = math.floor((song_position - transport.bar_start) / transport.quarters_per_bar)
    return replace(
        transport,
        song_position=song_position,
        bar_start=transport.bar_start + bars * transport.quarters_per_bar,
    )


def described(parameter: Parameter) -> str:
    """What a controller shows beside a parameter."""
    labels = ", ".join(f"{parameter.minimum + index:g} {label}" for index, label in enumerate(parameter.labels))
    return " ".join(part for part in (parameter.description, f"({labels})" if labels else "") if part)


def waiting_events(session: Session) -> int:
    """How many of a session's events may wait, however large its blocks are."""
    config = session.config
    chunk = max(port.channels for port in session.ports) * float(config.chunk_seconds) * config.sample_rate
    largest = 4 * max(config.channels * session.block_size, chunk)
    return max(4, min(HEARD, int(HEARD_BYTES / largest)))
