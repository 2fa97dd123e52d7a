"""The addresses: what each is, reads and does. OSC, the OSCQuery document and the README's table are made of it.

An entry says what lies below its owner: the server, a pack, or a session. Names in angle brackets stand for those of a
session's parameters, texts, ports and parts of the latency, each of which has an entry of its own.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from backline import __version__
from backline.doors.packets import Value
from backline.doors.peers import LEASE_SECONDS, Peer
from backline.doors.watched import Watched, described, jump
from backline.engine.errors import BadInput, Unserved
from backline.engine.ledger import NAMES as LATENCY_PARTS
from backline.engine.limits import quoted
from backline.models.stream import Parameter, Transport
from backline.packs.registry import PackEntry, PackState

if TYPE_CHECKING:
    from backline.doors.board import Board

Values = tuple[Value, ...]


@dataclass(frozen=True)
class Request:
    """What a message asks of an address."""

    arguments: Values
    seconds: float | None  # by the clock, at which it wants to happen; None: at once
    peer: Peer


@dataclass(frozen=True)
class PackOnServer:
    """A pack, and the board that it is on."""

    board: Board
    entry: PackEntry


@dataclass(frozen=True)
class SessionOnServer:
    """A session, and the board that it is on."""

    board: Board
    watched: Watched


Read = Callable[[Any], Values]
Write = Callable[[Any, Request], Awaitable["Values | None"]]  # what it returns is the answer to the sender


@dataclass(frozen=True)
class Entry:
    """One address below its owner."""

    path: str
    types: str  # type tags of its value, or of a command's answer; "s*": any number of them
    description: str
    read: Read | None = None
    write: Write | None = None
    takes: str = ""  # what a write has to have
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    timed: bool = False  # it lands on the sample of its bundle's time tag by itself
    row: str = ""  # its path in the table, where that stands for several

    @property
    def access(self) -> int:
        """As OSCQuery counts it: 1 to be read, 2 to be written."""
        return (self.read is not None) + 2 * (self.write is not None)

    def tags(self, values: Sequence[Value]) -> str:
        """The type tags of these values of it."""
        return self.types[0] * len(values) if self.types.endswith("*") else self.types


# ---- arguments -------------------------------------------------------------------------------------------


def number(value: Value, what: str) -> float:
    """A number that was sent.

    Raises:
        BadInput: it is none.
    """
    if isinstance(value, str) or value is None:
        raise BadInput(f"{what} is {value!r}: send a number")
    if isinstance(value, float):
        if not math.isfinite(value):
            raise BadInput(f"{what} is {value}: send a finite number")
        return shortest(value)
    return float(value)


def shortest(value: float) -> float:
    """The number that was meant by one that has been a float of 32 bits: 0.1, not 0.10000000149."""
    import numpy as np

    narrow = np.float32(value)
    return float(str(narrow)) if float(narrow) == value else value


def string(value: Value, what: str) -> str:
    """A text that was sent.

    Raises:
        BadInput: it is none.
    """
    if not isinstance(value, str):
        raise BadInput(f"{what} is {value!r}: send a string")
    return value


def exactly(request: Request, count: int, takes: str) -> Values:
    """The arguments, where there are so many.

    Raises:
        BadInput: there are not.
    """
    if len(request.arguments) != count:
        raise BadInput(f"{len(request.arguments)} arguments: send {takes}")
    return request.arguments


def pressed(request: Request) -> bool:
    """Whether a button is meant: they send 1 when they are pressed, and 0 when they are let go."""
    return not request.arguments or bool(request.arguments[0])


# ---- the server ------------------------------------------------------------------------------------------


async def _ping(board: Board, request: Request) -> Values:
    return (board.renew(request.peer),)


async def _subscribe(board: Board, request: Request) -> Values:
    arguments = request.arguments or ("*",)
    if len(arguments) > 2:
        raise BadInput(f"{len(arguments)} arguments: send a pattern, and perhaps how many times a second")
    rate = number(arguments[1], "the rate") if len(arguments) == 2 else 20.0
    return board.subscribe(request.peer, string(arguments[0], "the pattern"), rate)


async def _unsubscribe(board: Board, request: Request) -> Values:
    return (board.unsubscribe(request.peer, *(string(each, "the pattern") for each in request.arguments[:1])),)


async def _open(board: Board, request: Request) -> Values:
    if not request.arguments:
        raise BadInput("no arguments: send a pack, a name, then pairs such as tempo 96")
    pack, *words = request.arguments
    return await board.open(string(pack, "the pack"), words)


async def _scene(board: Board, request: Request) -> Values:
    (wanted,) = exactly(request, 1, "the name of a scene, or its number from 1")
    name = wanted if isinstance(wanted, str) else f"{number(wanted, 'the scene'):g}"
    return await board.scene(f"scene {name}")


async def _next_scene(board: Board, request: Request) -> Values | None:
    return await board.scene("next") if pressed(request) else None


SERVER: tuple[Entry, ...] = (
    Entry("ping", "f", "renews the sender's subscriptions; tells for how many seconds", write=_ping),
    Entry(
        "subscribe", "sf", f"the sender is told what changes under a pattern, for {LEASE_SECONDS:g} s; all of it first",
        write=_subscribe, takes="pattern, times a second (20)",
    ),
    Entry("unsubscribe", "i", "from a pattern, or from all", write=_unsubscribe, takes="pattern"),
    Entry("error", "sss", "what could not be done: address, why, and the gRPC status"),
    Entry("server/version", "s", "of Backline", lambda board: (__version__,)),
    Entry("server/device", "s", "where the models compute", lambda board: (board.engine.device,)),
    Entry("server/uptime", "f", "since the start", lambda board: (board.stats.uptime_seconds,), unit="s"),
    Entry("server/load", "f", "cores that live sessions claim", lambda board: (board.stats.load,)),
    Entry("server/chunks", "h", "since the start", lambda board: (board.stats.chunks,)),
    Entry("server/late_chunks", "h", "of these, too late to be played", lambda board: (board.stats.late_chunks,)),
    Entry("server/chunk_seconds/p50", "f", "median of recent calls of the models",
          lambda board: (board.stats.call_seconds_p50,), unit="s"),
    Entry("server/chunk_seconds/p99", "f", "99 of 100 take no longer",
          lambda board: (board.stats.call_seconds_p99,), unit="s"),
    Entry("server/refused", "i", "sessions that found no room", lambda board: (board.stats.sessions_refused,)),
    Entry("packs", "s*", "names of all packs", lambda board: tuple(board.packs)),
    Entry("sessions", "s*", "short names of all sessions", lambda board: tuple(board.sessions)),
    Entry("open", "ss", "opens a session on the server's own sound card, as `backline live`; tells its name and its id",
          write=_open, takes="pack, name, then pairs such as tempo 96"),
    Entry("scene", "s*", "of the set list that plays here, `/open` with scenes and its path; set by name or number, it "
          "comes on the next bar, and is told then", lambda board: board.scenes, _scene, "name or number"),
    Entry("scene/next", "s*", "the next one, on the bar", write=_next_scene),
)  # fmt: skip


# ---- a pack ----------------------------------------------------------------------------------------------


def _state(pack: PackOnServer) -> Values:
    resident = pack.entry.name in pack.board.engine.residents
    state = PackState.RESIDENT if resident else pack.entry.state
    return (PackState.AVAILABLE.value if state is PackState.RESIDENT and not resident else state.value,)


def _sessions(pack: PackOnServer) -> Values:
    return (sum(1 for watched in pack.board.sessions.values() if watched.session.stream_name == pack.entry.name),)


async def _load(pack: PackOnServer, request: Request) -> Values | None:
    if not pressed(request):
        return None
    await pack.board.on_server(pack.board.house.loads.load(pack.entry.name))
    return _state(pack)


async def _unload(pack: PackOnServer, request: Request) -> Values | None:
    close_sessions = len(request.arguments) == 1 and request.arguments[0] == "close"
    if not (close_sessions or pressed(request)):
        return None
    await pack.board.on_server(pack.board.house.loads.unload(pack.entry.name, close_sessions))
    return _state(pack)


def _names(which: str) -> Read:
    return lambda pack: tuple(each.name for each in getattr(pack.entry.spec, which, ()))


def _told(which: str) -> Read:
    return lambda pack: (str(getattr(pack.entry.pack, which, "")),)


PACK: tuple[Entry, ...] = (
    Entry("state", "s", "available, resident or damaged", _state),
    Entry("problem", "s", "why it cannot be loaded", lambda pack: (pack.entry.problem,)),
    Entry("description", "s", "what it plays", _told("description")),
    Entry("version", "s", "its own", _told("version")),
    Entry("license", "s", "under which it comes", _told("license")),
    Entry("ports", "s*", "its outputs", _names("ports")),
    Entry("parameters", "s*", "what can be set", _names("parameters")),
    Entry("texts", "s*", "what can be told", _names("texts")),
    Entry("sessions", "i", "that play it", _sessions),
    Entry("load", "s", "makes it resident; tells its state, as soon as that is done", write=_load),
    Entry("unload", "s", 'lets go of it; "close" ends its sessions, which otherwise keep it', write=_unload,
          takes='nothing, or "close"'),
)  # fmt: skip


# ---- a session -------------------------------------------------------------------------------------------


def _of_session(read: Callable[[Watched], Values]) -> Read:
    return lambda session: read(session.watched)


async def _rename(session: SessionOnServer, request: Request) -> None:
    (name,) = exactly(request, 1, "a name")
    session.board.rename(session.watched, string(name, "the name"))


async def _switch(session: SessionOnServer, request: Request) -> Values:
    (pack,) = exactly(request, 1, "a pack")
    again = await session.board.steer(session.watched, f"pack {string(pack, 'the pack')}")
    return (again.session.stream_name,)


async def _close(session: SessionOnServer, request: Request) -> Values | None:
    if not pressed(request):
        return None
    await session.board.close(session.watched)
    return ("closed",)


async def _set_seed(session: SessionOnServer, request: Request) -> Values:
    (given,) = exactly(request, 1, "a seed, in decimal digits or as a number")
    seed = f"{number(given, 'the seed'):.0f}" if isinstance(given, float) else str(given)
    if not (seed.isascii() and seed.isdecimal() and int(seed) < 2**64):
        raise BadInput(f"the seed is {quoted(seed)}: use 0 to 2^64 - 1")
    again = await session.board.steer(session.watched, f"take {seed}")
    return (str(again.session.config.seed),)


async def _next_take(session: SessionOnServer, request: Request) -> Values | None:
    if not pressed(request):
        return None
    again = await session.board.steer(session.watched, "take")
    return (str(again.session.config.seed),)


async def _moved(session: SessionOnServer, request: Request, change: Callable[[Transport], Transport]) -> None:
    """Changes the transport where the request wants it."""
    watched, position = session.watched, session.board.position(session.watched, request.seconds)
    await session.board.move(watched, position, change)


async def _learn(session: SessionOnServer, request: Request) -> Values:
    (parameter,) = exactly(request, 1, "a parameter")
    return (await session.board.learn(session.watched, string(parameter, "the parameter")),)


def _playing(playing: bool) -> Write:
    async def write(session: SessionOnServer, request: Request) -> None:
        if pressed(request):
            await _moved(session, request, lambda now: replace(now, playing=playing))

    return write


async def _set_tempo(session: SessionOnServer, request: Request) -> None:
    tempo = number(exactly(request, 1, "quarter notes a minute")[0], "the tempo")
    await _moved(session, request, lambda now: replace(now, tempo=tempo))


async def _set_position(session: SessionOnServer, request: Request) -> None:
    position = number(exactly(request, 1, "quarter notes from the start of the song")[0], "the song position")
    await _moved(session, request, lambda now: jump(now, position))


async def _set_signature(session: SessionOnServer, request: Request) -> None:
    upper, lower = (int(number(each, "the signature")) for each in exactly(request, 2, "two numbers such as 6 and 8"))
    await _moved(
        session, request, lambda now: replace(now, numerator=upper, denominator=lower, bar_start=now.song_position)
    )


async def _tap(session: SessionOnServer, request: Request) -> None:
    if not pressed(request):
        return
    seconds = session.board.clock() if request.seconds is None else request.seconds
    if (tapped := session.watched.tap(seconds)) is not None:
        await _moved(session, replace(request, seconds=seconds if session.watched.clock.runs else None), tapped)


def _transport(read: Callable[[Transport], Values]) -> Read:
    return lambda session: read(session.watched.transport_at(session.watched.position))


def _beat(session: SessionOnServer) -> Values:
    beat = session.watched.beat()
    if beat is None:
        raise Unserved("no transport plays, and the pack hears no beat yet: send tempo and play, or tap")
    return beat.beat, beat.phase


def _chord(session: SessionOnServer) -> Values:
    if not session.watched.chord:
        raise Unserved(f"{session.watched.session.stream_name!r} tells no chord, or has heard none yet")
    return (session.watched.chord,)


def _warning(watched: Watched) -> Values:
    warning = watched.warning
    return ("", "", 0) if warning is None else (warning.code, warning.message, warning.count)


SESSION: tuple[Entry, ...] = (
    Entry("name", "s", "its short name", _of_session(lambda watched: (watched.name,)), _rename, "name"),
    Entry("id", "s", "the server's name of it, which addresses may have in place of the short one",
          _of_session(lambda watched: (watched.session.id,))),
    Entry("pack", "s", "that it plays; one that was opened by OSC can be given another, which comes on the bar",
          _of_session(lambda watched: (watched.session.stream_name,)), _switch, "pack"),
    Entry("task", "s", "of the pack's", _of_session(lambda watched: (watched.session.config.task,))),
    Entry("client", "s", "who has opened it", _of_session(lambda watched: (watched.session.client_name,))),
    Entry("state", "s", "open, streaming, detached or closed", _of_session(lambda watched: (watched.session.phase,))),
    Entry("mode", "s", "live or offline",
          _of_session(lambda watched: ("offline" if watched.session.config.offline else "live",))),
    Entry("sample_rate", "i", "of its audio", _of_session(lambda watched: (watched.session.config.sample_rate,)),
          unit="Hz"),
    Entry("seed", "s", "in decimal digits; one that was opened by OSC begins anew with another, on the bar",
          _of_session(lambda watched: (str(watched.session.config.seed),)), _set_seed, "seed"),
    Entry("close", "s", "ends it, when all that is due has been played", write=_close),
    Entry("next_take", "s", "one that was opened by OSC begins anew on the bar; tells the seed that was drawn",
          write=_next_take),
    Entry("learn", "s", "the next MIDI controller that moves leads a parameter of one that was opened by OSC with "
          "midi-in; tells it then, as map takes it", write=_learn, takes="parameter"),
    Entry("midi/map", "s*", "controllers and what they lead",
          lambda session: tuple(session.board.midi(session.watched).get("map", ()))),
    Entry("midi/newest", "s", "message that has come by MIDI",
          lambda session: (session.board.midi(session.watched).get("newest", ""),)),
    Entry("parameter/<parameter>", "f", "in force; set by number, or by what the pack calls a value"),
    Entry("normalised/<parameter>", "f", "the same, from 0 to 1"),
    Entry("text/<text>", "s", "in force; set, as soon as the pack has prepared it"),
    Entry("transport/playing", "T", "whether it runs", _transport(lambda now: (now.playing,))),
    Entry("transport/play", "", "lets it run", write=_playing(True), timed=True),
    Entry("transport/stop", "", "lets it stand", write=_playing(False), timed=True),
    Entry("transport/tempo", "f", "of quarter notes", _transport(lambda now: (now.tempo,)), _set_tempo, "tempo",
          unit="1/min", minimum=1.0, maximum=999.0, timed=True),
    Entry("transport/position", "d", "quarter notes from the start of the song",
          _transport(lambda now: (now.song_position,)), _set_position, "position", timed=True),
    Entry("transport/signature", "ii", "such as 6 and 8; the bar begins where it is set",
          _transport(lambda now: (now.numerator, now.denominator)), _set_signature, "two numbers", timed=True),
    Entry("transport/tap", "", "a beat is now; from the second on it has this tempo, and plays", write=_tap,
          timed=True),
    Entry("beat", "if", "beat of the bar from 1, and how much of it has passed: of the transport, or else as the pack "
          "hears it", _beat),
    Entry("chord", "s", "such as Am, that the pack hears, or that is held, and that it plays by; as it sounds", _chord),
    Entry("level/input", "ff", "peak and mean of what comes in",
          _of_session(lambda watched: watched.input_level.now), unit="dBFS", minimum=-120.0, maximum=0.0),
    Entry("level/output/<port>", "ff", "peak and mean of what is heard of an output", unit="dBFS"),
    Entry("latency", "f", "end to end, by the ledger",
          _of_session(lambda watched: (watched.session.ledger.total_seconds,)), unit="s"),
    Entry("latency/<part>", "f", "a part of it", unit="s"),
    Entry("chunk_latency", "f", "of the newest chunk: from its first sample's capture to its arrival",
          _of_session(lambda watched: (watched.chunk_latency_seconds,)), unit="s"),
    Entry("chunks", "h", "so far", _of_session(lambda watched: (watched.session.totals.chunks,))),
    Entry("late_chunks", "h", "of these, too late to be played",
          _of_session(lambda watched: (watched.session.totals.late_chunks,))),
    Entry("realtime_factor", "f", "compute seconds a second of audio",
          _of_session(lambda watched: (watched.session.realtime_factor,))),
    Entry("position", "h", "sample of the input that comes next", _of_session(lambda watched: (watched.position,))),
    Entry("jitter", "f", "how far arrivals lie off the clock by which time tags become samples",
          _of_session(lambda watched: (watched.clock.jitter_seconds if watched.clock.runs else 0.0,)), unit="s"),
    Entry("warning", "ssh", "the newest: code, words, and how many there were", _of_session(_warning)),
)  # fmt: skip
ROWS = {entry.path: entry for entry in SESSION}


def session_entries(watched: Watched) -> dict[str, Entry]:
    """Every entry of a session by its path."""
    entries = [entry for entry in SESSION if "<" not in entry.path]
    for parameter in watched.parameters.values():
        entries += _parameter(parameter)
    for text in watched.session.spec.texts:
        entries.append(_text(text.name, text.description))
    for port in watched.session.ports:
        entries.append(_one_of("level/output/<port>", port.name, _level(port.name)))
    for index, name in enumerate(LATENCY_PARTS):
        entries.append(_one_of("latency/<part>", name, _part(index)))
    return {entry.path: entry for entry in entries}


def _one_of(row: str, name: str, read: Read, write: Write | None = None, **changes: Any) -> Entry:
    """The entry of one of those for which a row of the table stands."""
    path = row[: row.index("<")] + speakable(name)
    return replace(ROWS[row], path=path, row=row, read=read, write=write, **changes)


def _level(port: str) -> Read:
    return lambda session: session.watched.levels[port].now


def _part(index: int) -> Read:
    return lambda session: (session.watched.session.ledger.items[index].seconds,)


def _parameter(parameter: Parameter) -> Iterator[Entry]:
    name = parameter.name

    async def write(session: SessionOnServer, request: Request) -> None:
        (given,) = exactly(request, 1, "a number, or what the pack calls a value")
        value = given if isinstance(given, str) else number(given, name)
        watched, position = session.watched, session.board.position(session.watched, request.seconds)
        await session.board.apply(lambda: watched.set_parameter(name, value, position))

    async def write_share(session: SessionOnServer, request: Request) -> None:
        share = number(exactly(request, 1, "a number from 0 to 1")[0], name)
        watched, position = session.watched, session.board.position(session.watched, request.seconds)
        await session.board.apply(lambda: watched.set_normalised(name, share, position))

    fixed = not parameter.automatable
    description = described(parameter) + (" (fixed when the session opens)" if fixed else "")
    yield _one_of(
        "parameter/<parameter>", name, lambda session: (_as(parameter, session.watched.value(name)),),
        None if fixed else write, types="i" if parameter.integer else "f", description=description,
        unit=parameter.unit, minimum=parameter.minimum, maximum=parameter.maximum, timed=True,
    )  # fmt: skip
    yield _one_of(
        "normalised/<parameter>", name, lambda session: (session.watched.normalised(name),),
        None if fixed else write_share, description=description, minimum=0.0, maximum=1.0, timed=True,
    )  # fmt: skip


def _as(parameter: Parameter, value: float) -> Value:
    return int(value) if parameter.integer else value


def _text(name: str, description: str) -> Entry:
    async def write(session: SessionOnServer, request: Request) -> None:
        text = string(exactly(request, 1, "a text")[0], name)
        watched, position = session.watched, session.board.position(session.watched, request.seconds)
        await session.board.apply(lambda: watched.set_text(name, text, position))

    def read(session: SessionOnServer) -> Values:
        return (session.watched.session.take.changes.texts[name].text,)

    return _one_of("text/<text>", name, read, write, description=description, timed=True)


# ---- the table -------------------------------------------------------------------------------------------

OWNERS: Mapping[str, tuple[Entry, ...]] = {"": SERVER, "pack/<pack>/": PACK, "session/<session>/": SESSION}
SET_BY_NAME = frozenset(
    (  # of those that stand for several
        "parameter/<parameter>",
        "normalised/<parameter>",
        "text/<text>",
    )
)


def speakable(name: str) -> str:
    """A name as a part of an address: without what OSC gives a meaning."""
    return "".join("_" if character in " #*,/?[]{}" else character for character in name)


def row_of(owner: str, entry: Entry) -> str:
    """The address of an entry as the table has it."""
    return f"/{owner}{entry.row or entry.path}"


def table() -> str:
    """Every address, as the README shows it."""
    lines = ["| Address | Types | | What |", "|---|---|---|---|"]
    for owner, entries in OWNERS.items():
        for entry in entries:
            unit = f", in {entry.unit}" if entry.unit else ""
            taken = f"; takes {entry.takes}" if entry.takes else ""
            lines.append(
                f"| `{row_of(owner, entry)}` | {entry.types} | {_use(entry)} | {entry.description}{unit}{taken} |"
            )
    return "\n".join(lines)


def _use(entry: Entry) -> str:
    if "<" in entry.path:
        return "read, set" if entry.path in SET_BY_NAME else "read"
    if entry.read is None:
        return "told" if entry.write is None else "do"
    return "read" if entry.write is None else "read, set"


if __name__ == "__main__":
    print(table())
