"""The stage: plays the scene that is heard and beside it the one that comes, and fades from one to the other on a bar.

A scene that is asked for is opened while the present one plays, and hears what that hears. The first bar line from then
on is where it begins: the fade lies where this bar is heard, which is the latency later. The card's thread calls `turn`
and waits for nobody; a thread of the stage's own opens, ends and tells.
"""

from __future__ import annotations

import json
import math
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from backline.cli.audio_files import mix
from backline.cli.conductor import REFUSED as LEARN_REFUSED
from backline.cli.console import UserError, console, error_console, explanation, labelled
from backline.cli.paced import INPUT, Audio, Host, Measured
from backline.cli.scenes import Scene
from backline_client import BacklineError, Client, Session, Transport
from backline_protos.v1 import backline_pb2 as pb

if TYPE_CHECKING:
    from backline_client import SessionOptions

FADE_SECONDS = 0.02
MISSES = 4  # bars at which a scene has nothing to say, before it is given up
HEARD_SECONDS = 1.0  # of input that a scene has heard at least when its first bar begins
MIXED = "mixed"  # name of what is heard of a scene, in stereo, beside INPUT
SLACK, SLACK_SECONDS = 0.1, 0.002  # of its compute time, and at least: less is no reason to play all of it later
SHOWN, MOST_SHOWN = 60, 128  # characters of a name, and scenes, that are shown
HEARD, REFUSED = "scene", "scene refused"  # labels of what is told of scenes
LINES = "scene NAME, scene 2, next, take, take 7, pack NAME or learn PARAMETER"


@dataclass
class Act:
    """A scene with its session, and once it plays its host. Positions count the card's samples."""

    scene: Scene
    session: Session
    latency_samples: int  # at which it is played
    index: int  # of its scene in the set
    ports: list[str]  # that are heard
    transport: Transport | None = None  # that it has been told
    fade_at: int | None = None  # where it comes to be heard
    start: int = 0
    hears_from: int = 0  # input that counts as heard
    misses: int = 0  # bars at which it had nothing to say
    unheard_samples: int = 0  # that were missing before it was heard
    host: Host = field(init=False)

    def begin(self, position: int, rate: int, channels: int, transport: Transport | None) -> None:
        """From now on it hears the input."""
        self.start = self.hears_from = position
        self.host = Host(self.session, rate, channels, start=position, latency_samples=self.latency_samples)
        if transport is not None:
            self.tell(moved(transport, position, rate))

    def tell(self, transport: Transport) -> None:
        """Puts it in force."""
        self.session.transport(transport)
        self.transport = transport

    @property
    def missing_samples(self) -> int:
        """Silence that was heard where there was no output."""
        return self.host.measured.underrun_samples - self.unheard_samples

    def mixed(self, heard: dict[str, Audio]) -> dict[str, Audio]:
        """What is heard of it [2, sample], and the input."""
        return {MIXED: mix({port: heard[port] for port in self.ports}, 2), INPUT: heard[INPUT]}


class Stage:
    """Plays as a `Host` does. Any thread may call `ask`, `transport` and `change`."""

    def __init__(
        self,
        client: Client,
        scenes: Sequence[Scene],
        session: Session,
        ports: Callable[[Scene, Session], list[str]],
        shape: tuple[int, int, int],
        transport: Sequence[Transport],
    ) -> None:
        """Opens each further scene once, and says which do not open. What they need is the latency of all.

        Args:
            scenes: in their order; the first is that of `session`, which has been opened for it.
            ports: the outputs of a scene that are heard.
            shape: sample rate in Hz, channels of the input, and samples of the largest block.
            transport: that the first scene begins with, where it says none; none or one.
        """
        self._client, self._scenes, self._ports = client, list(scenes), ports
        self._rate, self._channels, self._block = shape
        self._own_queue = queue_seconds(session.ready.ledger)
        self._fade = round(FADE_SECONDS * self._rate)
        self.learn: Callable[[str], None] = nobody_learns  # leads a parameter by the next MIDI controller that moves
        self._position = 0
        self._coming: Act | None = None
        self._offers: queue.SimpleQueue[Act] = queue.SimpleQueue()  # acts that are open, to the card's thread
        self._orders: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._asked = 0  # the scene that was asked for last, in the set
        self._left = Measured(0)  # what the acts that have ended came to
        self._over = False
        self.latency_samples = max([self._needed(session), *self._sound_check()])
        self._now = Act(scenes[0], session, self.latency_samples, 0, ports(scenes[0], session))
        opening = next(iter([*filter(None, [scenes[0].transport]), *transport]), None)
        self._now.begin(0, self._rate, self._channels, opening)
        self._director = threading.Thread(target=self._direct, name="director", daemon=True)
        self._director.start()

    @property
    def measured(self) -> Measured:
        """Of all scenes that have been heard."""
        now, left = self._now.host.measured, self._left
        totals = pb.Closed(
            samples_in=self._position,
            samples_out=left.totals.samples_out + now.totals.samples_out,
            chunks=left.totals.chunks + now.totals.chunks,
            late_chunks=left.totals.late_chunks + now.totals.late_chunks,
        )
        missing = left.underrun_samples + self._now.missing_samples
        return Measured(self.latency_samples, underrun_samples=missing, totals=totals)

    # ---- any thread ----------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """Of the sample that is captured next."""
        return self._position

    def figures(self) -> dict[str, Any]:
        """For whoever shows it: the scenes, the number of the one that is heard, and of one that has been asked for."""
        asked, now = self._asked, self._now
        return {
            "pack": now.scene.pack,
            "scenes": [scene.name[:SHOWN] for scene in self._scenes[:MOST_SHOWN] if scene.name],
            "now": now.index,
            "coming": None if asked == now.index else asked,
        }

    def ask(self, line: str) -> None:
        """Does what a line says, see LINES, and tells what comes of it. Never waits."""
        self._orders.put(lambda: self._obey(line))

    def listen(self, descriptor: int) -> None:
        """Asks for what is written there, line by line, until it ends."""

        def read() -> None:
            with open(descriptor, "rb", buffering=0, closefd=False) as lines:  # no lock that the end would wait for
                for line in lines:
                    self.ask(line.decode("utf-8", "replace").strip())

        threading.Thread(target=read, name="lines", daemon=True).start()

    def transport(self, transport: Transport) -> None:
        """Tempo and beat, by default from the next block on: of the scene that is heard and of the one that comes."""
        told = replace(transport, position=self._position if transport.position is None else transport.position)
        for act in self._playing():
            act.tell(told)

    def change(self, change: Any) -> None:
        """What else may happen in a session, see `Session.change`: to both as well."""
        if isinstance(change, Transport):
            self.transport(change)
            return
        for act in self._playing():
            act.session.change(change)

    def midi_live(self, position: int, data: bytes) -> None:
        """See `Session.midi_live`: to both."""
        for act in self._playing():
            act.session.midi_live(position, data)

    def _playing(self) -> list[Act]:
        return [act for act in (self._now, self._coming) if act is not None]

    # ---- the card's thread ---------------------------------------------------------------------------

    def turn(self, block: Audio) -> dict[str, Audio]:
        """Sends the block [channel, sample] just captured; gives what is heard meanwhile, MIXED and INPUT."""
        heard = self._now.mixed(self._now.host.turn(block))
        begin = self._position
        if begin == 0:
            self._orders.put(self._tell_heard)
        self._position = end = begin + block.shape[1]
        fading = self._coming is not None and self._coming.fade_at is not None and self._coming.fade_at < begin
        if not fading and not self._offers.empty():
            self._take_offer(begin)
        return heard if self._coming is None else self._faded(self._coming, heard, block, begin, end)

    def turn_alone(self, block: Audio) -> dict[str, Audio]:
        """As `Host.turn_alone`."""
        self._position += block.shape[1]
        return self._now.mixed(self._now.host.turn_alone(block))

    def _take_offer(self, position: int) -> None:
        left, self._coming = self._coming, None
        if left is not None:
            self._orders.put(left.session.cancel)
        coming = self._offers.get_nowait()
        try:
            coming.begin(position, self._rate, self._channels, self._now.transport)
            self._coming = coming
        except BacklineError as error:
            self._lose(coming, error)

    def _faded(self, coming: Act, heard: dict[str, Audio], block: Audio, begin: int, end: int) -> dict[str, Audio]:
        """What is heard of the present scene, or of the one that comes, or of both."""
        missed = coming.host.measured.underrun_samples
        try:
            if coming.fade_at is None:
                coming.fade_at = self._entry(coming, begin, end)
            ahead = coming.mixed(coming.host.turn(block))
        except BacklineError as error:
            self._coming = None
            self._lose(coming, error)
            return heard
        if coming.fade_at is None or coming.fade_at >= end:
            return heard
        if coming.fade_at >= begin and coming.host.measured.underrun_samples > missed:
            coming.fade_at, coming.hears_from, coming.misses = None, begin, coming.misses + 1
            if coming.misses == MISSES:
                self._coming = None
                self._lose(coming, UserError("what it plays comes too late: use a longer --jitter-buffer"))
            return heard
        if coming.fade_at >= begin:
            coming.unheard_samples = missed
        # Linear: what both play alike, such as the song whose stems they are, stays as loud as it is.
        since = np.arange(1 - coming.fade_at + begin, 1 - coming.fade_at + end)
        share = np.clip(since / self._fade, 0.0, 1.0).astype(np.float32)
        if end >= coming.fade_at + self._fade:
            left, self._now, self._coming = self._now, coming, None
            self.latency_samples = coming.latency_samples
            self._orders.put(lambda: self._entered(left))
        return {name: heard[name] * (1 - share) + ahead[name] * share for name in heard}

    def _entry(self, coming: Act, begin: int, end: int) -> int | None:
        """Where it is heard first, if its first bar begins within this block."""
        earliest = max(begin, coming.hears_from + self._hearing_samples(coming.session))
        transport = coming.transport
        plays = transport is not None and transport.playing
        bar = bar_from(transport, earliest, self._rate) if transport is not None and plays else earliest
        if bar >= end:
            return None
        if coming.scene.transport is not None:
            song = 0.0 if transport is None else moved(transport, bar, self._rate).song_position
            coming.tell(replace(coming.scene.transport, position=bar, song_position=song, bar_start=song))
        return bar + coming.latency_samples

    def _hearing_samples(self, session: Session) -> int:
        """For which it has to hear the input before its first bar, which it may not hear itself."""
        return round(max(0.0, HEARD_SECONDS - session.ready.visibility_seconds) * self._rate)

    def _lose(self, act: Act, error: Exception) -> None:
        def lose() -> None:
            act.session.cancel()
            self._asked = self._now.index
            self._refuse(act.scene.name, error)

        self._orders.put(lose)

    # ---- the stage's own thread ----------------------------------------------------------------------

    def _direct(self) -> None:
        self._load_next()
        while (order := self._orders.get()) is not None:
            try:
                order()
            except Exception as error:  # of one order: the scene that is heard plays on
                if not self._over:
                    self._refuse("", error)

    def _obey(self, line: str) -> None:
        word, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        now = self._now
        match word:
            case "":
                return
            case "scene" if rest:
                self._open(self._found(rest))
            case "next" if not rest:
                if self._asked + 1 >= len(self._scenes):
                    raise UserError(f"{self._scenes[-1].name!r} is the last scene: ask for one by its name")
                self._open(self._asked + 1)
            case "take" if rest.isdecimal() or not rest:
                wanted: SessionOptions = {**now.scene.options}
                wanted.pop("seed", None)
                if rest:
                    wanted["seed"] = int(rest)
                self._open(now.index, replace(now.scene, options=wanted, transport=None))
            case "pack" if rest:
                self._open(now.index, replace(now.scene, pack=rest, transport=None))
            case "learn":
                self.learn(rest)
            case "transport":
                self.transport(Transport(**json.loads(rest)))
            case _:
                raise UserError(f"{line!r} is nothing that is done here: write {LINES}")

    def _found(self, wanted: str) -> int:
        names = [scene.name for scene in self._scenes]
        if wanted in names:
            return names.index(wanted)
        if wanted.isdecimal() and 1 <= int(wanted) <= len(names):
            return int(wanted) - 1
        raise UserError(f"there is no scene {wanted!r}: use {', '.join(names)}, or 1 to {len(names)}")

    def _open(self, index: int, scene: Scene | None = None) -> None:
        scene = scene or self._scenes[index]
        before, self._asked = self._asked, index
        try:
            act = self._opened(scene, index)
        except Exception as error:
            self._asked = before
            self._refuse(scene.name, error)
            return
        self._offers.put(act)

    def _opened(self, scene: Scene, index: int) -> Act:
        session = self._client.open(scene.pack, self._rate, self._channels, block_size=self._block, **scene.options)
        try:
            return Act(scene, session, self._latency(session), index, self._ports(scene, session))
        except BaseException:
            session.cancel()
            raise

    def _entered(self, left: Act) -> None:
        """The scene that came is heard alone."""
        for each in self._client.sessions():
            if each.id == left.session.ready.session:
                self._left.totals.chunks += each.chunks
                self._left.totals.late_chunks += each.late_chunks
        left.session.cancel()
        self._left.underrun_samples += left.missing_samples
        self._tell_heard()
        more = (self._now.latency_samples - left.latency_samples) / self._rate
        if more > 0:
            text = f"{self._now.scene.name} needs more time, so that all is heard {more:.2f} s later from here on"
            error_console.print(labelled("note", text, "yellow"), soft_wrap=True)
        self._load_next()

    def _load_next(self) -> None:
        """Makes the next scene's pack resident, so that it opens at once."""
        for scene in self._scenes[self._asked + 1 : self._asked + 2]:
            try:
                self._client.load_pack(scene.pack)
            except BacklineError as error:
                if not self._over:
                    text = f"{scene.name}, which comes next, is not ready: {error}"
                    error_console.print(labelled("warning", text, "yellow"), soft_wrap=True)

    def _tell_heard(self) -> None:
        error_console.print(labelled(HEARD, self._now.scene.name or self._now.scene.pack, "green"), soft_wrap=True)

    def _refuse(self, name: str, error: Exception) -> None:
        why = " ".join((explanation(error) or repr(error)).split())
        stays = self._now.scene.name or self._now.scene.pack
        text = f"{name + ': ' if name else ''}{why}; {stays} plays on"
        error_console.print(labelled(REFUSED, text, "yellow"), soft_wrap=True)

    # ---- before and after ----------------------------------------------------------------------------

    def _sound_check(self) -> list[int]:
        """What the further scenes need as their latency: samples."""
        needed = []
        for number, scene in enumerate(self._scenes[1:], 2):
            console.print(f"scene {number} of {len(self._scenes)}, {scene.name}: sound check", soft_wrap=True)
            try:
                with self._client.open(
                    scene.pack, self._rate, self._channels, block_size=self._block, **scene.options
                ) as session:
                    self._ports(scene, session)
                    needed.append(self._needed(session))
                    session.cancel()
            except (BacklineError, UserError) as error:
                text = f"{scene.name}, scene {number}, does not open: {error}"
                error_console.print(labelled("warning", text, "yellow"), soft_wrap=True)
        return needed

    def _needed(self, session: Session) -> int:
        """The latency that a session needs once the one before it has gone, and makes it wait no more."""
        ledger = session.ready.ledger
        seconds = sum(item.seconds for item in ledger.items if item.name != "queue") + self._own_queue
        return math.ceil(round(max(0.0, min(seconds, ledger.total_seconds)) * self._rate, 6))

    def _latency(self, session: Session) -> int:
        """At which a session is played beside the others: theirs, unless it needs more by what no margin covers."""
        compute = sum(item.seconds for item in session.ready.ledger.items if item.name == "compute")
        needed, slack = self._needed(session), max(SLACK_SECONDS, SLACK * compute) * self._rate
        return needed if needed > self.latency_samples + slack else self.latency_samples

    def finish(self) -> dict[str, Audio]:
        """As `Host.finish`."""
        self.close()
        return self._now.mixed(self._now.host.finish())

    def tail(self) -> dict[str, Audio]:
        """As `Host.tail`."""
        return self._now.mixed(self._now.host.tail())

    def close(self) -> None:
        """No scene comes any more."""
        self._over = True
        self._orders.put(None)
        if self._coming is not None:
            self._coming.session.cancel()
        while not self._offers.empty():
            self._offers.get().session.cancel()


def nobody_learns(parameter: str) -> None:
    """Tells that there is no controller which a parameter could be led by."""
    text = "no MIDI leads this session, and nothing can be learned: start it with --midi-in"
    error_console.print(labelled(LEARN_REFUSED, text, "yellow"), soft_wrap=True)


def queue_seconds(ledger: pb.Ledger) -> float:
    """The part of a latency that others on the machine cost."""
    return sum(item.seconds for item in ledger.items if item.name == "queue")


def moved(transport: Transport, position: int, rate: int) -> Transport:
    """What follows of it for `position`. Its own position is known."""
    assert transport.position is not None
    quarters = (position - transport.position) / rate * transport.tempo / 60.0 if transport.playing else 0.0
    return replace(transport, position=position, song_position=transport.song_position + quarters)


def bar_from(transport: Transport, earliest: int, rate: int) -> int:
    """The first sample from `earliest` on at which a bar begins, by a transport that plays."""
    here, samples_per_quarter = moved(transport, earliest, rate), 60.0 / transport.tempo * rate
    quarters = here.numerator * 4.0 / here.denominator
    passed = (here.song_position - here.bar_start) % quarters * samples_per_quarter
    return earliest if passed <= 0.5 else earliest + round(quarters * samples_per_quarter - passed)
