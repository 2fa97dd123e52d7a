"""The server: one engine behind its addresses, until it is told to stop.

asyncio.run(serve("127.0.0.1:50505", load=["default"]))      # a process of its own, until SIGTERM or Ctrl+C
with start_server() as server: Client(server.address)         # a thread of this process, on a free port
"""

from __future__ import annotations

import asyncio
import logging
import signal
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from backline.engine.admission import LOAD_LIMIT
from backline.engine.clock import CLOCK, Clock
from backline.engine.engine import Engine
from backline.engine.limits import MESSAGE_BYTES
from backline.nn import threads
from backline.packs.registry import PackRegistry
from backline.service.decoding import Decoding
from backline.service.desk import Desk
from backline.service.gate import CLOSED, Admission, Gate
from backline.service.handling import Handling
from backline.service.idle import IDLE_SECONDS, LEASE_SECONDS
from backline.service.loads import Loads
from backline.service.operations import Readiness, operations
from backline.service.servicer import Servicer
from backline.service.session_log import LogFolder
from backline.service.unix_socket import claim, others_shut_out
from backline_client.unix_socket import socket_path
from backline_protos.v1 import backline_pb2 as pb
from backline_protos.v1.backline_pb2_grpc import add_BacklineServicer_to_server

log = logging.getLogger(__name__)

DEFAULT_ADDRESS = "127.0.0.1:50505"
SERVICE = pb.DESCRIPTOR.services_by_name["Backline"].full_name
MAX_SESSIONS = 64
DRAIN_SECONDS = 10.0
WORKERS = 16  # threads for calls that wait: for a disk, a warm-up, an engine call in progress
CHANNEL_OPTIONS = [
    ("grpc.so_reuseport", 0),  # a second server on the port is a mistake that must show
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_concurrent_streams", 2 * MAX_SESSIONS),  # of one connection
    ("grpc.keepalive_time_ms", 10_000),  # finds clients that have vanished without a word
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 500),  # a plugin asks each second in which nothing comes
]


@dataclass(frozen=True)
class RunningServer:
    """A server in a thread of this process; clients connect to `address`."""

    address: str
    metrics: str | None = None  # http://host:port of /metrics, /healthz and /readyz


class OnCard(Protocol):
    """Who plays on the server's own sound card, for doors that show and steer it. Any thread."""

    def figures(self) -> list[dict[str, Any]]:
        """Of each: its name, pack, scenes, and MIDI, as its process tells them (cli/status.py)."""
        ...

    def ask(self, name: str, line: str) -> Future[str]:
        """Has it do what a line says (cli/stage.py); what comes of it."""
        ...


@dataclass(frozen=True)
class House:
    """What a further door of the server is given: what plays, what there is to play, and where it may be changed."""

    engine: Engine
    loads: Loads  # `load` and `unload` on `loop`
    desk: Desk  # where sessions are asked for, on `loop`
    loop: asyncio.AbstractEventLoop  # every session's client's thread: whoever changes a session does it there
    address: str  # at which a client on this machine finds the server
    on_card: list[OnCard] = field(default_factory=list)  # doors come and go


Door = Callable[[House], AbstractContextManager[object]]  # open as long as the block; entered and left off the loop


async def serve(
    address: str = DEFAULT_ADDRESS,
    *,
    beside: str | None = None,
    beside_if_free: bool = False,
    packs: Sequence[Path] = (),
    load: Sequence[str] = (),
    device: str = "auto",
    rows: int | None = None,
    max_sessions: int = MAX_SESSIONS,
    load_limit: float = LOAD_LIMIT,
    idle_seconds: float = IDLE_SECONDS,
    lease_seconds: float = LEASE_SECONDS,
    drain_seconds: float = DRAIN_SECONDS,
    gate: Gate = CLOSED,
    metrics: str | None = None,
    names: Sequence[str] = (),
    clock: Clock = CLOCK,
    doors: Sequence[Door] = (),
    logs: LogFolder | None = None,
    on_ready: Callable[[str], None] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serves until `stop` is set; without it, until SIGTERM or SIGINT, the second of which ends the process at once.

    Args:
        address: host:port (port 0: any free one) or unix:/path.
        beside: another address to listen at.
        beside_if_free: go on without that one, with a warning, where it cannot be had.
        packs: folders that are searched for packs before the usual ones.
        load: packs to make resident before the first client comes.
        device: auto, cpu or cuda.
        rows: sessions at the same time on one pack, each of which takes memory; without, as many as it says.
        max_sessions: open at the same time.
        load_limit: cores that live sessions may claim together.
        idle_seconds: after which a client that neither sends nor takes its output is ended (service/idle.py).
        lease_seconds: for which a session whose call has broken off may be kept, for clients that want it.
        drain_seconds: how long open sessions may play on after the stop; then they get what is due to them.
        gate: who may come in from other machines; without, nobody.
        metrics: where /metrics, /healthz and /readyz are answered over HTTP (service/operations.py), as host:port.
        names: by which other machines may ask for them, beside those of this network.
        clock: by which sessions play; whether a client is idle, the event loop's says.
        doors: other ways in, open once clients may come and until it stops.
        logs: where the event log of every session is kept; without, nowhere.
        on_ready: called with each address, its port filled in, once clients may come; `address` is the last. Before
            all others, as soon as it answers, comes http://host:port of `metrics`.
        stop: ends the serving, for whoever has no signals.

    Raises:
        OSError: an address cannot be listened at, or the gate cannot be kept.
        PackNotFound, PackError: a pack of `load` is not there, or damaged.
    """
    loop = asyncio.get_running_loop()
    for where in filter(None, (address, beside)):
        gate.check(where, gate.tls is not None)
    if metrics is not None:
        gate.check_keyless("--metrics", metrics)
    credentials, guests = None if gate.tls is None else gate.tls.credentials(), gate.guests()
    loop.set_default_executor(ThreadPoolExecutor(WORKERS, thread_name_prefix="backline-call"))
    device = choose_device(device)
    engine = Engine(device, load_limit, clock=clock)
    loads = Loads(engine, PackRegistry(packs, device, rows))
    count = Handling(engine.observe_handling).count
    desk = Desk(engine, loads, max_sessions, idle_seconds, lease_seconds, count, logs)
    started: grpc.aio.Server | None = None
    admission = Admission(guests, engine.figures)
    if guests is not None:
        guests.on_change = desk.turn_out
    watch = asyncio.create_task(admission.watch())
    readiness, beyond_drain = Readiness(), ExitStack()
    try:
        if metrics is not None:
            where = beyond_drain.enter_context(operations(metrics, engine, readiness, loop, names))
            log.info("metrics at %s/metrics", where)
            if on_ready is not None:
                on_ready(where)
        await asyncio.to_thread(threads.use_one)
        for name in load:
            await loads.load(name)
        await asyncio.to_thread(loads.look_through)
        server, healths = _make_server(Servicer(engine, loads, desk), admission)
        bound = [_listen(server, address, credentials)]
        try:
            if beside is not None:
                bound.insert(0, _listen(server, beside, credentials))
        except OSError as error:
            if not beside_if_free:
                raise
            log.warning("%s. This server is at %s only: plugins will not find it by themselves", error, bound[0])
        await server.start()
        started = server
        for name in ("", SERVICE):
            await healths.set(name, health_pb2.HealthCheckResponse.SERVING)
        readiness.hindrance = ""
        for where in bound:
            log.info("listening at %s on %s", where, device)
            if on_ready is not None:
                on_ready(where)
        house = House(engine, loads, desk, loop, bound[0])
        with ExitStack() as opened:
            try:
                for door in doors:
                    await asyncio.to_thread(opened.enter_context, door(house))
                if stop is None:
                    await _signalled(loop)
                else:
                    await stop.wait()
            finally:
                readiness.hindrance = "draining"
                await asyncio.to_thread(opened.close)
        log.info("stopping: open sessions may play for %g s", drain_seconds)
        await healths.enter_graceful_shutdown()
    finally:
        watch.cancel()
        loads.drain()
        desk.drain()
        await asyncio.to_thread(engine.shutdown, drain_seconds)
        loads.close()
        desk.close()
        await asyncio.to_thread(beyond_drain.close)
        if started is not None:  # the sessions have ended; the last of their messages are on their way
            await started.stop(grace=1.0)


@contextmanager
def start_server(
    address: str = "127.0.0.1:0",
    *,
    beside: str | None = None,
    packs: Sequence[Path] = (),
    load: Sequence[str] = (),
    device: str = "auto",
    rows: int | None = None,
    max_sessions: int = MAX_SESSIONS,
    load_limit: float = LOAD_LIMIT,
    idle_seconds: float = IDLE_SECONDS,
    lease_seconds: float = LEASE_SECONDS,
    drain_seconds: float = 1.0,
    gate: Gate = CLOSED,
    metrics: str | None = None,
    clock: Clock = CLOCK,
    doors: Sequence[Door] = (),
    logs: LogFolder | None = None,
) -> Iterator[RunningServer]:
    """A server in a thread of this process, as long as the block; arguments and exceptions are those of `serve`."""
    started = threading.Event()
    found: list[str] = []
    failed: list[BaseException] = []
    handles: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def ready(bound: str) -> None:
        found.append(bound)
        if bound != beside and not bound.startswith("http://"):
            started.set()

    async def run() -> None:
        stop = asyncio.Event()
        handles.append((asyncio.get_running_loop(), stop))
        await serve(
            address, beside=beside, packs=packs, load=load, device=device, rows=rows, max_sessions=max_sessions,
            load_limit=load_limit, idle_seconds=idle_seconds, lease_seconds=lease_seconds, drain_seconds=drain_seconds,
            gate=gate, metrics=metrics, clock=clock, doors=doors, logs=logs, on_ready=ready, stop=stop,
        )  # fmt: skip

    def work() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            failed.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=work, name="backline-server", daemon=True)
    thread.start()
    started.wait()
    try:
        if found:
            yield RunningServer(found[-1], found[0] if metrics is not None else None)
    finally:
        loop, stop = handles[0]
        with suppress(RuntimeError):  # it has ended by itself
            loop.call_soon_threadsafe(stop.set)
        thread.join()
        if failed:
            raise failed[0]


def choose_device(device: str) -> str:
    """`device`, or the best one where it is "auto".

    Raises:
        ValueError: there is no such device.
    """
    if device == "cpu":
        return device
    if device.partition(":")[0] not in ("auto", "cuda"):
        raise ValueError(f"device is {device!r}: use auto, cpu or cuda")
    import torch  # takes seconds, and is not needed to know that there is a CPU

    if torch.cuda.is_available():
        return "cuda" if device == "auto" else device
    if device == "auto":
        return "cpu"
    raise ValueError(f"device is {device!r}, but torch sees no GPU: use cpu, or install torch with CUDA")


def _make_server(servicer: Servicer, admission: Admission) -> tuple[grpc.aio.Server, health.aio.HealthServicer]:
    server = grpc.aio.server(interceptors=[admission, Decoding()], options=CHANNEL_OPTIONS)
    add_BacklineServicer_to_server(servicer, server)
    healths = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healths, server)
    reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    return server, healths


def _listen(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None = None) -> str:
    """The address that clients connect to; the user's own socket needs no credentials."""
    path = socket_path(address)
    if path is not None:
        return _listen_at_socket(server, address, path)
    try:
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise OSError(
            f"cannot listen at {address}: is another server running there, or is it no address of this machine? "
            "Stop it, or use port 0 for any free one"
        ) from error
    return f"{address.rpartition(':')[0]}:{port}"


def _listen_at_socket(server: grpc.aio.Server, address: str, path: Path) -> str:
    try:
        claim(path)
        with others_shut_out():
            server.add_insecure_port(address)
        path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    except (OSError, RuntimeError) as error:
        text = str(error) if isinstance(error, OSError) else "is its folder there, and yours? Use another path"
        raise OSError(f"cannot listen at {address}: {text}") from error
    return address


async def _signalled(loop: asyncio.AbstractEventLoop) -> None:
    """Returns at the first SIGTERM, SIGINT or (Windows) SIGBREAK; the next one has its usual effect."""
    stop = asyncio.Event()
    known = (getattr(signal, name, None) for name in ("SIGTERM", "SIGINT", "SIGBREAK"))  # no system has all of them
    numbers = [number for number in known if number is not None]
    for number in numbers:
        try:
            loop.add_signal_handler(number, stop.set)
        except NotImplementedError:  # Windows: its loops have none
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    try:
        await stop.wait()
    finally:
        for number in numbers:
            with suppress(NotImplementedError):
                loop.remove_signal_handler(number)
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
