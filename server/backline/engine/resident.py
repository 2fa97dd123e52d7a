"""A resident model and its engine thread, which takes every session that has a chunk's worth into one call.

Every model has a thread of its own, which makes every call into it: models do not wait for each other, and a quick one
answers while a slow one computes. The thread sleeps on a condition until a session becomes ready or a task is posted;
while a model computes in its kernels, the interpreter's lock is free for everyone else.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TypeVar

from backline.engine.admission import Claim, Cost
from backline.engine.clock import CLOCK, Clock
from backline.engine.errors import (
    BadInput,
    ChunkFailed,
    EngineError,
    NotFound,
    Refused,
    is_out_of_memory,
    out_of_memory,
)
from backline.engine.figures import ChunkSeconds, ModelFigures
from backline.engine.ledger import MARGIN
from backline.engine.precedence import GIVE_WAY_SECONDS, Precedence
from backline.engine.session import Session
from backline.engine.take import Needs, UnfinishedChunk, needs
from backline.engine.texts import TextDesk
from backline.models.errors import NoRowFree
from backline.models.stream import ChunkInput, ChunkOutput, LatencyItem, RowFailed, SessionConfig, Stream
from backline.models.warm_up import compute_clock
from backline.packs.registry import PackEntry

T = TypeVar("T")

TASKS_SECONDS = 0.001  # of posted tasks before a ready batch gets its turn; one is always done

log = logging.getLogger(__name__)


class Resident:
    """A model in memory, its sessions, and the thread that all its calls come from."""

    def __init__(
        self,
        name: str,
        stream: Stream,
        warm_up_costs: Mapping[str, float],
        figures: ModelFigures,
        device: str = "cpu",
        clock: Clock = CLOCK,
        precedence: Precedence | None = None,
        entry: PackEntry | None = None,
    ) -> None:
        """
        Args:
            warm_up_costs: by task, the first one first; a model without tasks has one called "".
            figures: which its engine thread adds to.
            precedence: what it shares with the other models of the machine.
            entry: the pack that it was built from, if it was one.
        """
        self.name, self.stream, self.entry, self.figures = name, stream, entry, figures
        self.gone = False  # nobody is let in any more; the engine thread's
        self._precedence = precedence or Precedence()
        self._clock, self._compute_clock = clock, compute_clock(device)
        self._costs = {task: Cost(seconds) for task, seconds in warm_up_costs.items()}
        self.texts = TextDesk(name, stream)
        self.sessions: list[Session] = []  # changed by the engine thread only
        self.call_seconds: deque[float] = deque(maxlen=1024)  # wall times of the newest engine calls
        self._condition = threading.Condition()
        self._tasks: deque[Callable[[], None]] = deque()
        self._gives_way_since: float | None = None  # by the clock, while work that has time waits for others
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"engine-{name}", daemon=True)
        self._thread.start()

    def open_sessions(self) -> list[Session]:
        """Those that have not ended. Any thread."""
        return [session for session in self.sessions if not session.closed.is_set()]

    def cost(self, config: SessionConfig) -> Cost:
        """What sessions of this one's task cost. Any thread."""
        return self._costs[config.task or next(iter(self._costs))]

    def claim(self, session: Session) -> Claim:
        """What one of its sessions asks of the machine. Any thread."""
        return self.asked(session.config, session.block_size)

    def asked(self, config: SessionConfig, block_size: int) -> Claim:
        """What a session of such a `config` asks of the machine whose client sends such blocks. Any thread."""
        spec = self.stream.spec.for_task(config.task)
        seconds, cost = float(config.chunk_seconds), self.cost(config)
        messages = config.sample_rate / block_size + (len(spec.ports) if config.want_audio else 1) / seconds
        return Claim(self.name, seconds, cost.value * seconds, config.offline, messages, cost.delivery_seconds)

    def company_seconds(self, session: Session | None = None) -> float:
        """How long the others on the model may keep a chunk waiting, of a session or of one that is to come: a chunk of
        each, as long as one may take when the machine stumbles. Any thread.
        """
        others = [other for other in self.open_sessions() if other is not session]
        return MARGIN * sum(self.cost(other.config).value * float(other.config.chunk_seconds) for other in others)

    def tell_company(self) -> None:
        """Tells live sessions what the company they are in may cost them. The engine thread."""
        for session in self.open_sessions():
            if not session.config.offline:
                session.announce(session.book.expect_queue(self.company_seconds(session)))

    def take_row(self, config: SessionConfig) -> tuple[int, Needs, tuple[LatencyItem, ...]]:
        """A free row, what its first chunk needs, and what the model costs. The engine thread.

        Raises:
            NotFound: the model goes.
            Refused: there is no row, or no memory for it.
            BadInput: the model cannot play such a session.
        """
        self.check_there()
        stream, name = self.stream, self.name
        try:
            row = stream.open(config)
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise out_of_memory(name, error) from error
            # A stream of a third party may know no NoRowFree, but then its rows are counted here.
            if isinstance(error, NoRowFree) or len(self.open_sessions()) >= stream.capacity:
                raise Refused(f"all {stream.capacity} rows of {name!r} are taken: close a session first") from error
            raise
        except ValueError as error:
            raise BadInput(f"{name!r} cannot play such a session: {error}") from error
        try:
            return row, needs(stream.spec.for_task(config.task), stream, row), stream.latency(config)
        except BaseException:
            stream.close(row)
            raise

    def check_there(self) -> None:
        """Raises NotFound where the model goes. The engine thread."""
        if self.gone:
            raise NotFound(f"{self.name!r} has been unloaded: load it and open a new session")

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

    def give_back(self, row: int) -> None:
        """Closes a row that no session has. Any thread but the engine's; afterwards nobody has it."""
        try:
            self.call(lambda: self.stream.close(row))
        except NotFound:
            self._thread.join()  # it does what had been posted, and ends
            self.stream.close(row)

    def stop(self) -> None:
        """Ends the thread after what has been posted. Any thread but the engine's."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        self._thread.join()
        self.texts.stop()

    def _run(self) -> None:
        """Turn by turn: what has been posted, as long as it is short, then a ready batch. So neither many who come and
        go keep those waiting who play, nor those who play them.
        """
        while self._wait_for_work():
            self._do_tasks()
            batch = self._next_batch()
            if batch and batch[0].urgent():
                with self._precedence.urgent():
                    self._step(batch)
            elif batch and self._may_begin():
                self._gives_way_since = None
                self._step(batch)
            if any(session.closed.is_set() for session in self.sessions):
                self.sessions = self.open_sessions()
                self.tell_company()

    def _wait_for_work(self) -> bool:
        """Until there is something to do: tasks, an urgent chunk, or a chunk that has time and may begin. False when
        the thread is to end.
        """
        with self._condition:
            while not self._tasks:
                batch = self._next_batch()
                if batch and (batch[0].urgent() or self._may_begin()):
                    return True
                if not batch:
                    self._gives_way_since = None
                    if self._stopping:
                        return False
                self._clock.wait(self._condition.wait, GIVE_WAY_SECONDS if batch else None)
            return True

    def _may_begin(self) -> bool:
        """Whether work that has time may begin now, or has given way for long enough."""
        now = self._clock()
        if self._gives_way_since is None:
            self._gives_way_since = now
        return self._precedence.free(self, self.wake) or now - self._gives_way_since >= GIVE_WAY_SECONDS

    def _do_tasks(self) -> None:
        begin = self._compute_clock()
        while self._tasks:
            task = self._tasks.popleft()
            try:
                task()
            except Exception:  # of a client's callback, as a rule; whoever waits in `call` gets it
                log.exception("a task of the engine thread failed")
            if self._compute_clock() - begin > TASKS_SECONDS:
                return

    def _next_batch(self) -> list[Session]:
        """The rows to step next: all urgent ones together, or else one that has time, in turn.

        Where nobody is live, those that have time come together, too; beside live sessions they come one at a time,
        so that a live chunk that becomes ready meanwhile waits for no more.
        """
        ready = [session for session in self.sessions if session.ready()]
        now = self._clock()
        for session in ready:
            if session.ready_since is None:
                session.ready_since = now
        if urgent := [session for session in ready if session.urgent()]:
            return urgent
        if any(not session.config.offline for session in self.open_sessions()):
            return sorted(ready, key=lambda session: session.ready_since or now)[:1]
        return ready

    def _step(self, batch: list[Session]) -> None:
        """One chunk, or a step of one, for every session of the batch. What goes wrong ends the sessions that it
        concerns, no others.
        """
        start, begin = self._clock(), self._compute_clock()
        inputs: dict[int, tuple[Session, ChunkInput]] = {}
        for session in batch:
            try:
                inputs[session.row] = (session, session.gather())
                if session.unfinished is None:
                    session.unfinished = UnfinishedChunk(start - (session.ready_since or start), start)
            except Exception as error:
                self._fail(session, error)
        if not inputs:
            return
        called, asked = self._clock(), self._compute_clock()
        answers = self._answers([chunk for _, chunk in inputs.values()])
        answered, now = self._compute_clock(), self._clock()
        share, model = (now - start) / len(inputs), now - called
        finished: list[tuple[Session, UnfinishedChunk]] = []
        for row, (session, _) in inputs.items():
            try:
                answer, chunk = answers[row], session.unfinished
                assert chunk is not None
                if isinstance(answer, RowFailed):
                    raise answer.error
                if answer.advanced:
                    session.unfinished = None
                    finished.append((session, chunk))
                late = session.deliver(answer, share)
                self.figures.compute_seconds += share
                if answer.advanced:
                    taken = ChunkSeconds(
                        waited=chunk.waited_seconds,
                        whole=self._clock() - chunk.begun,
                        model=chunk.model_seconds + model,
                        between=start - chunk.begun - chunk.step_seconds,
                    )
                    self.figures.observe(late, float(session.config.chunk_seconds), taken)
                    session.observe(taken.waited, taken.whole)
            except Exception as error:
                self._fail(session, error)
        computed = (self._compute_clock() - begin) / len(inputs)
        delivery = computed - (answered - asked) / len(inputs)
        for session, _ in inputs.values():
            if session.unfinished is not None:
                session.unfinished.compute_seconds += computed
                session.unfinished.model_seconds += model
                session.unfinished.step_seconds += self._clock() - start
        for session, chunk in finished:
            config = session.config
            self.cost(config).observe(chunk.compute_seconds + computed, float(config.chunk_seconds), delivery)
        self.call_seconds.append(self._clock() - start)

    def _answers(self, inputs: list[ChunkInput]) -> dict[int, ChunkOutput | RowFailed]:
        """By row, what the model answers. Where the whole call fails, every row is asked alone."""
        try:
            answers = {answer.row: answer for answer in self.stream.step(inputs)}
        except Exception as error:
            if len(inputs) == 1:
                return {inputs[0].row: RowFailed(inputs[0].row, error)}
            log.warning("%s failed with %d sessions in a call; each plays alone now: %r", self.name, len(inputs), error)
            return {row: answer for given in inputs for row, answer in self._answers([given]).items()}
        forgotten = EngineError(f"{self.name!r} gave no answer")
        return {given.row: answers.get(given.row, RowFailed(given.row, forgotten)) for given in inputs}

    def _fail(self, session: Session, error: Exception) -> None:
        """Ends one session because of `error`; says that it is only this one."""
        log.error("session %s on %s failed in a chunk", session.id, self.name, exc_info=error)
        problem: EngineError
        if is_out_of_memory(error):
            problem = out_of_memory(self.name, error)
        else:
            problem = ChunkFailed(f"{self.name!r} could not play this session's chunk ({error!r}): open a new session")
        problem.__cause__ = error
        self.end(session, problem)

    def end(self, session: Session, error: Exception | None) -> None:
        """Ends a session, come what may. The engine thread."""
        try:
            session.end(error)
        except Exception:  # its client or its model cannot even be told
            log.exception("session %s could not be ended in order", session.id)
