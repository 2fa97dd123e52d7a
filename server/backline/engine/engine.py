"""The engine as the service sees it: resident models, sessions, and figures about both.

engine = Engine()
engine.add_stream("mine", stream)
session = engine.open_session("mine", config, "me", on_event=events.put, block_size=512)
session.write(0, audio)      # [channel, sample]
session.close_input()        # ... OutputBlock, OutputBlock, Finished arrive in `events`
engine.shutdown(drain_seconds=5)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import psutil

from backline.engine.admission import LOAD_LIMIT, Claim, Machine, admit
from backline.engine.advice import Advice, Costs, advise
from backline.engine.audience import Audience
from backline.engine.changes import Changes
from backline.engine.checks import checked
from backline.engine.clock import CLOCK, Clock
from backline.engine.downmix import Downmix
from backline.engine.errors import BadInput, NotFound, Refused, is_out_of_memory, out_of_memory
from backline.engine.events import Event
from backline.engine.figures import Figures
from backline.engine.ledger import WAKE_SECONDS, LedgerBook
from backline.engine.limits import LONGEST_JITTER_BUFFER
from backline.engine.precedence import Precedence
from backline.engine.resident import Resident
from backline.engine.session import Session
from backline.engine.take import Take
from backline.engine.takes import Takes
from backline.engine.warnings import Warnings
from backline.kernels.overlap import crossfade
from backline.kernels.resample import Resampler
from backline.models.stream import SessionConfig, Stream, StreamSpec
from backline.packs.registry import PackEntry

CLOSING_SECONDS = 5.0  # that a session gets at shutdown to send what is due


@dataclass(frozen=True)
class EngineStats:
    """What the engine has done and is doing."""

    device: str
    uptime_seconds: float
    sessions: int
    sessions_total: int
    sessions_refused: int
    sessions_detached: int  # of `sessions`
    sessions_resumed: int  # times
    chunks: int
    late_chunks: int
    load: float  # cores that live sessions claim
    call_seconds_p50: float  # wall time of one engine call, recent
    call_seconds_p99: float


class Engine:
    """One device's models, each with an engine thread of its own, and all their sessions.

    All methods may be called from any thread but the engine threads (where `on_event` runs). Those that say so wait for
    the model's call in progress, up to one chunk's compute time: call them from a worker thread, not an event loop.
    """

    def __init__(
        self,
        device: str = "cpu",
        load_limit: float = LOAD_LIMIT,
        cores: float | None = None,
        clock: Clock = CLOCK,
    ) -> None:
        """
        Args:
            load_limit: share of a core, and of a chunk's time until the next one, that live sessions may claim.
            cores: on which models compute side by side; those that this process may use, if not given.
            clock: by which chunks are late, and everything else happens.
        """
        self.device, self.clock = device, clock
        cores = usable_cores() if cores is None else cores
        self._machine = Machine(cores if device == "cpu" else 1, limit=load_limit)
        self.residents: Mapping[str, Resident] = {}  # by name; never changed, but replaced whole
        self._precedence = Precedence()
        self._started = self.clock()
        self.figures = Figures()
        self._lock = threading.Lock()  # of the models above, of the claims below, and of sessions that are counted
        self._claimed: dict[object, Claim] = {}  # of sessions that are being opened
        self._closing = False
        # Compiled before anyone waits for it.
        silence = np.zeros((1, 64), np.float32)
        Resampler(48_000, 24_000, 1).process(silence)
        crossfade(silence, silence, "linear")
        Downmix(None, 2, 1, 48_000).process(np.repeat(silence, 2, axis=0))

    # ---- models --------------------------------------------------------------------------------------

    def add_stream(self, name: str, stream: Stream, entry: PackEntry | None = None) -> None:
        """Makes a model resident. Warms it up on the calling thread, so that open sessions play on meanwhile.

        Args:
            entry: the pack that it was built from, if it was one.

        Raises:
            BadInput: the name is taken.
        """
        self._check_free(name)
        tasks = [task.name for task in stream.spec.tasks] or [""]
        costs = {task: stream.warm_up(default_config(stream.spec, task)) for task in tasks}
        with self._lock:
            self._check_free(name)  # it may have been taken meanwhile
            figures = self.figures.model(name, float(stream.spec.default_chunk_seconds))
            resident = Resident(name, stream, costs, figures, self.device, self.clock, self._precedence, entry)
            self.residents = {**self.residents, name: resident}

    def remove_stream(self, name: str, close_sessions: bool = False) -> None:
        """Lets go of a model. Waits for the engine call in progress.

        Raises:
            NotFound: no such model.
            BadInput: sessions are open on it, and `close_sessions` is false.
        """
        resident = self.resident(name)

        def end_sessions() -> None:
            if resident.gone:
                raise NotFound(f"{name!r} has been unloaded already")
            if resident.sessions and not close_sessions:
                raise BadInput(f"{len(resident.sessions)} sessions are open on {name!r}: close them, or ask for it")
            resident.gone = True
            for session in list(resident.sessions):
                resident.end(session, NotFound(f"{name!r} has been unloaded: load it and open a new session"))
            with self._lock:
                self.residents = {key: other for key, other in self.residents.items() if other is not resident}

        resident.call(end_sessions)
        resident.stop()

    def resident(self, name: str) -> Resident:
        """The resident model of a name.

        Raises:
            NotFound: there is none.
        """
        resident = self.residents.get(name)
        if resident is None:
            names = ", ".join(self.residents) or "none"
            raise NotFound(f"{name!r} is not resident: load it first (resident: {names})")
        return resident

    # ---- sessions ------------------------------------------------------------------------------------

    def open_session(
        self,
        name: str,
        config: SessionConfig,
        client_name: str,
        on_event: Callable[[Event], None],
        *,
        block_size: int,
        jitter_buffer_seconds: float = 0.0,
        new_takes: bool = False,
    ) -> Session:
        """Opens a session on a resident model: a row, the ways of its audio, its ledger, itself. Waits for the engine
        calls in progress.

        What takes time, its rings above all, is made on the calling thread; the engine thread takes a row and lets the
        session in.

        Args:
            config: parameters that it does not name take their defaults.
            on_event: called on the engine thread, in order, with everything the session has to say. It must not block;
                for every `OutputBlock` the client has taken, `Session.acknowledge` is due, or the session pauses.
            block_size: the largest block the client will write.
            jitter_buffer_seconds: what the client's playback adds, for the ledger.
            new_takes: a start and a jump of the transport, and the end of its loop, begin another take.

        Raises:
            NotFound: unknown model or parameter.
            BadInput: a value that cannot be served; the message names the range.
            Refused: no row is free, or the others' deadlines would break.
        """
        resident = self.resident(name)
        spec, config = checked(name, resident.stream.spec, config, block_size, jitter_buffer_seconds, new_takes)
        self._check_open()
        texts = resident.texts.opening(spec, config.texts)
        config = replace(config, texts={name: prepared.text for name, prepared in texts.items()})
        claim = object()
        try:
            self._claim(claim, resident, config, block_size)
            row, first, latency = resident.call(lambda: resident.take_row(config))
            try:
                audience = Audience(on_event)
                warnings = Warnings(audience, resident.post)
                changes = Changes(config.sample_rate, config.parameters, texts)
                make = partial(
                    Take, name, spec, config,
                    block_size=block_size, first=first, warnings=warnings, changes=changes, clock=self.clock,
                )  # fmt: skip
                take = make()
                takes = Takes(take, make, warnings, on_jump=new_takes)
                book = LedgerBook(
                    latency,
                    sample_rate=config.sample_rate,
                    block_size=block_size,
                    input_seconds=take.input.delay_seconds,
                    output_seconds=take.output.delay_seconds,
                    compute_seconds=resident.cost(config).value * float(config.chunk_seconds),
                    queue_seconds=resident.company_seconds(),
                    jitter_buffer_seconds=jitter_buffer_seconds,
                )
                session = Session(
                    name=name, stream=resident.stream, row=row, client_name=client_name, block_size=block_size,
                    takes=takes, book=book, warnings=warnings, audience=audience, wake=resident.wake,
                    post=resident.post, desk=resident.texts if spec.texts else None, clock=self.clock,
                )  # fmt: skip
                resident.call(lambda: self._let_in(resident, session, claim))
            except BaseException:
                resident.give_back(row)
                raise
        except Refused:
            self.figures.count_refusal()
            raise
        except (RuntimeError, MemoryError) as error:  # of its rings, or of the model
            if is_out_of_memory(error):
                raise out_of_memory(name, error) from error
            raise
        except NotFound:
            self._check_open()  # its thread has ended with all others
            raise
        finally:
            with self._lock:
                self._claimed.pop(claim, None)
        with self._lock:
            resident.figures.sessions += 1
        return session

    def check_session(
        self,
        name: str,
        config: SessionConfig,
        *,
        block_size: int,
        jitter_buffer_seconds: float = 0.0,
        new_takes: bool = False,
    ) -> None:
        """Raises what `open_session` would, of all that has to do with nobody else's session. Prepares the texts."""
        resident = self.resident(name)
        spec, config = checked(name, resident.stream.spec, config, block_size, jitter_buffer_seconds, new_takes)
        self._check_open()
        resident.texts.opening(spec, config.texts)

    def would_admit(self, name: str, config: SessionConfig, block_size: int, without: Collection[Session]) -> bool:
        """Whether a session that `check_session` lets pass would find a row, and break nobody's deadline, if those
        `without` had ended. Whether there is memory for it shows only when it is opened. Waits for nothing.

        Raises:
            NotFound: unknown model.
        """
        resident = self.resident(name)
        with self._lock:
            others = [*self._claims(without), *self._claimed.values()]
        try:
            admit(resident.asked(config, block_size), others, self._machine)
        except Refused:
            return False
        return sum(other.pack == name for other in others) < resident.stream.capacity

    def list_sessions(self) -> list[Session]:
        """All open sessions."""
        return [session for resident in self.residents.values() for session in resident.open_sessions()]

    def close_session(self, session_id: str, among: Sequence[Session] | None = None) -> None:
        """Closes a session's input: its client still gets what is due, then `Finished`.

        Args:
            among: the sessions that whoever asks may close; without, all.

        Raises:
            NotFound: no such session.
        """
        for session in self.list_sessions() if among is None else among:
            if session.id == session_id:
                session.close_input()
                return
        raise NotFound(f"no session {session_id!r}: see ListSessions")

    def advise(
        self,
        name: str,
        config: SessionConfig,
        *,
        block_size: int,
        round_trip_seconds: float,
        latency_seconds: float,
        tempo: float,
        jitter_buffer_seconds: float = 0.0,
    ) -> Advice:
        """Which chunk and visibility a session should ask for (engine/advice.py). Waits for nothing.

        Raises:
            NotFound: unknown model or parameter.
            BadInput: a value that cannot be served; the message names the range.
        """
        resident = self.resident(name)
        spec, config = checked(name, resident.stream.spec, config, block_size, jitter_buffer_seconds)
        for what, value in {"round trip": round_trip_seconds, "latency": latency_seconds}.items():
            if not 0 <= value <= LONGEST_JITTER_BUFFER:
                raise BadInput(f"{what} is {value:g} s: use 0 to {LONGEST_JITTER_BUFFER}")
        if not 0 <= tempo < 1000:
            raise BadInput(f"tempo is {tempo:g}: use up to 999 quarter notes a minute, or 0 for none")
        rate = config.sample_rate
        ways = [(rate, spec.input_rate or rate), (spec.output_rate or rate, rate)]
        fixed = block_size / rate + jitter_buffer_seconds + WAKE_SECONDS
        fixed += sum(float(Resampler(*way, 1).latency_seconds) for way in ways)
        items = resident.stream.latency(config)
        fixed += sum(item.seconds for item in items if item.name != "visibility")
        costs = Costs(resident.cost(config).value, round_trip_seconds, fixed, resident.company_seconds())
        return advise(spec, costs, latency_seconds, tempo)

    # ---- figures -------------------------------------------------------------------------------------

    def load(self) -> float:
        """Cores that live sessions claim."""
        return sum(claim.load for claim in self._claims() if not claim.offline)

    def observe_handling(self, message_seconds: float) -> None:
        """Takes what the service needs for a message into the reckoning of who may play."""
        self._machine = replace(self._machine, message_seconds=message_seconds)

    def stats(self) -> EngineStats:
        """Figures of now and since the start."""
        residents = self.residents.values()
        calls = [seconds for resident in residents for seconds in list(resident.call_seconds)] or [0.0]
        with self._lock:
            return EngineStats(
                device=self.device,
                uptime_seconds=self.clock() - self._started,
                sessions=len(self.list_sessions()),
                sessions_total=self.figures.total("sessions"),
                sessions_refused=self.figures.sessions_refused,
                sessions_detached=sum(session.phase == "detached" for session in self.list_sessions()),
                sessions_resumed=self.figures.sessions_resumed,
                chunks=self.figures.total("chunks"),
                late_chunks=self.figures.total("late_chunks"),
                load=self.load(),
                call_seconds_p50=float(np.percentile(calls, 50)),
                call_seconds_p99=float(np.percentile(calls, 99)),
            )

    # ---- the end -------------------------------------------------------------------------------------

    def shutdown(self, drain_seconds: float) -> None:
        """Refuses new sessions, lets open ones play for `drain_seconds`, then closes their input, then ends them.

        Returns when every row has been given back and the engine threads have ended.
        """
        with self._lock:  # a session is either seen below or refused
            self._closing = True
        self._wait_for_sessions(drain_seconds)
        for session in self.list_sessions():
            session.close_input()
        self._wait_for_sessions(CLOSING_SECONDS)
        for session in self.list_sessions():
            session.abort(Refused("the server is shutting down: open a new session on another one"))
        for resident in self.residents.values():
            resident.stop()

    # ---- parts ---------------------------------------------------------------------------------------

    def _claims(self, without: Collection[Session] = ()) -> list[Claim]:
        return [
            resident.claim(session)
            for resident in self.residents.values()
            for session in resident.open_sessions()
            if session not in without
        ]

    def _claim(self, key: object, resident: Resident, config: SessionConfig, block_size: int) -> None:
        """Admits a session, or refuses it; until it is let in, its claim stands under `key`."""
        claim = resident.asked(config, block_size)
        with self._lock:
            admit(claim, [*self._claims(), *self._claimed.values()], self._machine)
            self._claimed[key] = claim

    def _let_in(self, resident: Resident, session: Session, claim: object) -> None:
        """Lets a session play, and tells the others. The model's engine thread."""
        with self._lock:
            self._check_open()  # either may have begun while this waited for the engine thread
            resident.check_there()
            resident.sessions.append(session)
            del self._claimed[claim]
        resident.tell_company()

    def _check_open(self) -> None:
        """Whether sessions and models may still come."""
        if self._closing:
            raise Refused("the server is shutting down: connect to another one or try again later")

    def _check_free(self, name: str) -> None:
        """Whether a model of this name may become resident."""
        self._check_open()
        if name in self.residents:
            raise BadInput(f"{name!r} is resident already: remove it first")

    def _wait_for_sessions(self, seconds: float) -> None:
        deadline = self.clock() + seconds
        for session in self.list_sessions():
            self.clock.wait(session.closed.wait, max(0.0, deadline - self.clock()))


def usable_cores() -> int:
    """Cores that this process may run on."""
    process = psutil.Process()
    return len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else psutil.cpu_count() or 1


def default_config(spec: StreamSpec, task: str = "") -> SessionConfig:
    """The session that a model is warmed up for in one of its tasks."""
    spec = spec.for_task(task)
    return SessionConfig(
        task=task,
        sample_rate=48_000,
        channels=spec.input_channels or 2,
        chunk_seconds=spec.default_chunk_seconds,
        visibility_seconds=spec.visibility(spec.default_chunk_seconds),
        seed=0,
        parameters=spec.defaults,
        texts={text.name: text.default for text in spec.texts},
    )
