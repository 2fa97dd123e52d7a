"""What leads a live session beside its audio: notes and knobs by MIDI, and a beat by MIDI clock or Ableton Link.

A thread of its own does all of it. The sound card's thread only notes when its blocks came (`Arrival`).
"""

from __future__ import annotations

import queue
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from backline.cli.ableton_link import AbletonLink, link_package
from backline.cli.arrival import Arrival
from backline.cli.beat import Beat, Metre, ToldBeat
from backline.cli.console import UserError, console, error_console, labelled
from backline.cli.midi_clock import MidiClock
from backline.cli.midi_in import INBOX, MidiInputs, MidiPort, Received, rtmidi_package
from backline.doors.sample_clock import SampleClock
from backline.engine.changes import CHANNEL_MESSAGES
from backline.engine.keys import CONTROLLER, NOTES_OFF, RESET
from backline_client import BacklineError, Client, Control

if TYPE_CHECKING:
    from backline.cli.scenes import Scene
    from backline_protos.v1 import backline_pb2 as pb

LOOK_SECONDS = 0.02  # between looks at the beat; also how long a block's arrival may wait
PORTS_SECONDS = 1.0  # between looks for what has been unplugged
MOST_MESSAGES = 4_000  # a second that are passed on: more is no music, and a session takes only so many
TOGETHER_SECONDS = 0.1  # end-to-end latency up to which the band plays along, and does not answer
ROUND_TRIPS = 256  # newest, whose median counts
PROGRAM = 0xC0
TICK, ACTIVE = 0xF8, 0xFE  # that come all the time
SYSTEM = {0xF2: "song position", 0xFA: "start", 0xFB: "continue", 0xFC: "stop", 0xFF: "reset"}
KINDS = {0x80: "note off", 0x90: "note", 0xA0: "pressure", 0xB0: "controller", 0xC0: "programme", 0xD0: "pressure",
         0xE0: "bend"}  # fmt: skip
CONTROLLERS = 120  # those from there on are the channel's own matter
LEARNED, REFUSED = "learned", "learn refused"  # labels of what is told of controllers, see doors/live.py


@dataclass(frozen=True)
class Knob:
    """A controller and the parameter that follows it."""

    controller: int
    parameter: str
    minimum: float
    maximum: float
    integer: bool = False

    def value(self, position: int) -> float:
        """At 0 to 127, linearly."""
        value = self.minimum + position / 127.0 * (self.maximum - self.minimum)
        return float(round(value)) if self.integer else value


def parse_map(said: Sequence[str]) -> dict[int, str]:
    """`cc1=guidance` texts as controllers and the parameters they move.

    Raises:
        UserError: that is none, or a controller is given twice.
    """
    parsed: dict[int, str] = {}
    for text in said:
        controller, _, name = text.partition("=")
        digits = controller.strip().lower().removeprefix("cc")
        if not (digits.isascii() and digits.isdecimal() and int(digits) < 120 and name.strip()):
            raise UserError(f"--map {text!a}: use ccNUMBER=PARAMETER with a number from 0 to 119, as in cc1=guidance")
        if int(digits) in parsed:
            raise UserError(f"--map gives controller {digits} twice: give each once")
        parsed[int(digits)] = name.strip()
    return parsed


def knobs_of(pack: pb.Pack, wanted: Mapping[int, str], task: str = "") -> dict[int, Knob]:
    """The controllers with the ranges of what they move.

    Args:
        task: of the pack; none: its first, where it has any.

    Raises:
        UserError: the pack has no such parameter, or none that may change while it plays.
    """
    chosen = next((each for each in pack.tasks if task in ("", each.name)), None)
    offered = {
        each.name: each
        for each in pack.parameters
        if each.automatable and (chosen is None or each.name in chosen.parameters)
    }
    for name in wanted.values():
        if name not in offered:
            there = ", ".join(offered) or "none"
            raise UserError(f"--map: {pack.name} has no parameter {name!r} that may change while it plays: use {there}")
    return {
        number: Knob(number, name, offered[name].minimum, offered[name].maximum, offered[name].integer)
        for number, name in wanted.items()
    }


def packs_of(client: Client, scenes: Iterable[Scene]) -> list[tuple[pb.Pack, str]]:
    """The packs of these scenes, each with the task that it plays."""
    asked = dict.fromkeys((scene.pack, scene.options.get("task", "")) for scene in scenes)
    return [(client.pack(name), task) for name, task in asked]


def common_knobs(packs: Iterable[tuple[pb.Pack, str]], wanted: Mapping[int, str]) -> dict[int, Knob]:
    """The controllers with the ranges of what they move, in all these packs and tasks.

    Raises:
        UserError: one of them lacks a parameter that a controller is to move, or means other numbers by it.
    """
    first, knobs = "", dict[int, Knob]()
    for pack, task in packs:
        found = knobs_of(pack, wanted, task)
        if first and found != knobs:
            raise UserError(f"--map: {first} and {pack.name} give a parameter other ranges: map what is alike")
        first, knobs = first or pack.name, found
    return knobs


@dataclass(frozen=True)
class Leads:
    """What was asked to lead a session."""

    ports: list[MidiPort]
    inbox: queue.Queue[Received]
    mapped: dict[int, str]
    metre: Metre
    tempo: float | None
    link: bool
    learned: tuple[str, ...] = ()  # parameters that wait for a controller

    @classmethod
    def at(
        cls,
        ports: Sequence[str],
        mapped: Sequence[str],
        learned: Sequence[str],
        link: bool,
        tempo: float | None,
        signature: str,
    ) -> Leads:
        """What the command's options say, known to be there before anything plays.

        Raises:
            UserError: a port is missing, or a text means nothing.
        """
        for option, given in (("--map", mapped), ("--learn", learned)):
            if given and not ports:
                raise UserError(f"{option} moves parameters by MIDI: name its port with --midi-in")
        inbox: queue.Queue[Received] = queue.Queue(INBOX)
        opened: list[MidiPort] = []
        if ports:
            inputs = MidiInputs(rtmidi_package())
            opened = [MidiPort(inputs, wanted, inbox) for wanted in ports]
        if link:
            link_package()
        numerator, _, denominator = signature.partition("/")
        metre = Metre(int(numerator), int(denominator))
        return cls(opened, inbox, parse_map(mapped), metre, tempo, link, tuple(learned))

    def conducting(
        self,
        client: Client,
        scenes: Sequence[Scene],
        session: Led,
        rate: int,
        arrivals: deque[Arrival],
        program: Callable[[int], None] | None = None,
        playing: Callable[[], list[tuple[pb.Pack, str]]] | None = None,
    ) -> AbstractContextManager[Conductor | None]:
        """Leads the session as long as the block.

        Args:
            scenes: that it plays, one after the other.
            program: called with the number, from 1, of the MIDI programme that is chosen; of several in a moment, the
                last.
            playing: the packs, with their tasks, that play or come now, where those may be others than the scenes'.

        Raises:
            UserError: a scene lacks a parameter that a controller is to move, or means other numbers by it.
        """
        if not self.ports and not self.link:
            return nullcontext()
        packs = packs_of(client, scenes)
        # Without a set list it has no scene that may come again, once it plays another pack.
        lasting = packs if playing is None or scenes[0].name else []

        def knob(number: int, name: str) -> Knob:
            return common_knobs([*lasting, *(playing() if playing is not None else ())], {number: name})[number]

        return Conductor(
            session, rate, arrivals, inbox=self.inbox, ports=self.ports, knobs=common_knobs(packs, self.mapped),
            knob=knob, learned=self.learned,
            takes_notes=any(pack.takes_notes for pack, _ in packs), metre=self.metre, program=program,
            link=AbletonLink(self.tempo, self.metre.quarters_per_bar) if self.link else None,
        )  # fmt: skip


class Beats(Protocol):
    """Whatever has a beat."""

    @property
    def beat(self) -> Beat | None: ...


class Led(Protocol):
    """A session, or what plays several (stage.py)."""

    @property
    def position(self) -> int: ...

    @property
    def latency_samples(self) -> int: ...

    def change(self, change: Any) -> None: ...

    def midi_live(self, position: int, data: bytes) -> object: ...


class Conductor:
    """Leads one session from `start` to `stop`. What it hears of a port or of Link it tells on the terminal."""

    def __init__(
        self,
        session: Led,
        rate: int,
        arrivals: deque[Arrival],
        *,
        inbox: queue.Queue[Received],
        ports: Sequence[MidiPort] = (),
        knobs: Mapping[int, Knob] | None = None,
        knob: Callable[[int, str], Knob] | None = None,
        learned: Sequence[str] = (),
        takes_notes: bool = True,
        link: AbletonLink | None = None,
        metre: Metre | None = None,
        program: Callable[[int], None] | None = None,
    ) -> None:
        """
        Args:
            rate: of the session, in Hz.
            arrivals: of its blocks; another thread appends them.
            inbox: into which the ports put what they receive.
            knobs: by the number of the controller.
            knob: makes one of a controller and a parameter; raises UserError where there is no such parameter.
            learned: parameters that the next controllers which move shall lead, one after the other.
            takes_notes: whether the pack does.
            link: leads in the place of every MIDI clock.
            program: see `Leads.conducting`; without, programmes are notes' matter.
        """
        self._session, self._rate, self._arrivals, self._inbox = session, rate, arrivals, inbox
        self._ports, self._takes_notes, self._link = list(ports), takes_notes, link
        self._knobs: Mapping[int, Knob] = {**(knobs or {})}  # replaced whole: others look at it
        self._knob, self._learning = knob, deque[str]()  # parameters that wait for a controller
        self._stood: dict[int, int] = {}  # where controllers have stood since one is waited for
        self._taken: frozenset[int] = frozenset()  # controllers that have been learned since then, and may move on
        self._newest_message: Received | None = None
        for parameter in learned:
            self._await_controller(parameter)
        self._program = program
        self._clock = SampleClock(rate)
        self._round_trips: deque[float] = deque(maxlen=ROUND_TRIPS)
        self._told = ToldBeat(rate, metre or Metre())
        self._clocks = {port: MidiClock() for port in ports}
        self._leader: MidiClock | None = None  # the one that was started last
        self._said: set[str] = set()  # what is told once
        self._lost = dict.fromkeys(ports, 0)
        self._second, self._messages = 0, 0  # that were passed on in it
        self._playing: set[int] = set()  # channels on which there have been notes
        self._chosen: int | None = None  # MIDI programme, from 1, that is to be told
        self._newest = 0  # position of what was played last
        self._peers = 0
        self._looked = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="conductor", daemon=True)

    # ---- any thread --------------------------------------------------------------------------------------

    def learn(self, parameter: str) -> None:
        """The next controller that moves shall lead `parameter`, and no other that was waited for; "": none. Tells of
        it, or why not. Any thread.
        """
        self._learning.clear()
        self._stood, self._taken = {}, frozenset()
        try:
            if parameter:
                self._await_controller(parameter)
        except UserError as error:
            self._refuse(error)

    def mapped(self) -> dict[int, str]:
        """The parameters that are led, by their controllers: those that were learned, too. Any thread."""
        return {number: knob.parameter for number, knob in self._knobs.items()}

    def figures(self) -> dict[str, Any]:
        """What there is of MIDI, for whoever shows it: ports, the newest message, what is mapped, what is awaited."""
        newest = self._newest_message
        return {
            "ports": [{"name": port.name, "open": port.is_open} for port in self._ports],
            "newest": "" if newest is None else f"{described(newest.message)} from {newest.port.name}",
            "map": [mapping(knob) for knob in self._knobs.values()],
            "learning": list(self._learning),
        }

    def __enter__(self) -> Conductor:
        try:
            for port in self._ports:
                port.open()
        except BaseException:
            self._close()
            raise
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._close()

    def _close(self) -> None:
        for port in self._ports:
            port.close()
        if self._link is not None:
            self._link.close()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self.turn(time.monotonic(), LOOK_SECONDS)
            except BacklineError:
                return  # whoever plays the session tells of its end
            except Exception as error:  # of one turn: what comes after it is heard
                self._tell_once(f"something was passed over, which is our fault ({error!r})", "our fault")

    def turn(self, now: float, wait: float = 0.0) -> None:
        """Passes on what has come, then looks at the beat and, now and then, for the ports."""
        heard = self._received(wait)
        self._take_arrivals()
        moved: dict[str, float] = {}
        for received in heard:
            self._hear(received, moved)
        if self._chosen is not None and self._program is not None:
            chosen, self._chosen = self._chosen, None
            self._program(chosen)
        for name, value in moved.items():
            self._session.change(Control(name, value))
        self._tell_beat(now)
        if now - self._looked >= PORTS_SECONDS:
            self._looked = now
            self._look(now)

    def _received(self, wait: float) -> list[Received]:
        heard: list[Received] = []
        try:
            heard.append(self._inbox.get(timeout=wait) if wait else self._inbox.get_nowait())
            while len(heard) < self._inbox.maxsize:
                heard.append(self._inbox.get_nowait())
        except queue.Empty:
            pass
        return heard

    def _take_arrivals(self) -> None:
        while self._arrivals:
            arrival = self._arrivals.popleft()
            self._clock.observe(arrival.seconds, arrival.end)
            if arrival.round_trip is not None:
                self._round_trips.append(arrival.round_trip)

    # ---- notes and knobs ---------------------------------------------------------------------------------

    def _hear(self, received: Received, moved: dict[str, float]) -> None:
        port, message, seconds = received
        if message and message[0] not in (TICK, ACTIVE):
            self._newest_message = received
        if message and message[0] >= 0xF0:
            clock = self._clocks[port]
            clock.hear(message, seconds, port.lost)
            if clock.begins:
                self._leader = clock
            if clock.lost_place and self._link is None:
                self._tell_once(f"{port.name} ticks, but has not said where its bars begin: stop and start it")
        elif self._program is not None and len(message) == 2 and message[0] & 0xF0 == PROGRAM:
            self._chosen = message[1] + 1
        elif CHANNEL_MESSAGES.fullmatch(message):
            if self._learning and message[0] & 0xF0 == CONTROLLER:
                self._learn_from(port, message[1], message[2])
            knob = self._knobs.get(message[1]) if message[0] & 0xF0 == CONTROLLER else None
            if knob is not None:
                moved[knob.parameter] = knob.value(message[2])
            else:
                self._play(message, seconds)

    def _await_controller(self, parameter: str) -> None:
        if self._knob is None:
            raise UserError("this session has no parameters to be led by a controller")
        self._knob(0, parameter)  # which says what is wrong with it
        self._learning.append(parameter)
        self._tell(f"move a knob or fader: the first that moves leads {parameter}")

    def _learn_from(self, port: MidiPort, controller: int, value: int) -> None:
        """A controller has told where it stands. It moves once it tells another place: many tell theirs by themselves,
        when they are switched on, or with a programme.
        """
        if controller >= CONTROLLERS or controller in self._taken:
            return
        if self._stood.setdefault(controller, value) == value:
            return
        assert self._knob is not None
        try:
            parameter = self._learning.popleft()
        except IndexError:  # another thread has just said that none is to be waited for
            return
        self._stood = {}
        try:
            knob = self._knob(controller, parameter)
        except UserError as error:  # what plays has changed meanwhile
            self._refuse(error)
            return
        self._taken |= {controller}
        self._knobs = {**self._knobs, controller: knob}
        error_console.print(labelled(LEARNED, mapping(knob), "green"), soft_wrap=True)
        self._tell(f"cc{controller} of {port.name} leads {parameter}; next time, --map {mapping(knob)}")

    def _refuse(self, error: UserError) -> None:
        error_console.print(labelled(REFUSED, str(error), "yellow"), soft_wrap=True)

    def _play(self, messages: bytes, seconds: float) -> None:
        """Into the session, at the sample that was captured then; what is late, with the next one."""
        if not self._takes_notes:
            self._tell_once("this pack takes no notes: they are passed over")
            return
        second, self._messages = int(seconds), self._messages + 1
        if second != self._second:
            self._second, self._messages = second, 1
        if self._messages > MOST_MESSAGES:
            self._tell_once(f"more than {MOST_MESSAGES} messages a second: what is beyond is passed over")
            return
        self._playing.add(messages[0] & 0x0F)
        captured = self._clock.position_at(seconds) if self._clock.runs else 0
        self._newest = max(self._newest, captured)
        self._session.midi_live(captured, messages)

    def _release(self) -> None:
        """All keys, since nobody will tell any more which have been let go of; the pedal first, which would hold them.

        Not before what was played last, which may lie in a block that is still to come.
        """
        if self._playing:
            off = b"".join(
                bytes([CONTROLLER | channel, RESET, 0, CONTROLLER | channel, NOTES_OFF, 0])
                for channel in sorted(self._playing)
            )
            self._session.midi_live(self._newest, off)
            self._playing.clear()

    # ---- the beat ----------------------------------------------------------------------------------------

    def _tell_beat(self, now: float) -> None:
        source: Beats | None = self._link or self._leader
        beat = None if source is None else source.beat
        if beat is None or not self._clock.runs:
            return
        position = max(self._clock.position_at(now), self._session.position)
        news = self._told.news(beat, position, self._clock.seconds_at(position) + self._heard_after)
        if news is not None:
            self._session.change(news)

    @property
    def _heard_after(self) -> float:
        """Seconds after a sample's capture at which its beat is meant.

        Where the band plays along it must be heard on the beat; where it answers, later than anybody could play along
        with, its beat is that of the voice that it answers.
        """
        latency = self._session.latency_samples / self._rate
        if not self._round_trips or latency > TOGETHER_SECONDS:
            return 0.0
        return latency + statistics.median(self._round_trips)

    # ---- what comes and goes -----------------------------------------------------------------------------

    def _look(self, now: float) -> None:
        for port in self._ports:
            there = port.look()
            if there is False:
                self._tell(f"{port.name} is gone: was it unplugged? It is looked for")
                self._release()
            elif there:
                self._tell(f"{port.name} is there again")
            if port.lost > self._lost[port]:
                self._tell(f"{port.lost - self._lost[port]} messages of {port.name} came too fast and are lost")
                self._lost[port] = port.lost
                self._release()
            if self._link is None and self._clocks[port].silent_since(now):
                self._tell_once(f"{port.name} gives no clock any more: the band keeps its tempo")
        if self._link is not None and self._link.peers != self._peers:
            self._peers = self._link.peers
            beat = self._link.beat
            console.print(f"Link: {self._peers} other programs" + ("" if beat is None else f", {beat.tempo:g} BPM"))

    def _tell_once(self, text: str, about: str = "") -> None:
        """`about`: what it is of, where the text is ever another one."""
        if (about or text) not in self._said:
            self._said.add(about or text)
            self._tell(text)

    def _tell(self, text: str) -> None:
        error_console.print(labelled("MIDI", text, "yellow"), soft_wrap=True)


def mapping(knob: Knob) -> str:
    """As --map takes it."""
    return f"cc{knob.controller}={knob.parameter}"


def described(message: bytes) -> str:
    """A MIDI message in a few words."""
    kind, channel = KINDS.get(message[0] & 0xF0, ""), (message[0] & 0x0F) + 1
    if message[0] >= 0xF0:
        return SYSTEM.get(message[0], f"system message {message[0]:#x}")
    if message[0] & 0xF0 == CONTROLLER and len(message) == 3:
        return f"cc{message[1]} = {message[2]}, channel {channel}"
    return f"{kind} {' '.join(map(str, message[1:]))}, channel {channel}"
