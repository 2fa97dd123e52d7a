"""The board behind the OSC door: finds addresses, does what messages ask, and tells subscribers what has changed.

It knows no sockets: whoever has some calls `receive` with each packet, and `look` some twenty times a second. All of it
runs on the door's own event loop; what changes a session runs on the server's.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from typing import Any, TypeVar

from backline.doors import packets
from backline.doors.addresses import (
    PACK,
    SERVER,
    Entry,
    PackOnServer,
    Request,
    SessionOnServer,
    Values,
    session_entries,
    speakable,
    string,
)
from backline.doors.live import LiveSessions
from backline.doors.packets import BadPacket, Message, Value
from backline.doors.peers import (
    BYTES_A_MESSAGE,
    LEASE_SECONDS,
    LISTENED,
    PATTERNS,
    SUBSCRIBERS,
    Allowances,
    Peer,
    Subscriber,
)
from backline.doors.watched import Watched
from backline.engine.clock import CLOCK, Clock
from backline.engine.engine import Engine, EngineStats
from backline.engine.errors import BadInput, NotFound, Refused
from backline.engine.limits import ECHOED, quoted
from backline.models.stream import Transport
from backline.packs.registry import PackEntry
from backline.service.server import House
from backline.service.status import status_of

T = TypeVar("T")

LOOK_SECONDS = 0.05
FURTHEST_SECONDS = 60.0  # ahead, that a time tag may lie
WAITING = 256  # messages of one sender that wait at the same time for what they have asked for
ALL_WAITING = 4_096  # of all of them: addresses can be invented
TELLING_BYTES = 32_768  # that one message is answered, or a subscriber is sent at one look; there the rest comes next
ERROR_CHARACTERS = 1_000  # of what is told of one error
FRESH_SECONDS = 1.0  # after which the packs on disk are looked at anew, and in a quarter of it the engine's figures
PATTERN_COST = 20.0  # messages that a pattern counts as
ALTERNATIVES = 32  # that the braces of a pattern may come to
NAME = re.compile(r"[A-Za-z0-9_.-]{1,32}")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Leaf:
    """An address that there is."""

    address: str
    entry: Entry
    owner: Any  # what the entry reads from and writes to

    def read(self) -> Values:
        """Its value.

        Raises:
            EngineError: there is none now; the message says why.
        """
        assert self.entry.read is not None
        return self.entry.read(self.owner)


@dataclass
class Answers:
    """What one message is answered: not more than its bounds, since whose address it came from is not known."""

    peer: Peer
    left: int  # bytes; below 0 some were left out

    def send(self, packet: bytes) -> None:
        self.left -= len(packet)
        if self.left >= 0:
            self.peer.send(packet)


class Board:
    """Of one server. All on the door's event loop."""

    def __init__(
        self, house: House, live: LiveSessions, clock: Clock = CLOCK, wall: Callable[[], float] = time.time
    ) -> None:
        """`wall` tells seconds since 1970, by which time tags are."""
        self.house, self.clock, self._wall, self._live = house, clock, wall, live
        self.sessions: dict[str, Watched] = {}  # by short name
        self.packs: dict[str, PackEntry] = {}  # by the name that addresses have
        self._stats = (clock(), house.engine.stats())
        self._entries: dict[str, dict[str, Entry]] = {}  # by session's id, then by path
        self._looked_at_packs = -FRESH_SECONDS
        self._looking = asyncio.Lock()
        self._number = 0
        self._allowances = Allowances(clock)
        self._complained: dict[Hashable, float] = {}
        self._subscribers: dict[Hashable, Subscriber] = {}
        self._inboxes: dict[Hashable, deque[Message]] = {}  # of each sender, messages that have not begun yet
        self._waiting: Counter[Hashable] = Counter()  # of each sender, what is not done yet
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def engine(self) -> Engine:
        """The server's."""
        return self.house.engine

    @property
    def stats(self) -> EngineStats:
        """The engine's figures, which are counted only where somebody asks, and not for each of them anew."""
        if self.clock() - self._stats[0] >= FRESH_SECONDS / 4:
            self._stats = (self.clock(), self.engine.stats())
        return self._stats[1]

    # ---- messages ------------------------------------------------------------------------------------

    def receive(self, packet: bytes, peer: Peer) -> None:
        """Does what a packet asks, or tells its sender why not; what takes time is done later."""
        if not self._allowances.take(peer.key, 1.0 + len(packet) / BYTES_A_MESSAGE):
            self._complain(peer)
            return
        try:
            messages = packets.read(packet)
        except BadPacket as error:
            self.tell_error(peer, "", BadInput(str(error)))
            return
        for message in messages:
            if self._waiting[peer.key] >= WAITING or self._waiting.total() >= ALL_WAITING:
                self.tell_error(peer, message.address, Refused("too many messages wait already: send it again later"))
                return
            if not self._allowances.take(peer.key, PATTERN_COST if is_pattern(message.address) else 1.0):
                self._complain(peer)
                return
            self._count(peer, 1)
            if peer.key in self._inboxes:
                self._inboxes[peer.key].append(message)
            else:
                self._inboxes[peer.key] = deque([message])
                self._spawn(self._attend(peer))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _count(self, peer: Peer, count: int) -> None:
        """So much more of a sender's waits."""
        self._waiting[peer.key] += count
        if not self._waiting[peer.key]:
            del self._waiting[peer.key]

    async def _attend(self, peer: Peer) -> None:
        """Begins a sender's messages in the order in which they have come; each ends when it can."""
        inbox = self._inboxes[peer.key]
        try:
            while inbox:
                message = inbox.popleft()
                try:
                    if concerns_packs(message.address):
                        await self.look_at_packs()
                    self._begin(message, peer)
                except Exception as error:
                    self.tell_error(peer, message.address, error)
                self._count(peer, -1)
                await asyncio.sleep(0)  # what can be done at once is done
        finally:
            del self._inboxes[peer.key]

    def _begin(self, message: Message, peer: Peer) -> None:
        """Reads what is asked, or begins to write.

        Raises:
            EngineError: there is no such address, or it is more than is told at once.
        """
        seconds = self._seconds(message.time)
        if message.arguments and message.address.endswith("/*"):
            raise BadInput("a pattern that ends in /* asks, and sets nothing: write out what you mean")
        leaves = self.find(message.address)
        if not leaves:
            raise NotFound("there is no such address: the README and the OSCQuery document list them")
        # A pattern that asks does nothing: what is below a session can be read at once without closing it.
        read = [] if message.arguments else [leaf for leaf in leaves if leaf.entry.read is not None]
        answers = Answers(peer, TELLING_BYTES)
        if read:
            self._tell_values(answers, read)
            return
        for leaf in leaves:
            self._count(peer, 1)
            self._spawn(self._write(leaf, Request(message.arguments, seconds, peer), answers))

    def _tell_values(self, answers: Answers, leaves: Sequence[Leaf]) -> None:
        """What addresses read now.

        Raises:
            Refused: it is more than is told at once.
        """
        for leaf in leaves:
            try:
                values = leaf.read()
                packet = packets.write(leaf.address, values, leaf.entry.tags(values))
            except Exception as error:
                packet = self._error(leaf.address, error)
            answers.send(packet)
            if answers.left < 0:
                raise Refused(f"more than {TELLING_BYTES} bytes: the rest is left out, ask for less, or /subscribe")

    async def _write(self, leaf: Leaf, request: Request, answers: Answers) -> None:
        """Does what is asked of an address, or tells why not."""
        entry = leaf.entry
        try:
            if entry.write is None:
                what = "the server says it, it is not to be sent" if entry.read is None else "it can be read only"
                raise BadInput(f"{what}: send it without arguments")
            if request.seconds is not None and not entry.timed:
                await asyncio.sleep(max(0.0, request.seconds - self.clock()))
            answer = await entry.write(leaf.owner, request)
            if answer is not None:
                answers.send(packets.write(leaf.address, answer, entry.tags(answer)))
        except Exception as error:
            answers.send(self._error(leaf.address, error))
        finally:
            self._count(request.peer, -1)

    def _seconds(self, tag: float | None) -> float | None:
        """A time tag by the clock."""
        if tag is None:
            return None
        ahead = tag - self._wall()
        if ahead > FURTHEST_SECONDS:
            raise BadInput(
                f"a time tag {ahead:.0f} s ahead: use up to {FURTHEST_SECONDS:g}, and set both machines' clocks"
            )
        return self.clock() + ahead

    def position(self, watched: Watched, seconds: float | None) -> int | None:
        """The sample of a session at which a message wants to be in force; None: at once.

        Raises:
            BadInput: the session has no time yet.
        """
        if seconds is None:
            return None
        watched.look()
        if not watched.clock.runs:
            raise BadInput("the session has heard nothing yet, so it has no time: send it without a time tag")
        return watched.clock.position_at(seconds)

    def tell_error(self, peer: Peer, address: str, error: Exception) -> None:
        """Tells a sender why something was not done."""
        peer.send(self._error(address, error))

    def _error(self, address: str, error: Exception) -> bytes:
        status, text = status_of(error)
        self.engine.figures.count_error("osc", type(error).__name__)
        plain = address.encode("ascii", "replace").decode()[: 2 * ECHOED]
        return packets.write("/error", (plain, text[:ERROR_CHARACTERS], status.name), "sss")

    def _complain(self, peer: Peer) -> None:
        """Once a second tells a sender that it is not heard."""
        now = self.clock()
        if now - self._complained.get(peer.key, -1.0) >= 1.0:
            self._complained = {key: at for key, at in self._complained.items() if now - at < 1.0}
            if len(self._complained) < SUBSCRIBERS:
                self._complained[peer.key] = now
                self.tell_error(peer, "", Refused("too many messages a second: some were passed over"))

    async def stop(self) -> None:
        """Forgets what waits."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def apply(self, change: Callable[[], None]) -> None:
        """Makes a change of a session on its client's thread, the server's event loop."""

        async def made() -> None:
            change()

        await self.on_server(made())

    async def on_server(self, work: Awaitable[T]) -> T:
        """Awaits what belongs on the server's event loop."""

        async def run() -> T:
            return await work

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(run(), self.house.loop))

    # ---- addresses -----------------------------------------------------------------------------------

    def find(self, pattern: str) -> list[Leaf]:
        """The addresses that a pattern means: one without wildcards means itself.

        Raises:
            BadInput: it is no pattern.
        """
        if not is_pattern(pattern):
            leaf = self._leaf(pattern)
            return [] if leaf is None else [leaf]
        matches = matcher(pattern)
        return [leaf for leaf in self.leaves() if matches(leaf.address)]

    def leaves(self) -> Iterator[Leaf]:
        """Every address that there is."""
        for entry in SERVER:
            yield Leaf(f"/{entry.path}", entry, self)
        for name, pack in self.packs.items():
            for entry in PACK:
                yield Leaf(f"/pack/{name}/{entry.path}", entry, PackOnServer(self, pack))
        for name, watched in self.sessions.items():
            owner = SessionOnServer(self, watched)
            for path, entry in self._entries[watched.session.id].items():
                yield Leaf(f"/session/{name}/{path}", entry, owner)

    def _leaf(self, address: str) -> Leaf | None:
        kind, _, rest = address.removeprefix("/").partition("/")
        name, _, path = rest.partition("/")
        entry: Entry | None
        match kind:
            case "session":
                watched = self._session(name)
                entry = self._entries[watched.session.id].get(path)
                return None if entry is None else Leaf(address, entry, SessionOnServer(self, watched))
            case "pack":
                if name not in self.packs:
                    raise NotFound(f"there is no pack {quoted(name)}: use {', '.join(self.packs) or 'none'}")
                entry = next((entry for entry in PACK if entry.path == path), None)
                return None if entry is None else Leaf(address, entry, PackOnServer(self, self.packs[name]))
        entry = next((entry for entry in SERVER if f"/{entry.path}" == address), None)
        return None if entry is None else Leaf(address, entry, self)

    def _session(self, name: str) -> Watched:
        """By its short name or its id."""
        if name in self.sessions:
            return self.sessions[name]
        for watched in self.sessions.values():
            if watched.session.id == name:
                return watched
        raise NotFound(f"there is no session {quoted(name)}: use {', '.join(self.sessions) or 'none, open one first'}")

    async def look_at_packs(self) -> None:
        """Knows the packs that are on disk now."""
        async with self._looking:  # whoever comes meanwhile waits for the same look
            now = self.clock()
            if now - self._looked_at_packs >= FRESH_SECONDS:
                self._looked_at_packs = now
                entries = await asyncio.to_thread(self.house.loads.entries)
                self.packs = {speakable(entry.name): entry for entry in entries}

    # ---- sessions ------------------------------------------------------------------------------------

    def look(self) -> None:
        """Takes in what has happened, and tells subscribers what has changed."""
        known = {watched.session.id for watched in self.sessions.values()}
        for session in self.engine.list_sessions():
            if session.id not in known:
                name = self._live.claim(session.client_name) or self._free_name()
                watched = Watched(session, name, self.clock)
                self._entries[session.id] = session_entries(watched)
                self.sessions[name] = watched
                self._live.opened(name, watched)
        for name, watched in list(self.sessions.items()):
            watched.look()
            if not watched.open and not self._inherited(name, watched):
                self._forget(name, watched)
        self._tell(self.clock())

    def _free_name(self) -> str:
        while True:
            self._number += 1
            if str(self._number) not in self.sessions:
                return str(self._number)

    def _forget(self, name: str, watched: Watched) -> None:
        del self.sessions[name], self._entries[watched.session.id]
        for subscriber in self._subscribers.values():
            address = f"/session/{name}/state"
            if address in subscriber.listened or any(matcher(pattern)(address) for pattern in subscriber.patterns):
                subscriber.peer.send(packets.write(address, ("closed",), "s"))
                if watched.failure is not None:
                    self.tell_error(subscriber.peer, f"/session/{name}", watched.failure)
            subscriber.forget(f"/session/{name}/")

    def _inherited(self, name: str, left: Watched) -> bool:
        """Whether its process has gone over to another session, which has its name then."""
        heirs = (
            (old, each) for old, each in self.sessions.items()
            if each.open and each.session.client_name == left.session.client_name and not self._live.knows(old)
        )  # fmt: skip
        if not self._live.knows(name) or (found := next(heirs, None)) is None:
            return False
        old, heir = found
        heir.name = left.heir = name
        del self.sessions[old], self._entries[left.session.id]
        self.sessions[name] = heir
        for subscriber in self._subscribers.values():
            subscriber.forget(f"/session/{old}/")
        return True

    def rename(self, watched: Watched, name: str) -> None:
        """Gives a session another short name.

        Raises:
            BadInput: it is taken, or none that an address may have.
        """
        self.check_name(name)
        self.sessions = {name if each is watched else old: each for old, each in self.sessions.items()}
        self._live.renamed(watched.name, name)
        watched.name = name

    def check_name(self, name: str) -> None:
        """Refuses a short name that cannot be given.

        Raises:
            BadInput: it is taken, or none that an address may have.
        """
        if not NAME.fullmatch(name):
            raise BadInput(f"{quoted(name)} is no short name: use up to 32 letters, digits, _ - and .")
        if name in self.sessions or self._live.knows(name):
            raise BadInput(f"a session is called {quoted(name)} already: use another name, or close that one")

    async def open(self, pack: str, words: Sequence[Value]) -> Values:
        """Opens a session on the server's sound card; `words` are a name, then pairs of what `backline live` takes."""
        name = string(words[0], "the name") if words else self._free_name()
        self.check_name(name)
        watched = await self._live.open(name, pack, words[1:])
        return watched.name, watched.session.id

    async def steer(self, watched: Watched, line: str) -> Watched:
        """Has the process of a session that was opened here do what a line says; the session that is heard then.

        Raises:
            BadInput: it was opened by a client.
            NotFound, Refused: see `LiveSessions.steer`.
        """
        if not self._live.knows(watched.name):
            raise BadInput("its client has opened it: that one chooses")
        await self._live.steer(watched.name, line)
        while watched.session.id in self._entries:  # its heir has its name with the next look
            await asyncio.sleep(LOOK_SECONDS / 4)
        return self._session(watched.heir)

    async def learn(self, watched: Watched, parameter: str) -> str:
        """Has the next controller that moves lead a parameter of a session that was opened here; which.

        Raises:
            BadInput: it was opened by a client.
            NotFound, Refused: see `LiveSessions.steer`.
        """
        if not self._live.knows(watched.name):
            raise BadInput("its client has opened it: that one hears its MIDI")
        return await self._live.steer(watched.name, f"learn {parameter}")

    def midi(self, watched: Watched) -> dict[str, Any]:
        """What its process has told of MIDI; nothing of a session that was opened by a client."""
        told = {each["name"]: each.get("midi") for each in self._live.figures()}
        return told.get(watched.name) or {}

    async def scene(self, line: str) -> Values:
        """Asks all that play here for a scene; what is heard when it has come."""
        names = self._live.scenes()
        if not names:
            raise BadInput("no set list plays here: /open a pack, a name, then scenes and the path of one")
        return tuple(await asyncio.gather(*(self._live.steer(name, line) for name in names)))

    @property
    def scenes(self) -> Values:
        """Those that are heard."""
        return tuple(self._live.scenes().values())

    async def move(self, watched: Watched, position: int | None, change: Callable[[Transport], Transport]) -> None:
        """Changes the transport of a session, and of what comes after it."""
        moved: list[tuple[int, Transport]] = []
        await self.apply(lambda: moved.append(watched.change_transport(position, change)))
        if self._live.knows(watched.name):
            self._live.transport(watched.name, moved[0][1], moved[0][0])

    async def close(self, watched: Watched) -> None:
        """Ends a session in order, whoever has opened it."""
        if self._live.knows(watched.name):
            await self._live.close(watched.name)
        else:
            self.engine.close_session(watched.session.id)

    # ---- subscribers ---------------------------------------------------------------------------------

    def subscribe(self, peer: Peer, pattern: str, rate: float) -> Values:
        """Tells `peer` what changes under `pattern`, at most `rate` times a second."""
        if not 0.1 <= rate <= 1.0 / LOOK_SECONDS:
            raise BadInput(f"{rate:g} times a second: use 0.1 to {1.0 / LOOK_SECONDS:g}")
        pattern = "/*" if pattern == "*" else pattern
        matcher(pattern)
        subscriber = self._subscriber(peer)
        if pattern not in subscriber.patterns and len(subscriber.patterns) >= PATTERNS:
            raise Refused(f"{PATTERNS} patterns of one subscriber: use wildcards")
        subscriber.patterns[pattern] = 1.0 / rate
        subscriber.forget("/")  # so that all of it comes first
        return pattern, self.renew(peer)

    def _subscriber(self, peer: Peer) -> Subscriber:
        if peer.key not in self._subscribers:
            if len(self._subscribers) >= SUBSCRIBERS:
                raise Refused(f"{SUBSCRIBERS} subscribers are told already: try again later")
            self._subscribers[peer.key] = Subscriber(peer, 0.0)
        return self._subscribers[peer.key]

    def hears(self, peer: Peer) -> bool:
        """Whether one more word of `peer` is heard; where not, it is told so."""
        heard = self._allowances.take(peer.key, 1.0)
        if not heard:
            self._complain(peer)
        return heard

    def listen(self, peer: Peer, address: str) -> None:
        """Tells `peer`, which has a connection, what changes at an address, until it ignores that or has gone.

        Raises:
            NotFound: there is none that can be read.
            Refused: too many listen already, or to too much.
        """
        leaf = self._leaf(address)
        if leaf is None or leaf.entry.read is None:
            raise NotFound("there is no such address that can be read: the OSCQuery document lists them")
        subscriber = self._subscriber(peer)
        if len(subscriber.listened) >= LISTENED:
            raise Refused(f"{LISTENED} addresses of one client: ignore some")
        subscriber.listened.add(address)
        subscriber.expires = math.inf
        subscriber.forget(address)  # so that its value comes first

    def ignore(self, peer: Peer, address: str) -> None:
        """Ends that; what is not listened to is ignored already."""
        if (subscriber := self._subscribers.get(peer.key)) is not None:
            subscriber.listened.discard(address)
            subscriber.forget(address)
            if not subscriber.patterns and not subscriber.listened:
                self.lost(peer.key)

    def unsubscribe(self, peer: Peer, pattern: str | None = None) -> int:
        """From a pattern, or from all; how many are left."""
        subscriber = self._subscribers.get(peer.key)
        if subscriber is None:
            return 0
        if pattern is None:
            subscriber.patterns.clear()
        else:
            subscriber.patterns.pop("/*" if pattern == "*" else pattern, None)
        subscriber.intervals.clear()
        if not subscriber.patterns and not subscriber.listened:
            del self._subscribers[peer.key]
        return len(subscriber.patterns)

    def renew(self, peer: Peer) -> float:
        """Seconds for which a subscriber is told from now on; 0 where it has not subscribed."""
        subscriber = self._subscribers.get(peer.key)
        if subscriber is None:
            return 0.0
        subscriber.expires = max(subscriber.expires, self.clock() + LEASE_SECONDS)
        self._spawn(self.look_at_packs())  # what is new there is news
        return LEASE_SECONDS

    def lost(self, key: Hashable) -> None:
        """A peer has gone."""
        self._subscribers.pop(key, None)

    def complain_to_all(self, address: str, error: Exception) -> None:
        """Tells every subscriber what has gone wrong by itself."""
        for subscriber in self._subscribers.values():
            self.tell_error(subscriber.peer, address, error)

    def _tell(self, now: float) -> None:
        self._subscribers = {
            key: subscriber for key, subscriber in self._subscribers.items() if subscriber.expires > now
        }
        if not self._subscribers:
            return
        leaves = [leaf for leaf in self.leaves() if leaf.entry.read is not None]
        values: dict[str, tuple[Values, bytes] | None] = {}  # by address: read once for all
        for subscriber in self._subscribers.values():
            news = self._news(subscriber, leaves, values, now)
            for packet in news if subscriber.listened else packets.bundled(news):
                if not subscriber.peer.send(packet):
                    break  # it takes no more now: what comes after it is news at the next look

    def _news(
        self,
        subscriber: Subscriber,
        leaves: Iterable[Leaf],
        values: dict[str, tuple[Values, bytes] | None],
        now: float,
    ) -> Iterator[bytes]:
        """Messages of what a subscriber has not been told yet, as many as it is sent at once."""
        size = 0
        for leaf in leaves:
            if leaf.address not in subscriber.intervals:
                wanted = [seconds for each, seconds in subscriber.patterns.items() if matcher(each)(leaf.address)]
                wanted += [LOOK_SECONDS] * (leaf.address in subscriber.listened)
                subscriber.intervals[leaf.address] = min(wanted, default=None)
            interval = subscriber.intervals[leaf.address]
            told_at, told = subscriber.told.get(leaf.address, (float("-inf"), None))
            if interval is None or now - told_at < interval - LOOK_SECONDS / 2:
                continue
            if leaf.address not in values:
                values[leaf.address] = _written(leaf)
            found = values[leaf.address]
            if found is None or found[0] == told:
                continue
            size += len(found[1])
            if size > TELLING_BYTES:
                return
            yield found[1]
            subscriber.told[leaf.address] = (now, found[0])  # unless it was refused


def _written(leaf: Leaf) -> tuple[Values, bytes] | None:
    """The value of an address and the message that tells it; None where there is none now."""
    try:
        values = leaf.read()
        return values, packets.write(leaf.address, values, leaf.entry.tags(values))
    except Exception:  # it has no value now, or its session has just ended: whoever asks is told why
        return None


def is_pattern(address: str) -> bool:
    """Whether it has wildcards."""
    return any(character in "*?[]{}" for character in address)


def concerns_packs(address: str) -> bool:
    """Whether an address or pattern may mean what is told of packs."""
    first = address.split("/")[1]
    return first in ("pack", "packs") or is_pattern(first)


@lru_cache(maxsize=1024)
def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether an address is meant by an OSC pattern: * and ? within one part, [abc] [!abc], {this,that}.

    A pattern whose last part is * means all that lies below, as those who subscribe want it.

    Raises:
        BadInput: it is no pattern.
    """
    if not pattern.startswith("/"):
        raise BadInput(f"the pattern {quoted(pattern)}: begin it with /")
    expressions = [
        [re.compile(translate(part)) for part in alternative.split("/")] for alternative in _alternatives(pattern)
    ]

    def matches(address: str) -> bool:
        parts = address.split("/")
        return any(
            (len(parts) == len(each) or (len(parts) > len(each) and below))
            and all(expression.match(part) for expression, part in zip(each, parts, strict=False))
            for each in expressions
        )

    below = pattern.endswith("/*")
    return matches


def _alternatives(pattern: str) -> list[str]:
    """The patterns without braces that one with braces stands for."""
    waiting, done = [pattern], list[str]()
    while waiting:
        if len(waiting) + len(done) > ALTERNATIVES:
            raise BadInput(f"the pattern {quoted(pattern)} has more than {ALTERNATIVES} alternatives: use several")
        each = waiting.pop()
        found = re.search(r"\{([^{}]*)\}", each)
        if found is None:
            done.append(each)
        else:
            waiting += [each[: found.start()] + choice + each[found.end() :] for choice in found[1].split(",")]
    return done
