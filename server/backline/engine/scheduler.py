"""A resident model and its engine thread, which takes every session that has a chunk's worth into one call.

Every model has a thread of its own, which makes every call into it: models do not wait for each other, and a quick one
answers while a slow one computes. The thread sleeps on a condition until a session becomes ready or a task is posted;
while a model computes in its kernels, the interpreter's lock is free for everyone else.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from backline.engine.admission import Cost
from backline.engine.errors import Damaged, EngineError, NotFound, is_out_of_memory, out_of_memory
from backline.engine.session import Session
from backline.models.stream import ChunkInput, Stream

T = TypeVar("T")

log = logging.getLogger(__name__)


class Resident:
    """A model in memory, its sessions, and the thread that all its calls come from."""

    def __init__(self, name: str, stream: Stream, warm_up_cost: float) -> None:
        self.name, self.stream = name, stream
        self.cost = Cost(warm_up_cost)
        self.sessions: list[Session] = []  # changed by the engine thread only
        self.call_seconds: deque[float] = deque(maxlen=1024)  # wall times of the newest engine calls
        self.chunks = 0  # since the start, over all sessions
        self.late_chunks = 0
        self._condition = threading.Condition()
        self._tasks: deque[Callable[[], None]] = deque()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"engine-{name}", daemon=True)
        self._thread.start()

    def open_sessions(self) -> list[Session]:
        """Those that have not ended. Any thread."""
        return [session for session in self.sessions if not session.closed.is_set()]

    def wake(self) -> None:
        """Has the engine thread look for ready sessions. Any thread; never waits for a model."""
        with self._condition:
            self._condition.notify()

    def post(self, task: Callable[[], None]) -> None:
        """Runs `task` on the engine thread between two engine calls. Any thread; never waits for a model."""
        with self._condition:
            self._tasks.append(task)
            self._condition.notify()

    def call(self, function: Callable[[], T]) -> T:
        """`function()`, run on the engine thread; waits for the engine call in progress. Any thread but that."""
        future: Future[T] = Future()

        def task() -> None:
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        with self._condition:
            if self._stopping:
                raise NotFound(f"{self.name!r} has been unloaded: load it again")
            self._tasks.append(task)
            self._condition.notify()
        return future.result()

    def stop(self) -> None:
        """Ends the thread after what has been posted. Any thread but the engine's."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._condition:
                batch: list[Session] = []
                while not self._tasks and not (batch := self._next_batch()):
                    if self._stopping:
                        return
                    self._condition.wait()
                task = self._tasks.popleft() if self._tasks else None
            if task is not None:
                try:
                    task()
                except Exception:  # of a client's callback, as a rule; whoever waits in `call` gets it
                    log.exception("a task of the engine thread failed")
            elif batch:
                self._step(batch)
            if any(session.closed.is_set() for session in self.sessions):
                self.sessions = self.open_sessions()

    def _next_batch(self) -> list[Session]:
        """The rows to step next: those that have a chunk's worth, and live ones before offline ones."""
        ready = [session for session in self.sessions if session.ready()]
        now = time.perf_counter()
        for session in ready:
            if session.ready_since is None:
                session.ready_since = now
        return [session for session in ready if not session.config.offline] or ready

    def _step(self, batch: list[Session]) -> None:
        """One chunk for every session of the batch. What goes wrong ends the sessions that it concerns, no others."""
        start = time.perf_counter()
        waited = {session.id: start - (session.ready_since or start) for session in batch}
        inputs: dict[int, tuple[Session, ChunkInput]] = {}
        for session in batch:
            try:
                inputs[session.row] = (session, session.gather())
            except Exception as error:
                self._fail(session, error)
        if not inputs:
            return
        try:
            outputs = {output.row: output for output in self.stream.step([chunk for _, chunk in inputs.values()])}
            missing = inputs.keys() - outputs.keys()
            if missing:
                raise EngineError(f"{self.name!r} gave no output for rows {sorted(missing)}")
        except Exception as error:
            log.exception("%s failed with %d sessions in the call", self.name, len(inputs))
            problem: Exception
            if is_out_of_memory(error):
                problem = out_of_memory(self.name, error)
            else:
                problem = Damaged(f"{self.name!r} failed in a chunk: {error!r}; unload it and load it again")
            problem.__cause__ = error
            for session, _ in inputs.values():
                self._fail(session, problem)
            return
        share = (time.perf_counter() - start) / len(inputs)
        for row, (session, _) in inputs.items():
            try:
                self.late_chunks += session.deliver(outputs[row], share)
                self.chunks += 1
                self.cost.observe(share, float(session.config.chunk_seconds))
                session.observe(waited[session.id], time.perf_counter() - start)
            except Exception as error:
                self._fail(session, error)
        self.call_seconds.append(time.perf_counter() - start)

    def _fail(self, session: Session, error: Exception) -> None:
        try:
            session.end(error)
        except Exception:  # its client or its model cannot even be told
            log.exception("session %s could not be ended in order", session.id)
