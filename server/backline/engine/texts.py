"""Texts that sessions set, made into what a model is given: on threads that nobody who plays waits for."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

from backline.engine.errors import BadInput, ChunkFailed, NotFound, Refused
from backline.engine.limits import PENDING_TEXTS, TEXT_BYTES, quoted
from backline.models.stream import Stream, StreamSpec, TextStream

REMEMBERED = 256  # prepared texts of a model
THREADS = 2  # of a model; a session has one text at a time prepared, so that who sends many waits for their own


@dataclass(frozen=True)
class Prepared:
    """A text, and what the model made of it."""

    text: str
    value: Any


class TextDesk:
    """Prepares the texts of one model's sessions, each once. Any thread but the engine's."""

    def __init__(self, name: str, stream: Stream) -> None:
        self._name, self._stream = name, stream
        self._lock = threading.Lock()  # of what is remembered
        self._remembered: OrderedDict[tuple[str, str], Prepared] = OrderedDict()  # newest last
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix=f"texts-{name}")

    def prepare(self, name: str, text: str) -> Prepared:
        """What the model makes of a text; takes as long as that takes.

        Raises:
            BadInput: the model cannot take it.
            ChunkFailed: the model failed.
        """
        key = (name, text)
        with self._lock:
            if key in self._remembered:
                self._remembered.move_to_end(key)
                return self._remembered[key]
        try:
            found = Prepared(text, cast(TextStream, self._stream).prepare(name, text))
        except ValueError as error:
            raise BadInput(f"{self._name!r} cannot take {quoted(text)} as {name!r}: {error}") from error
        except Exception as error:
            raise ChunkFailed(f"{self._name!r} could not read {quoted(text)} ({error!r}): use another text") from error
        with self._lock:
            self._remembered[key] = found
            while len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)
        return found

    def opening(self, spec: StreamSpec, given: Mapping[str, str]) -> dict[str, Prepared]:
        """Every text of a session that opens: the one given, or the default.

        Raises:
            NotFound, BadInput, ChunkFailed: see `check_text` and `prepare`.
        """
        for name, text in given.items():
            check_text(self._name, spec, name, text)
        return {text.name: self.prepare(text.name, given.get(text.name, text.default)) for text in spec.texts}

    def later(self, task: Callable[[], None]) -> None:
        """Runs `task` on one of the threads; not at all where the model goes."""
        try:
            self._threads.submit(task)
        except RuntimeError:
            return  # its sessions have ended, and with them who would hear of it

    def stop(self) -> None:
        """No text is prepared any more but those that are being prepared."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class TextQueue:
    """One session's texts, prepared in their order, one at a time."""

    def __init__(
        self,
        desk: TextDesk,
        done: Callable[[str, Prepared, int | None], None],
        failed: Callable[[Exception], None],
        settled: Callable[[], None],
    ) -> None:
        """All are called on a thread of the desk.

        Args:
            done: with the name of each text, the text and its position.
            failed: with what preparing raises; the texts behind it are forgotten.
            settled: when no text is on its way any more.
        """
        self._desk, self._done, self._failed, self._settled = desk, done, failed, settled
        self._lock = threading.Lock()
        self._waiting: deque[tuple[str, str, int | None]] = deque()
        self.busy = False  # a text is on its way

    def add(self, name: str, text: str, position: int | None) -> None:
        """Raises Refused: too many wait already."""
        with self._lock:
            if len(self._waiting) >= PENDING_TEXTS:
                raise Refused(f"{PENDING_TEXTS} texts wait in this session, as many as may: send fewer of them")
            self._waiting.append((name, text, position))
            if self.busy:
                return
            self.busy = True
        self._desk.later(self._next)

    def _next(self) -> None:
        with self._lock:
            self.busy = bool(self._waiting)
            if self.busy:
                name, text, position = self._waiting.popleft()
        if not self.busy:
            self._settled()
            return
        try:
            self._done(name, self._desk.prepare(name, text), position)
        except Exception as error:
            with self._lock:
                self._waiting.clear()
            self._failed(error)
        self._desk.later(self._next)


def check_text(pack: str, spec: StreamSpec, name: str, text: str) -> None:
    """Refuses what no session may set.

    Raises:
        NotFound: the model has no such text.
        BadInput: it is too long, or holds what no text does.
    """
    known = [entry.name for entry in spec.texts]
    if name not in known:
        raise NotFound(f"no text {quoted(name)} in {pack!r}: use {', '.join(known) or 'none'}")
    if "\0" in text:
        raise BadInput(f"text {name!r} holds a NUL: leave it out")
    if (size := len(text.encode(errors="surrogatepass"))) > TEXT_BYTES:
        raise BadInput(f"text {name!r} is {size} bytes long: use at most {TEXT_BYTES}")
