"""The stage: plays the scene that is heard and beside it the one that comes, and fades from one to the other on a bar.

A scene that is asked for is opened while the present one plays, and hears what that hears. The first bar line from then
on is where it begins: the fade lies where this bar is heard, which is the latency later. The card's thread calls `turn`
and waits for nobody; a thread of the stage's own opens, ends and tells, and another makes resident what may come next.
"""

from __future__ import annotations

import json
import math
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from backline.cli.audio_files import mix
from backline.cli.conductor import REFUSED as LEARN_REFUSED
from backline.cli.conductor import common_knobs, packs_of
from backline.cli.console import UserError, console, error_console, explanation, labelled
from backline.cli.paced import INPUT, Audio, Host, Measured
from backline.cli.scenes import Scene
from backline.cli.typed import read_lines, set_text, texts_of
from backline.engine.keys import Keys
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
LOST = "what was heard has ended by itself, and nothing comes in its place: begin anew"
LINES = "scene NAME, scene 2, next, take, take 7, pack NAME, text WORDS or learn PARAMETER"


@dataclass
class Act:
    """A scene with its session, and once it plays its host. Positions count the card's samples."""

    scene: Scene
    session: Session
    latency_samples: int  # at which it is played
    index: int  # of its scene in the set
    ports: list[str]  # that are heard
    plays: tuple[pb.Pack, str]  # with the task of it
    transport: Transport | None = None  # that it has been told
    fade_at: int | None = None  # where it comes to be heard
    start: int = 0
    hears_from: int = 0  # input that counts as heard
    entered: bool = False  # it is heard, if only beside the one before
    misses: int = 0  # bars at which it had nothing to say
    unheard_samples: int = 0  # that were missing before it was heard
    host: Host = field(init=False)

    def begin(self, position: int, rate: int, channels: int) -> None:
        """From now on it hears the input."""
        self.start = self.hears_from = position
        self.host = Host(self.session, rate, channels, start=position, latency_samples=self.latency_samples)

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
    """Plays as a `Host` does. Any thread may call `ask`, `transport`, `change` and `midi_live`."""

    def __init__(
        self,
        client: Client,
        scenes: Sequence[Scene],
        session: Session,
        ports: Callable[[Scene, Session], list[str]],
        shape: tuple[int, int, int],
        transport: Sequence[Transport],
        mapped: Mapping[int, str] | None = None,
    ) -> None:
        """Opens each further scene once, and says which do not open. What they need is the latency of all.

        Args:
            scenes: in their order; the first is that of `session`, which has been opened for it.
            ports: the outputs of a scene that are heard.
            shape: sample rate in Hz, channels of the input, and samples of the largest block.
            transport: that the first scene begins with, where it says none; none or one.
            mapped: parameters, by the controllers that move them: a scene that comes has them as what plays has.
        """
        self._client, self._scenes, self._ports = client, list(scenes), ports
        self._rate, self._channels, self._block = shape
        self._own_queue = queue_seconds(session.ready.ledger)
        self._fade = round(FADE_SECONDS * self._rate)
        self.learn: Callable[[str], None] = nobody_learns  # leads a parameter by the next MIDI controller that moves
        self.mapped: Callable[[], Mapping[int, str]] = lambda: mapped or {}  # as it is now
        self._position = 0
        self._coming: Act | None = None
        # Who plays and what each has been told change together. Whoever holds it only puts words into queues.
        self._telling = threading.Lock()
        self._offer: Act | None = None  # that is open, to the card's thread
        self._opening: tuple[pb.Pack, str] | None = None  # what is being opened
        self._keys = Keys()
        self._led = False  # a clock outside has told a beat
        self._lost = False  # what was heard has ended by itself
        self._orders: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._asked = 0  # the scene that was asked for last, in the set
        self._wanted: tuple[int, Scene] | None = None  # that is to be opened, as soon as nothing newer is asked for
        self._said_led = False
        self._loads: queue.SimpleQueue[bool] = queue.SimpleQueue()  # whether there is a next pack to load
        self._left = Measured(0)  # what the acts that have ended came to
        self._over = False
        self.latency_samples = max([self._needed(session), *self._sound_check()])
        [plays] = packs_of(client, scenes[:1])
        self._now = Act(scenes[0], session, self.latency_samples, 0, ports(scenes[0], session), plays)
        opening = next(iter([*filter(None, [scenes[0].transport]), *transport]), None)
        self._now.begin(0, self._rate, self._channels)
        if opening is not None:
            self._now.tell(moved(opening, 0, self._rate))
        self._director = threading.Thread(target=self._direct, name="director", daemon=True)
        self._director.start()
        threading.Thread(target=self._load, name="loader", daemon=True).start()
        self._loads.put(True)

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

    def playing(self) -> list[tuple[pb.Pack, str]]:
        """The packs that are opened, that come, and that are heard, each with its task."""
        opening = self._opening
        acts = (self._offer, self._coming, self._now)  # as they move on, so that none is missed
        return [*filter(None, [opening]), *(act.plays for act in acts if act is not None)]

    def ask(self, line: str) -> None:
        """Does what a line says, see LINES, and tells what comes of it. Never waits."""
        self._orders.put(lambda: self._obey(line))

    def listen(self, descriptor: int) -> None:
        """Asks for what is written there, line by line, until it ends."""

        read_lines(descriptor, self.ask)

    def transport(self, transport: Transport) -> None:
        """Tempo and beat, by default from the next block on: of the scene that is heard and of the one that comes."""
        told = replace(transport, position=self._position if transport.position is None else transport.position)
        with self._telling:
            self._tell(lambda act: act.tell(told))

    def change(self, change: Any) -> None:
        """What else may happen in a session, see `Session.change`: to both as well. A transport is a clock's outside,
        by which all scenes go from then on.
        """
        if isinstance(change, Transport):
            if not self._led:
                self._led = True
                self._orders.put(lambda: self._tell_led(self._now.scene))
            self.transport(change)
            return
        with self._telling:
            self._tell(lambda act: act.session.change(change))

    def midi_live(self, position: int, data: bytes) -> None:
        """See `Session.midi_live`: to both."""
        with self._telling:
            self._keys.hear(data)
            self._tell(lambda act: act.session.midi_live(max(position, act.start), data))

    def _tell(self, tell: Callable[[Act], object]) -> None:
        """Tells all that play. Under the lock.

        Raises:
            BacklineError: the scene that is heard has ended; of the one that comes the card's thread notices that.
        """
        for act in self._playing():
            try:
                tell(act)
            except BacklineError:
                if act is self._now:
                    raise

    def _playing(self) -> list[Act]:
        return [act for act in (self._coming, self._now) if act is not None]

    # ---- the card's thread ---------------------------------------------------------------------------

    def turn(self, block: Audio) -> dict[str, Audio]:
        """Sends the block [channel, sample] just captured; gives what is heard meanwhile, MIXED and INPUT."""
        try:
            heard = self._now.mixed(self._now.host.turn(block))
        except BacklineError:
            self._lost = True
            self._orders.put(self._withdraw)
            raise
        begin = self._position
        if begin == 0:
            self._orders.put(self._tell_heard)
        self._position = end = begin + block.shape[1]
        if self._coming is None and self._offer is not None:
            self._take_offer(self._offer, begin)
        coming = self._coming
        return heard if coming is None else self._faded(coming, heard, block, begin, end)

    def turn_alone(self, block: Audio) -> dict[str, Audio]:
        """As `Host.turn_alone`: what was heard has ended, and nothing comes in its place."""
        self._position += block.shape[1]
        return self._now.mixed(self._now.host.turn_alone(block))

    def _take_offer(self, coming: Act, position: int) -> None:
        """It begins to hear, and is told what holds and which keys are down."""
        coming.begin(position, self._rate, self._channels)
        with self._telling:
            if self._offer is not coming:
                return  # something else was asked for
            self._coming, self._offer = coming, None
            try:
                if self._now.transport is not None:
                    coming.tell(moved(self._now.transport, position, self._rate))
                for data in self._keys.told():
                    coming.session.midi_live(position, data)
            except BacklineError as error:
                self._coming = None
                self._lose(coming, error)

    def _faded(self, coming: Act, heard: dict[str, Audio], block: Audio, begin: int, end: int) -> dict[str, Audio]:
        """What is heard of the present scene, or of the one that comes, or of both."""
        missed = coming.host.measured.underrun_samples
        try:
            if coming.fade_at is None:
                with self._telling:
                    coming.fade_at = self._entry(coming, begin, end)
            ahead = coming.mixed(coming.host.turn(block))
            if coming.fade_at is None or coming.fade_at >= end:
                return heard
            if coming.fade_at >= begin and coming.host.measured.underrun_samples > missed:
                self._miss(coming, begin, end)
                return heard
        except (BacklineError, UserError) as error:
            if self._take_back(coming):
                self._lose(coming, error)
            return heard
        with self._telling:
            if self._coming is not coming:
                return heard  # something else was asked for
            coming.entered = True
        if coming.fade_at >= begin:
            coming.unheard_samples = missed
        # Linear: what both play alike, such as the song whose stems they are, stays as loud as it is.
        since = np.arange(1 - coming.fade_at + begin, 1 - coming.fade_at + end)
        share = np.clip(since / self._fade, 0.0, 1.0).astype(np.float32)
        if end >= coming.fade_at + self._fade:
            with self._telling:
                left, self._now, self._coming = self._now, coming, None
            self.latency_samples = coming.latency_samples
            self._orders.put(lambda: self._entered(left))
        return {name: heard[name] * (1 - share) + ahead[name] * share for name in heard}

    def _take_back(self, coming: Act) -> bool:
        """It does not come; whether it was still meant to."""
        with self._telling:
            meant, self._coming = self._coming is coming, None
            return meant

    def _miss(self, coming: Act, begin: int, end: int) -> None:
        """It had nothing to say at its bar: the next one is that of what is heard, whose beat it has again.

        Raises:
            UserError: there were too many.
        """
        coming.fade_at, coming.hears_from, coming.misses = None, begin, coming.misses + 1
        if coming.misses == MISSES:
            raise UserError("what it plays comes too late: use a longer --jitter-buffer")
        with self._telling:
            coming.transport = None
            if self._now.transport is not None:
                coming.tell(moved(self._now.transport, end, self._rate))

    def _entry(self, coming: Act, begin: int, end: int) -> int | None:
        """Where it is heard first, if its first bar begins within this block."""
        earliest = max(begin, coming.hears_from + self._hearing_samples(coming.session))
        transport = coming.transport
        plays = transport is not None and transport.playing
        bar = bar_from(transport, earliest, self._rate) if transport is not None and plays else earliest
        if bar >= end:
            return None
        if coming.scene.transport is not None and self._led:
            self._orders.put(lambda: self._tell_led(coming.scene))
        elif coming.scene.transport is not None:
            song = 0.0 if transport is None else moved(transport, bar, self._rate).song_position
            coming.tell(replace(coming.scene.transport, position=bar, song_position=song, bar_start=song))
        return bar + coming.latency_samples

    def _hearing_samples(self, session: Session) -> int:
        """For which it has to hear the input before its first bar, which it may not hear itself."""
        return round(max(0.0, HEARD_SECONDS - session.ready.visibility_seconds) * self._rate)

    def _lose(self, act: Act, error: Exception) -> None:
        def lose() -> None:
            act.session.cancel()
            if self._wanted is None:
                self._asked = self._newest.index
            self._refuse(act.scene.name, error)

        self._orders.put(lose)

    # ---- the stage's own threads ---------------------------------------------------------------------

    def _direct(self) -> None:
        while (order := self._orders.get()) is not None:
            for step in (order, self._open_newest):
                try:
                    step()
                except Exception as error:  # of one order: the scene that is heard plays on
                    if not self._over:
                        self._refuse("", error)

    @property
    def _newest(self) -> Act:
        """What comes, or is heard where nothing does."""
        return self._offer or self._coming or self._now

    def _obey(self, line: str) -> None:
        word, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        now = self._now
        match word:
            case "":
                return
            case "scene" if rest:
                self._want(self._found(rest))
            case "next" if not rest:
                if self._asked + 1 >= len(self._scenes):
                    raise UserError(f"{self._scenes[-1].name!r} is the last scene: ask for one by its name")
                self._want(self._asked + 1)
            case "take" if rest.isdecimal() or not rest:
                wanted: SessionOptions = {**now.scene.options}
                wanted.pop("seed", None)
                if rest:
                    wanted["seed"] = int(rest)
                self._want(now.index, replace(now.scene, options=wanted, transport=None))
            case "pack" if rest:
                self._want(now.index, replace(now.scene, pack=rest, transport=None))
            case "learn":
                self.learn(rest)
            case "text" if rest:
                name, words = set_text(rest, now.session, texts_of(self._client, now.scene.pack, now.session))
                texts = {**now.scene.options.get("texts", {}), name: words}
                now.scene = replace(now.scene, options={**now.scene.options, "texts": texts})  # for another take
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

    def _want(self, index: int, scene: Scene | None = None) -> None:
        self._asked, self._wanted = index, (index, scene or self._scenes[index])

    def _open_newest(self) -> None:
        """Opens what is wanted, in the place of what was to come before; nothing while there is more to obey."""
        if self._wanted is None or not self._orders.empty():
            return
        (index, scene), self._wanted = self._wanted, None
        self._withdraw()
        try:
            if self._lost:
                raise UserError(LOST)
            act = self._opened(scene, index)
            with self._telling:
                comes = not (self._over or self._lost)
                if comes:
                    self._offer = act
            if not comes:
                act.session.cancel()
                raise UserError(LOST)
        except Exception as error:
            self._asked = self._newest.index
            if not self._over:
                self._refuse(scene.name, error)
        finally:
            self._opening = None

    def _withdraw(self) -> None:
        """Ends what was to come, but what fades in already, where something is heard."""
        with self._telling:
            withdrawn, self._offer = [self._offer], None
            if self._coming is not None and (self._over or self._lost or not self._coming.entered):
                withdrawn.append(self._coming)
                self._coming = None
        for act in withdrawn:
            if act is not None:
                act.session.cancel()

    def _opened(self, scene: Scene, index: int) -> Act:
        [plays] = packs_of(self._client, [scene])
        self._opening = plays  # what is learned from here on fits it
        common_knobs([self._now.plays, plays], self.mapped())
        session = self._client.open(scene.pack, self._rate, self._channels, block_size=self._block, **scene.options)
        try:
            return Act(scene, session, self._latency(session), index, self._ports(scene, session), plays)
        except BaseException:
            session.cancel()
            raise

    def _entered(self, left: Act) -> None:
        """The scene that came is heard alone."""
        self._left.underrun_samples += left.missing_samples
        try:
            for each in self._client.sessions():
                if each.id == left.session.ready.session:
                    self._left.totals.samples_out += each.samples_out
                    self._left.totals.chunks += each.chunks
                    self._left.totals.late_chunks += each.late_chunks
        except BacklineError:
            pass  # what it came to is not known, and nobody waits for it
        finally:
            left.session.cancel()
        self._tell_heard()
        more = (self._now.latency_samples - left.latency_samples) / self._rate
        if more > 0:
            self._note(f"{self._now.scene.name} needs more time, so that all is heard {more:.2f} s later from here on")
        self._loads.put(True)

    def _load(self) -> None:
        """A thread's: packs take long, and whoever asks for a scene must not wait for another one's."""
        while self._loads.get():
            try:
                self._load_next()
            except Exception as error:  # of one pack; or the connection is closed under it
                if not self._over:
                    self._note(f"what comes next is not ready: {explanation(error) or repr(error)}")

    def _load_next(self) -> None:
        """Makes the next scene's pack resident, so that it opens at once."""
        for scene in self._scenes[self._asked + 1 : self._asked + 2]:
            self._client.load_pack(scene.pack)

    def _tell_led(self, scene: Scene) -> None:
        """Once: that a scene's own tempo does not count."""
        if scene.transport is not None and not self._said_led:
            self._said_led = True
            self._note("a clock outside gives the beat, and the tempo that a scene says is passed over")

    def _note(self, text: str) -> None:
        error_console.print(labelled("note", text, "yellow"), soft_wrap=True)

    def _tell_heard(self) -> None:
        error_console.print(labelled(HEARD, self._now.scene.name or self._now.scene.pack, "green"), soft_wrap=True)

    def _refuse(self, name: str, error: Exception) -> None:
        why = " ".join((explanation(error) or repr(error)).split())
        stays = "" if self._lost else f"; {self._now.scene.name or self._now.scene.pack} plays on"
        text = f"{name + ': ' if name else ''}{why}{stays}"
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
        self._loads.put(False)
        self._withdraw()


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
