"""Sessions on the server's own sound card: `backline live`, each in a process of its own, opened and closed by a door.

They are no part of the server's process, because a sound card must not wait for Python's lock while a model computes.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from backline.doors.packets import Value
from backline.doors.watched import Watched
from backline.engine.errors import BadInput, NotFound, Refused
from backline.engine.limits import quoted
from backline.models.stream import Transport

OPEN_SECONDS = 120.0  # that a pack may take to load
CLOSE_SECONDS = 10.0
LIVE_SESSIONS = 8  # a sound card has not more to give
UNREAD_BYTES = 65_536  # of what a process is told, that may wait for it
LINES = 20  # of what a process says, that are kept
LINE_BYTES = 1 << 20  # of one of them
OPTIONS = (
    "tempo", "signature", "downbeat", "seed", "visibility", "chunk", "guidance", "temperature", "task", "port", "dry",
    "rate", "block", "jitter-buffer", "input-device", "output-device", "input-channel", "scenes", "midi-in", "map",
    "learn",
)  # fmt: skip
# How a process begins the lines that tell of what it was asked for, or why not: see cli/stage.py and cli/conductor.py.
SCENE, SCENE_REFUSED = "scene", "scene refused"
LEARNED, LEARN_REFUSED = "learned", "learn refused"
REFUSALS = {SCENE_REFUSED: SCENE, LEARN_REFUSED: LEARNED}
STATUS = "status"  # and one of what it is at, see cli/status.py
LEARN_SECONDS = 60.0  # that somebody may take to move a controller
NAMED = ("set", "text")  # as set/temperature and text/prompt


@dataclass
class Playing:
    """One of the processes."""

    options: list[Value]
    process: asyncio.subprocess.Process
    session: asyncio.Future[Watched]
    said: deque[str]
    watched: Watched | None = None  # its first session
    scene: str = ""  # that is heard
    asked: dict[str, asyncio.Future[str]] = field(default_factory=dict)  # the scene that comes, what is learned
    status: dict[str, Any] = field(default_factory=dict)  # as it was told last
    ending: bool = False  # it has been told to


class LiveSessions:
    """Of one server. All on the door's event loop."""

    def __init__(self, command: Sequence[str], address: str, lost: Callable[[str, Exception], None]) -> None:
        """
        Args:
            command: what `backline live` is started with.
            address: where it finds the server.
            lost: is told of a session that has ended by itself, by its name.
        """
        self._command, self._address, self._lost = list(command), address, lost
        self._playing: dict[str, Playing] = {}  # by short name
        self._opening: set[str] = set()
        self._watches: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None  # the door's, once something plays

    def figures(self) -> list[dict[str, Any]]:
        """Of each of them that has told: its name, its pack, its scenes, its MIDI (cli/status.py). Any thread."""
        return [{"name": name, **playing.status} for name, playing in list(self._playing.items()) if playing.status]

    def ask(self, name: str, line: str) -> Future[str]:
        """`steer` from any thread but the door's."""
        if self._loop is None:
            raise NotFound(f"no session {quoted(name)} plays on the sound card")
        return asyncio.run_coroutine_threadsafe(self.steer(name, line), self._loop)

    def knows(self, name: str) -> bool:
        """Whether a session of that name was opened here."""
        return name in self._playing or name in self._opening

    def claim(self, client_name: str) -> str | None:
        """The short name of a session whose client calls itself so, where it was opened here and is awaited."""
        playing = self._playing.get(client_name)
        return client_name if playing is not None and playing.watched is None else None

    def opened(self, name: str, watched: Watched) -> None:
        """A session that `claim` has named is there."""
        if name in self._playing:
            self._playing[name].watched = watched
            self._check_plays(self._playing[name])

    def _check_plays(self, playing: Playing) -> None:
        """It plays once its session is there, and it has said what is heard on its card."""
        if playing.watched is not None and playing.scene and not playing.session.done():
            playing.session.set_result(playing.watched)

    def renamed(self, before: str, after: str) -> None:
        """A session has another name."""
        if before in self._playing:
            self._playing[after] = self._playing.pop(before)

    async def open(self, name: str, pack: str, options: Sequence[Value]) -> Watched:
        """Starts one, and returns when it plays.

        Args:
            options: pairs of a name and a value.

        Raises:
            BadInput: options that there are not.
            Refused: it does not start; the message is its own.
        """
        arguments, self._loop = as_arguments(options), asyncio.get_running_loop()
        if len(self._playing) + len(self._opening) >= LIVE_SESSIONS:
            raise Refused(f"{LIVE_SESSIONS} sessions play on the sound card: close one first")
        self._opening.add(name)
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command, f"--server={self._address}", f"--pack={pack}", f"--name={name}", "--steered",
                *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE, limit=LINE_BYTES,
            )  # fmt: skip
            session = asyncio.get_running_loop().create_future()
            playing = self._playing[name] = Playing(list(options), process, session, deque(maxlen=LINES))
        finally:
            self._opening.discard(name)
        watch = asyncio.create_task(self._watch(playing))
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)
        try:
            return await asyncio.wait_for(asyncio.shield(session), OPEN_SECONDS)
        except BaseException:
            await self._end(playing)
            raise

    def scenes(self) -> dict[str, str]:
        """Of each session that plays a set list by its name: the scene that is heard."""
        return {name: playing.scene for name, playing in self._playing.items() if "scenes" in playing.options[::2]}

    async def steer(self, name: str, line: str) -> str:
        """Asks for what a line says, see cli/stage.py, and returns what is heard once it has come on the bar; or, of
        `learn PARAMETER`, the controller that has moved, as --map takes it.

        Raises:
            NotFound: the session is gone already.
            Refused: it does not come; the message is the process's own. Or the process no longer listens.
        """
        kind, seconds, late = SCENE, OPEN_SECONDS, "it has not come"
        if line.startswith("learn "):
            kind, seconds, late = LEARNED, LEARN_SECONDS, "no controller has moved yet"
        playing = self._tell(name, line)
        self._settle(playing, kind, Refused("something else was asked for before it came"))
        asked = playing.asked[kind] = asyncio.get_running_loop().create_future()
        try:
            return await asyncio.wait_for(asked, seconds)
        except TimeoutError:
            if kind == LEARNED and name in self._playing:
                self._tell(name, "learn")  # nothing, so that no knob is taken by surprise
            raise Refused(f"{late}, after {seconds:g} s: ask again") from None

    def _settle(self, playing: Playing, kind: str, answer: str | Exception) -> None:
        """Whoever waits for an answer of this kind has it."""
        asked = playing.asked.pop(kind, None)
        if asked is None or asked.done():
            return
        if isinstance(answer, Exception):
            asked.set_exception(answer)
        else:
            asked.set_result(answer)

    def transport(self, name: str, transport: Transport, position: int) -> None:
        """Tells what holds from a sample on, so that what comes keeps it.

        Raises:
            Refused: the process no longer listens.
        """
        values = {"position": position} | {
            key: getattr(transport, key)
            for key in ("playing", "tempo", "numerator", "denominator", "song_position", "bar_start")
        }
        self._tell(name, f"transport {json.dumps(values)}")

    def _tell(self, name: str, line: str) -> Playing:
        if name not in self._playing:
            raise NotFound(f"no session {quoted(name)} plays on the sound card any more")
        if re.search(r"[\0\r\n]", line):
            raise BadInput(f"{quoted(line)} has several lines: use one")
        playing = self._playing[name]
        assert playing.process.stdin is not None
        if playing.process.stdin.transport.get_write_buffer_size() > UNREAD_BYTES:
            raise Refused(f"session {quoted(name)} reads nothing that it is told: close it")
        playing.process.stdin.write(f"{line}\n".encode())
        return playing

    async def close(self, name: str) -> None:
        """Ends one in order, and returns when it has ended.

        Raises:
            NotFound: it is gone already.
        """
        if name not in self._playing:
            raise NotFound(f"no session {quoted(name)} plays on the sound card any more")
        await self._end(self._playing[name])

    async def close_all(self) -> None:
        """Ends all of them."""
        await asyncio.gather(*(self._end(playing) for playing in list(self._playing.values())))
        await asyncio.gather(*self._watches)

    async def _end(self, playing: Playing) -> None:
        playing.ending = True
        with suppress(ProcessLookupError):  # it has ended by itself
            playing.process.terminate()
        try:
            await asyncio.wait_for(playing.process.wait(), CLOSE_SECONDS)
        except TimeoutError:
            playing.process.kill()
            await playing.process.wait()
        self._playing = {name: each for name, each in self._playing.items() if each is not playing}

    async def _watch(self, playing: Playing) -> None:
        """Hears what a process says until it ends; then those are told who need to be."""
        assert playing.process.stderr is not None
        while not playing.process.stderr.at_eof():
            with suppress(ValueError):  # a line without an end, which is passed over
                if line := await playing.process.stderr.readline():
                    self._hear(playing, line.decode("utf-8", "replace").strip())
        code = await playing.process.wait()
        name = next((name for name, each in self._playing.items() if each is playing), "")
        self._playing.pop(name, None)
        problem = Refused(explained(playing.said, code))
        for kind in list(playing.asked):
            self._settle(playing, kind, problem)
        if not playing.session.done():
            playing.session.set_exception(problem)
            playing.session.exception()  # whoever waits gets it; nobody need wait
        elif not playing.ending:
            self._lost(name, problem)

    def _hear(self, playing: Playing, line: str) -> None:
        """A process has said something."""
        kind, _, text = line.partition(": ")
        if kind == SCENE:
            playing.scene = text
            self._check_plays(playing)
        if kind in (SCENE, LEARNED):
            self._settle(playing, kind, text)
        elif kind in REFUSALS:
            self._settle(playing, REFUSALS[kind], Refused(text))
        elif kind == STATUS:
            with suppress(ValueError):  # cut off by the end of the process
                playing.status = json.loads(text)
        else:
            playing.said.append(line)


def explained(said: Sequence[str], code: int) -> str:
    """Why a process has ended, in its own words."""
    errors = [line.removeprefix("error: ") for line in said if line.startswith("error: ")]
    return (errors or [line for line in said if line] or [f"`backline live` has ended with code {code}"])[-1]


def as_arguments(options: Sequence[Value]) -> list[str]:
    """Pairs of a name and a value as the options of `backline live`.

    Raises:
        BadInput: there are no such options, or a value is missing.
    """
    if len(options) % 2:
        raise BadInput(f"{options[-1]!r} has no value: send pairs such as tempo 96")
    arguments = []
    for key, value in zip(options[::2], options[1::2], strict=True):
        kind, _, name = str(key).replace("_", "-").partition("/")
        plain = f"{value:g}" if isinstance(value, float) else str(value)
        if name and kind in NAMED:
            arguments.append(f"--{kind}={str(key).partition('/')[2]}={plain}")
        elif not name and kind in OPTIONS:
            arguments.append(f"--{kind}={plain}")
        else:
            raise BadInput(
                f"no option {quoted(str(key))}: use {', '.join(OPTIONS)}, or set/ and text/ with the name of a "
                "parameter or text"
            )
        if re.search(r"[\0\r\n]", arguments[-1]):
            raise BadInput(f"{quoted(str(key))} has a value of several lines: use one")
    return arguments
