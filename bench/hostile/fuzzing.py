"""Plays cases against a server process beside bystanders, and judges: the answers, the server, and who played on."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import grpc
import psutil

from backline.cli.connection import ServerProcess
from backline.service.server import MAX_SESSIONS
from backline_protos.v1 import backline_pb2 as pb
from backline_protos.v1.backline_pb2_grpc import BacklineStub
from hostile.attack import LIMIT_SECONDS, OPTIONS, Outcome, attack, problems
from hostile.bystander import NAME, Playing, bystanders
from hostile.cases import Call, Case

GROWTH_BAR = 0.05  # share of memory
SETTLE_SECONDS = 30.0
BYSTANDERS = (11, 12)  # seeds
AT_ONCE = 4  # cases
OTHER_PACK = "passthrough"
ROWS = 8  # of every model that has weights
SAID = 3  # failures of a kind


@dataclass
class Report:
    """What came of a run."""

    failures: list[str] = field(default_factory=list)  # each with the lines that repeat it
    kinds: Counter[str] = field(default_factory=Counter)  # of failures: their text without what differs
    calls: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    slowest_seconds: float = 0.0
    slowest: str = ""
    memory_before: int = 0  # bytes of the server's resident set
    memory_after: int = 0
    bystander_chunks: int = 0

    @property
    def growth(self) -> float:
        return self.memory_after / max(1, self.memory_before) - 1.0


class Log:
    """What the server has written since the last look."""

    def __init__(self, path: Path) -> None:
        self._path, self._read = path, 0

    def tracebacks(self) -> list[str]:
        """The last line of each new one, with the place that raised it."""
        with open(self._path, "rb") as file:
            file.seek(self._read)
            text = file.read().decode(errors="replace")
        self._read += len(text.encode(errors="replace"))
        found = []
        for trace in re.split(r"Traceback \(most recent call last\):", text)[1:]:
            lines = trace.splitlines()
            places = [line.strip() for line in lines if line.lstrip().startswith("File ")]
            errors = [
                line for line in lines if re.match(r"[A-Za-z_.]+(Error|Exception|Interrupt|Exit|Damaged)\b", line)
            ]
            found.append(f"{errors[0][:200] if errors else trace[:200]} ({places[-1] if places else 'nowhere'})")
        return found


def fuzz(
    server: ServerProcess,
    log: Path,
    pack: str,
    warm_up: Iterable[Case],
    cases: Iterable[Case],
    line: Callable[[Case], str],
    say: Callable[[str], None],
    jitter_buffer_seconds: float,
) -> Report:
    """Plays the cases, AT_ONCE at a time, beside two bystanders on `pack`.

    Args:
        log: what the server writes to its standard error.
        warm_up: cases after which the memory is measured that the rest must come back to: they fill what the server
            and its libraries keep for ever, such as threads and arenas.
        line: the command that repeats a case.
        say: told the first failures of every kind as they are found.
        jitter_buffer_seconds: of the bystanders; how late their output may come on a machine that has other work.
    """
    report, written = Report(), Log(log)

    def failed(text: str, culprits: Iterable[Case] = ()) -> None:
        lines = "".join(f"\n    {line(case)}  # {case.kind}" for case in culprits)
        report.failures.append(text + lines)
        kind = re.sub(r"[0-9][0-9.]*|0x[0-9a-f]+|'[^' ]*'|\([^)]*\)", "#", text)[:100]
        report.kinds[kind] += 1
        if report.kinds[kind] <= SAID:
            say(report.failures[-1])

    with grpc.insecure_channel(server.address, options=OPTIONS) as channel:
        stub = BacklineStub(channel)
        for name in (pack, OTHER_PACK):
            stub.LoadPack(pb.LoadPackRequest(name=name))
        with bystanders(server.address, pack, BYSTANDERS, jitter_buffer_seconds) as playing:
            _attack_all(server, stub, written, playing, warm_up, report, failed)
            for name, places in places_left(pack).items():  # a row's memory is taken when it is first used, and kept
                _open_at_once(server.address, name, places)
            _settled(stub)
            report.memory_before = server.process.memory_info().rss
            _attack_all(server, stub, written, playing, cases, report, failed)
            if _alive(server.process):
                _judge_what_is_left(server, stub, pack, report, failed)
        for verdict in playing.verdicts:
            failed(verdict)
        report.bystander_chunks = playing.chunks
        if _alive(server.process):
            stats = stub.GetStats(pb.GetStatsRequest())
            if stats.sessions or stats.load:
                failed(f"with nobody there, {stats.sessions} sessions claim a load of {stats.load:.3f}")
        for trace in written.tracebacks():
            failed(f"after all, in the server's log: {trace}")
    return report


def _attack_all(
    server: ServerProcess,
    stub: BacklineStub,
    log: Log,
    playing: Playing,
    cases: Iterable[Case],
    report: Report,
    failed: Callable[..., None],
) -> None:
    remaining = iter(cases)
    with grpc.insecure_channel(server.address, options=OPTIONS) as channel, ThreadPoolExecutor(AT_ONCE) as threads:
        while group := list(islice(remaining, AT_ONCE)):
            for case, outcomes in zip(
                group, threads.map(lambda case: attack(server.address, case, channel), group), strict=True
            ):
                for outcome in outcomes:
                    _count(report, case, outcome)
                    for problem in problems(outcome):
                        failed(problem, [case])
            for trace in log.tracebacks():
                failed(f"in the server's log: {trace}", group)
            for news in playing.news():
                failed(news, group)
            if not _alive(server.process):
                failed("the server is gone", group)
                return
            begin = time.monotonic()
            stub.GetStats(pb.GetStatsRequest(), timeout=LIMIT_SECONDS)
            if (seconds := time.monotonic() - begin) > 2.0:
                failed(f"GetStats took {seconds:.1f} s", group)


def _count(report: Report, case: Case, outcome: Outcome) -> None:
    report.calls += 1
    if isinstance(outcome.call, Call):
        report.statuses[outcome.status.name if outcome.status else "none"] += 1
    if outcome.seconds > report.slowest_seconds:
        report.slowest_seconds, report.slowest = outcome.seconds, f"{case.kind} {case.number}"


def _judge_what_is_left(
    server: ServerProcess, stub: BacklineStub, pack: str, report: Report, failed: Callable[..., None]
) -> None:
    """Sessions, load, places, rows and memory are as if nobody had come."""
    if not _settled(stub):
        sessions = stub.ListSessions(pb.ListSessionsRequest()).sessions
        left = [f"{s.client_name[:20]!r} on {s.pack}, {s.state}" for s in sessions if s.client_name != NAME]
        failed(f"sessions that are still there: {left}")
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        report.memory_after = server.process.memory_info().rss
        if report.growth <= GROWTH_BAR or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    if report.growth > GROWTH_BAR:
        failed(
            f"memory was {report.memory_before / 2**20:.0f} MiB and is {report.memory_after / 2**20:.0f} MiB: "
            f"{report.growth:+.1%}"
        )
    for name, places in places_left(pack).items():
        opened, details = _open_at_once(server.address, name, places)
        if opened < places:
            failed(f"only {opened} of {places} places on {name!r} have been given back: {details}")
    _settled(stub)


def places_left(pack: str) -> dict[str, int]:
    """By pack, how many sessions fit beside the bystanders on `pack`."""
    return {pack: ROWS - len(BYSTANDERS), OTHER_PACK: MAX_SESSIONS - len(BYSTANDERS)}


def _open_at_once(address: str, pack: str, count: int) -> tuple[int, str]:
    """How many of `count` offline sessions can be open together, and why no more."""
    opening = pb.Open(pack=pack, sample_rate=48_000, channels=1, block_size=512, mode=pb.MODE_OFFLINE)
    calls, opened, details = [], 0, ""
    with grpc.insecure_channel(address, options=OPTIONS) as channel:
        for _ in range(count):
            calls.append(BacklineStub(channel).Stream(_held(opening)))
        for call in calls:
            try:
                opened += next(call).WhichOneof("message") == "ready"
            except grpc.RpcError as error:
                details = error.details()
        for call in calls:
            call.cancel()
    return opened, details


def _held(opening: pb.Open) -> Iterator[pb.ClientMessage]:
    """Stays open until the call is cancelled: gRPC then stops asking."""
    yield pb.ClientMessage(open=opening)
    while True:
        time.sleep(0.05)
        yield pb.ClientMessage(transport=pb.Transport(tempo=120))


def _settled(stub: BacklineStub) -> bool:
    """Waits until only the bystanders are left."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline:
        sessions = stub.ListSessions(pb.ListSessionsRequest(), timeout=LIMIT_SECONDS).sessions
        if all(session.client_name == NAME for session in sessions):
            return True
        time.sleep(0.1)
    return False


def _alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
