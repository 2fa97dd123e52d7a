"""The engine as the service sees it: resident models, sessions, and figures about both.

engine = Engine()
engine.add_stream("passthrough", stream)
session = engine.open_session("passthrough", config, "me", on_event=events.put, block_size=512)
session.write(0, audio)      # [channel, sample]
session.close_input()        # ... OutputBlock, OutputBlock, Finished arrive in `events`
engine.shutdown(drain_seconds=5)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import psutil

from backline.engine.admission import LOAD_LIMIT, Claim, Machine, admit
from backline.engine.clock import CLOCK, Clock
from backline.engine.downmix import Downmix
from backline.engine.errors import BadInput, NotFound, Refused, is_out_of_memory, out_of_memory
from backline.engine.events import Event
from backline.engine.ledger import LedgerBook
from backline.engine.limits import MAXIMUM_BLOCK, MAXIMUM_CHANNELS, RATES, quoted
from backline.engine.precedence import Precedence
from backline.engine.resident import Resident
from backline.engine.session import Session, checked_parameters, required_frames
from backline.kernels.overlap import crossfade
from backline.kernels.resample import Resampler
from backline.models.errors import NoRowFree
from backline.models.stream import LatencyItem, SessionConfig, Stream, StreamSpec

CLOSING_SECONDS = 5.0  # that a session gets at shutdown to send what is due


@dataclass(frozen=True)
class EngineStats:
    """What the engine has done and is doing."""

    device: str
    uptime_seconds: float
    sessions: int
    sessions_total: int
    sessions_refused: int
    chunks: int
    late_chunks: int
    load: float  # cores that live sessions claim
    call_seconds_p50: float  # wall time of one engine call, recent
    call_seconds_p99: float
    resident_bytes: int  # of the models


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
            clock: by which chunks are late.
        """
        self.device, self._clock = device, clock
        cores = usable_cores() if cores is None else cores
        self._machine = Machine(cores if device == "cpu" else 1, limit=load_limit)
        self._residents: dict[str, Resident] = {}
        self._precedence = Precedence()
        self._started = time.monotonic()
        self._lock = threading.Lock()  # of the models above and the figures below
        self._admitting = threading.Lock()  # of the reckoning alone: each session sees the claims of those before it
        self._claimed: dict[object, Claim] = {}  # of sessions that are being opened
        self._closing = False
        self._chunks_of_removed, self._late_chunks_of_removed = 0, 0
        self._sessions_total = 0
        self._sessions_refused = 0
        # Compiled before anyone waits for it.
        silence = np.zeros((1, 64), np.float32)
        Resampler(48_000, 24_000, 1).process(silence)
        crossfade(silence, silence, "linear")
        Downmix(None, 2, 1, 48_000).process(np.repeat(silence, 2, axis=0))

    # ---- models --------------------------------------------------------------------------------------

    def add_stream(self, name: str, stream: Stream) -> None:
        """Makes a model resident. Warms it up on the calling thread, so that open sessions play on meanwhile.

        Raises:
            BadInput: the name is taken.
        """
        self._check_free(name)
        cost = stream.warm_up(default_config(stream.spec))
        with self._lock:
            self._check_free(name)  # it may have been taken meanwhile
            self._residents[name] = Resident(name, stream, cost, self.device, self._clock, self._precedence)

    def remove_stream(self, name: str, close_sessions: bool = False) -> None:
        """Lets go of a model. Waits for the engine call in progress.

        Raises:
            NotFound: no such model.
            BadInput: sessions are open on it, and `close_sessions` is false.
        """

        resident = self._resident(name)

        def end_sessions() -> None:
            if self._residents.get(name) is not resident:
                raise NotFound(f"{name!r} has been unloaded already")
            if resident.sessions and not close_sessions:
                raise BadInput(f"{len(resident.sessions)} sessions are open on {name!r}: close them, or ask for it")
            for session in list(resident.sessions):
                resident.end(session, NotFound(f"{name!r} has been unloaded: load it and open a new session"))
            with self._lock:
                del self._residents[name]
                self._chunks_of_removed += resident.chunks
                self._late_chunks_of_removed += resident.late_chunks

        resident.call(end_sessions)
        resident.stop()

    def streams(self) -> dict[str, Stream]:
        """The resident models by name."""
        return {resident.name: resident.stream for resident in self._all_residents()}

    def session_count(self, name: str) -> int:
        """Sessions open on the model.

        Raises:
            NotFound: no such model.
        """
        return len(self._resident(name).open_sessions())

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
    ) -> Session:
        """Opens a session on a resident model. Waits for the engine calls in progress.

        What takes time, its rings above all, is made on the calling thread; the engine thread takes a row and lets the
        session in.

        Args:
            config: parameters that it does not name take their defaults.
            on_event: called on the engine thread, in order, with everything the session has to say. It must not block;
                for every `OutputBlock` the client has taken, `Session.acknowledge` is due, or the session pauses.
            block_size: the largest block the client will write.
            jitter_buffer_seconds: what the client's playback adds, for the ledger.

        Raises:
            NotFound: unknown model or parameter.
            BadInput: a value that cannot be served; the message names the range.
            Refused: no row is free, or the others' deadlines would break.
        """
        resident = self._resident(name)
        config = self._checked(name, resident.stream, config)
        if not 0 < block_size <= MAXIMUM_BLOCK:
            raise BadInput(f"block size is {block_size}: use 1 to {MAXIMUM_BLOCK} samples")
        if not 0 <= jitter_buffer_seconds <= 60:
            raise BadInput(f"jitter buffer is {jitter_buffer_seconds:g} s: use 0 to 60")

        self._check_open()
        spec = resident.stream.spec.for_task(config.task)
        texts = resident.texts.opening(spec, config.texts)
        config = replace(config, texts={name: prepared.text for name, prepared in texts.items()})
        claim = object()
        try:
            self._claim(claim, resident, config, block_size)
            row, required, frames, latency = resident.call(lambda: self._take_row(resident, config))
            try:
                session = Session(
                    stream_name=name, stream=resident.stream, row=row, config=config, client_name=client_name,
                    block_size=block_size, on_event=on_event, wake=resident.wake, post=resident.post,
                    required=required, required_frames=frames, texts=texts,
                    desk=resident.texts if spec.texts else None, clock=self._clock,
                )  # fmt: skip
                session.book = self._ledger_book(resident, session, latency, jitter_buffer_seconds)
                resident.call(lambda: self._let_in(resident, session, claim))
            except BaseException:
                resident.give_back(row)
                raise
        except Refused:
            with self._lock:
                self._sessions_refused += 1
            raise
        except (RuntimeError, MemoryError) as error:  # of its rings, or of the model
            if is_out_of_memory(error):
                raise out_of_memory(name, error) from error
            raise
        except NotFound:
            self._check_open()  # its thread has ended with all others
            raise
        finally:
            with self._admitting:
                self._claimed.pop(claim, None)
        with self._lock:
            self._sessions_total += 1
        return session

    def list_sessions(self) -> list[Session]:
        """All open sessions."""
        return [session for resident in self._all_residents() for session in resident.open_sessions()]

    def close_session(self, session_id: str) -> None:
        """Closes a session's input: its client still gets what is due, then `Finished`.

        Raises:
            NotFound: no such session.
        """
        for session in self.list_sessions():
            if session.id == session_id:
                session.close_input()
                return
        raise NotFound(f"no session {session_id!r}: see ListSessions")

    # ---- figures -------------------------------------------------------------------------------------

    def load(self) -> float:
        """Cores that live sessions claim."""
        return sum(claim.load for claim in self._claims() if not claim.offline)

    def observe_handling(self, message_seconds: float) -> None:
        """Takes what the service needs for a message into the reckoning of who may play."""
        self._machine = replace(self._machine, message_seconds=message_seconds)

    def stats(self) -> EngineStats:
        """Figures of now and since the start."""
        residents = self._all_residents()
        calls = [seconds for resident in residents for seconds in list(resident.call_seconds)] or [0.0]
        with self._lock:
            return EngineStats(
                device=self.device,
                uptime_seconds=time.monotonic() - self._started,
                sessions=len(self.list_sessions()),
                sessions_total=self._sessions_total,
                sessions_refused=self._sessions_refused,
                chunks=self._chunks_of_removed + sum(resident.chunks for resident in residents),
                late_chunks=self._late_chunks_of_removed + sum(resident.late_chunks for resident in residents),
                load=self.load(),
                call_seconds_p50=float(np.percentile(calls, 50)),
                call_seconds_p99=float(np.percentile(calls, 99)),
                resident_bytes=sum(resident.stream.resident_bytes() for resident in residents),
            )

    # ---- the end -------------------------------------------------------------------------------------

    def shutdown(self, drain_seconds: float) -> None:
        """Refuses new sessions, lets open ones play for `drain_seconds`, then closes their input, then ends them.

        Returns when every row has been given back and the engine threads have ended.
        """
        with self._admitting:  # a session is either seen below or refused
            self._closing = True
        self._wait_for_sessions(drain_seconds)
        for session in self.list_sessions():
            session.close_input()
        self._wait_for_sessions(CLOSING_SECONDS)
        for session in self.list_sessions():
            session.abort(Refused("the server is shutting down: open a new session on another one"))
        for resident in self._all_residents():
            resident.stop()

    # ---- parts ---------------------------------------------------------------------------------------

    def _all_residents(self) -> list[Resident]:
        return list(self._residents.values())

    def _resident(self, name: str) -> Resident:
        resident = self._residents.get(name)
        if resident is None:
            names = ", ".join(self._residents) or "none"
            raise NotFound(f"{name!r} is not resident: load it first (resident: {names})")
        return resident

    def _claims(self) -> list[Claim]:
        return [claim for resident in self._all_residents() for claim in resident.claims()]

    def _claim(self, key: object, resident: Resident, config: SessionConfig, block_size: int) -> None:
        """Admits a session, or refuses it; until it is let in, its claim stands under `key`."""
        claim = resident.asked(config, block_size)
        with self._admitting:
            admit(claim, [*self._claims(), *self._claimed.values()], self._machine)
            self._claimed[key] = claim

    def _take_row(self, resident: Resident, config: SessionConfig) -> tuple[int, int, int, tuple[LatencyItem, ...]]:
        """A row, what its first chunk needs of input and of frames, and what the model costs. Its engine thread."""
        self._check_resident(resident)
        stream = resident.stream
        row = take_row(resident.name, stream, config, len(resident.open_sessions()))
        try:
            frames = required_frames(stream.spec.for_task(config.task), stream, row)
            return row, stream.required_input(row), frames, stream.latency(config)
        except BaseException:
            stream.close(row)
            raise

    def _let_in(self, resident: Resident, session: Session, claim: object) -> None:
        """Lets a session play, and tells the others. The model's engine thread."""
        with self._admitting:
            self._check_open()  # either may have begun while this waited for the engine thread
            self._check_resident(resident)
            resident.sessions.append(session)
            del self._claimed[claim]
        resident.tell_company()

    def _check_resident(self, resident: Resident) -> None:
        if self._residents.get(resident.name) is not resident:
            raise NotFound(f"{resident.name!r} has been unloaded: load it and open a new session")

    def _check_open(self) -> None:
        """Whether sessions and models may still come."""
        if self._closing:
            raise Refused("the server is shutting down: connect to another one or try again later")

    def _check_free(self, name: str) -> None:
        """Whether a model of this name may become resident."""
        self._check_open()
        if name in self._residents:
            raise BadInput(f"{name!r} is resident already: remove it first")

    def _checked(self, name: str, stream: Stream, config: SessionConfig) -> SessionConfig:
        """`config` with every parameter, if it can be served."""
        try:
            spec = stream.spec.for_task(config.task)
        except ValueError as error:
            raise NotFound(f"no task {quoted(config.task)} in {name!r}: {error}") from error
        if not RATES[0] <= config.sample_rate <= RATES[1]:
            raise BadInput(f"sample rate is {config.sample_rate} Hz: use {RATES[0]} to {RATES[1]}")
        if not 1 <= config.channels <= MAXIMUM_CHANNELS:
            raise BadInput(f"the session has {config.channels} channels: use 1 to {MAXIMUM_CHANNELS}")
        quantum, longest = spec.chunk_quantum_seconds, spec.maximum_chunk_seconds
        if not 0 < config.chunk_seconds <= longest or config.chunk_seconds % quantum:
            raise BadInput(
                f"chunk is {float(config.chunk_seconds):g} s: use a multiple of {float(quantum):g} s "
                f"up to {float(longest):g} s"
            )
        earliest, latest = spec.minimum_visibility_seconds, spec.latest_visibility(config.chunk_seconds)
        if not earliest <= config.visibility_seconds <= latest:
            raise BadInput(
                f"visibility is {config.visibility_seconds:g} s: use {earliest:g} to {latest:g} s with chunks of "
                f"{float(config.chunk_seconds):g} s"
            )
        if not 0 <= config.seed < 2**64:
            raise BadInput(f"seed is {config.seed}: use 0 to 2^64 - 1")
        return replace(config, parameters=checked_parameters(name, spec, config.parameters))

    def _ledger_book(
        self, resident: Resident, session: Session, latency: tuple[LatencyItem, ...], jitter_buffer_seconds: float
    ) -> LedgerBook:
        return LedgerBook(
            latency,
            sample_rate=session.config.sample_rate,
            block_size=session.block_size,
            input_seconds=session.input_seconds,
            output_seconds=session.output_seconds,
            compute_seconds=resident.cost.value * float(session.config.chunk_seconds),
            queue_seconds=resident.company_seconds(session),
            jitter_buffer_seconds=jitter_buffer_seconds,
        )

    def _wait_for_sessions(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        for session in self.list_sessions():
            session.closed.wait(max(0.0, deadline - time.monotonic()))


def take_row(name: str, stream: Stream, config: SessionConfig, sessions: int) -> int:
    """A free row of a model that has so many sessions. Its engine thread.

    Raises:
        Refused: there is none, or no memory for it.
        BadInput: the model cannot play such a session.
    """
    try:
        return stream.open(config)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise out_of_memory(name, error) from error
        # A stream of a third party may know no NoRowFree, but then its rows are counted here.
        if isinstance(error, NoRowFree) or sessions >= stream.capacity:
            raise Refused(f"all {stream.capacity} rows of {name!r} are taken: close a session first") from error
        raise
    except ValueError as error:
        raise BadInput(f"{name!r} cannot play such a session: {error}") from error


def usable_cores() -> int:
    """Cores that this process may run on."""
    process = psutil.Process()
    return len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else psutil.cpu_count() or 1


def default_config(spec: StreamSpec) -> SessionConfig:
    """The session that a model is warmed up for."""
    spec = spec.for_task("")
    return SessionConfig(
        sample_rate=48_000,
        channels=spec.input_channels or 2,
        chunk_seconds=spec.default_chunk_seconds,
        visibility_seconds=spec.visibility(spec.default_chunk_seconds),
        seed=0,
        parameters={parameter.name: parameter.default for parameter in spec.parameters},
        texts={text.name: text.default for text in spec.texts},
    )
