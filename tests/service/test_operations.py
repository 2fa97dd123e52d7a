"""What supervisors are told over HTTP: metrics that agree with what the clients counted, health, and readiness."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from backline.engine.engine import Engine
from backline.engine.figures import SHARES, Histogram
from backline.models.passthrough import PassthroughConfig, PassthroughStream
from backline.models.stream import ChunkInput
from backline.service.metrics import exposition
from backline.service.operations import REQUESTS, Readiness, operations
from backline.service.server import RunningServer, start_server
from backline_client import BacklineError, Client, ServerBusy
from backline_protos.v1 import backline_pb2 as pb
from backline_protos.v1.backline_pb2_grpc import BacklineStub
from tests.support.clock import TurnedClock
from tests.support.everything import EverythingStream
from tests.support.playing import open_session, running, settle, write_blocks
from tests.support.streams import GainStream
from tests.support.wire import OPTIONS, Answer, block, client, eventually, held, noise, opening

RATE, CHUNK = 48_000, 480  # the passthrough pack's chunks of 10 ms


def get(url: str) -> tuple[int, str]:
    """Status and text."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def read(text: str) -> dict[str, float]:
    """Value by name and labels, as they are written."""
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


@pytest.fixture
def server() -> Iterator[RunningServer]:
    with start_server(device="cpu", metrics="127.0.0.1:0", max_sessions=6, drain_seconds=0.1) as server:
        yield server


PLAY_AND_DIE = """
import os, sys, time
import numpy as np
from backline_client import Client
client = Client(sys.argv[1])
session = client.open("passthrough", 48_000, 2, block_size=480, chunk_seconds=0.01)
for _ in range(int(sys.argv[2])):
    session.send(np.ones((2, 480), np.float32))
    assert session.receive(timeout=20) is not None
print(session.ready.session, flush=True)
time.sleep(60)
"""


def test_metrics_agree_with_the_clients_to_the_chunk_after_kills(server: RunningServer) -> None:
    """Clients that end in order, that cancel, whose connection is cut, and whose process is killed."""
    counted, computed, ended = 0, 0.0, []

    def play(client: Client, chunks: int) -> None:
        nonlocal counted, computed
        session = client.open("passthrough", RATE, 2, block_size=CHUNK, chunk_seconds=0.01)
        for _ in range(chunks):
            session.send(noise(2, CHUNK))
            assert session.receive(timeout=20) is not None
            counted += 1
        if chunks % 2:
            session.cancel()
        else:
            totals = session.close()
            assert totals.chunks == chunks
            ended.append(totals)

    for chunks in (20, 21, 30):
        with Client(server.address) as client:
            play(client, chunks)
    with Client(server.address) as client:
        play(client, 17)  # and leaves without a word
    doomed = subprocess.Popen(
        [sys.executable, "-c", PLAY_AND_DIE, server.address, "11"], stdout=subprocess.PIPE, text=True
    )
    assert doomed.stdout is not None
    assert doomed.stdout.readline()
    doomed.kill()
    doomed.wait()
    doomed.stdout.close()
    counted += 11
    with Client(server.address) as client:
        with pytest.raises(BacklineError):
            client.open("no-such-pack", RATE, 1)
        client.unload_pack("passthrough", close_sessions=True)
        client.load_pack("passthrough")
        play(client, 8)

    assert server.metrics is not None
    metrics: dict[str, float] = {}

    def settled() -> bool:
        metrics.update(read(get(f"{server.metrics}/metrics")[1]))
        return metrics['backline_sessions{pack="passthrough"}'] == 0

    assert eventually(settled)
    assert metrics['backline_chunks_total{pack="passthrough"}'] == counted == 20 + 21 + 30 + 17 + 11 + 8
    assert metrics['backline_chunk_seconds_count{pack="passthrough"}'] == counted
    assert metrics['backline_stage_seconds_bucket{pack="passthrough",stage="queue",le="+Inf"}'] == counted
    assert metrics['backline_audio_seconds_total{pack="passthrough"}'] == pytest.approx(counted * 0.01)
    late = metrics['backline_late_chunks_total{pack="passthrough"}']
    assert late >= sum(totals.late_chunks for totals in ended)
    assert metrics['backline_chunks_in_time_ratio{pack="passthrough"}'] == 1 - late / counted
    in_order = sum(totals.compute_seconds for totals in ended)
    assert metrics['backline_compute_seconds_total{pack="passthrough"}'] > in_order > 0
    assert metrics['backline_sessions_opened_total{pack="passthrough"}'] == 6
    assert metrics['backline_errors_total{door="session",kind="PackNotFound"}'] == 1


def test_refusals_are_counted(server: RunningServer) -> None:
    with Client(server.address) as client:
        sessions = [client.open("passthrough", RATE, 1, offline=True) for _ in range(6)]
        for _ in range(2):
            with pytest.raises(ServerBusy):
                client.open("passthrough", RATE, 1)
        metrics = read(get(f"{server.metrics}/metrics")[1])
        assert metrics["backline_sessions_refused_total"] == client.stats().sessions_refused == 2
        assert metrics['backline_sessions{pack="passthrough"}'] == 6
        held = [metrics[f'backline_session_bytes{{pack="passthrough",row="{row}"}}'] for row in range(6)]
        assert min(held) > CHUNK * 4
        assert metrics['backline_session_kv_bytes{pack="passthrough",row="5"}'] == 0
        assert metrics["backline_process_resident_bytes"] > 1 << 20
        for session in sessions:
            session.close()


def test_a_histogram_counts_each_value_into_its_bucket() -> None:
    histogram = Histogram([1.0, 2.0])
    for value in (0.5, 1.0, 1.5, 2.0, 3.0):
        histogram.observe(value)
    assert (histogram.counts, histogram.sum) == ([2, 2, 1], 8.0)


def test_buckets_lie_around_a_chunks_budget() -> None:
    with running(quick=GainStream()) as engine:
        budget = float(engine.residents["quick"].stream.spec.default_chunk_seconds)
        bounds = engine.figures.models["quick"].chunk_seconds.bounds
    assert bounds == tuple(share * budget for share in SHARES)
    assert budget in bounds


def test_stages_of_a_chunk_add_up_to_its_time() -> None:
    """A model whose chunks take three steps of 10 ms, with a task of 5 ms before each further one."""
    clock, stream = TurnedClock(), EverythingStream(waits_for_frames=False)

    def before_step(inputs: Sequence[ChunkInput]) -> None:
        clock.turn(0.010)
        engine.residents["everything"].post(lambda: clock.turn(0.005))

    with running(clock=clock, everything=stream) as engine:
        session, _ = open_session(engine, "everything", 3_840, channels=3, offline=False)
        stream.before_step = before_step
        write_blocks(session, np.zeros((3, 4 * 3_840), np.float32), 3_840)
        settle(engine)
        figures = engine.figures.models["everything"]
        session.abort()
    assert figures.chunks > 1
    sums = {stage: histogram.sum for stage, histogram in figures.stage_seconds.items()}
    assert sums["model"] == pytest.approx(0.030 * figures.chunks)
    assert sums["session"] == pytest.approx(0.0)
    assert figures.chunk_seconds.sum == pytest.approx(0.040 * figures.chunks)  # its waits between steps are in it
    assert sums["queue"] >= 0.010 * figures.chunks - 1e-9  # and those before it


def test_a_sessions_memory_is_told_by_its_row_and_goes_with_it() -> None:
    with running(own=PassthroughStream(PassthroughConfig()), foreign=GainStream()) as engine:
        sessions = [open_session(engine, name)[0] for name in ("own", "foreign", "own")]
        told = read(exposition(engine))
        rings = [session.take.input.ring.memory_bytes for session in sessions]
        names = [f'backline_session_bytes{{pack="{pack}",row="{row}"}}' for pack, row in (("own", 0), ("foreign", 0))]
        assert [told[name] for name in names] == rings[:2]
        assert told['backline_session_bytes{pack="own",row="1"}'] == rings[2]
        sessions[2].abort()
        assert sessions[2].closed.wait(20)
        assert 'pack="own",row="1"' not in exposition(engine)
        assert sessions[2].memory.other == rings[2]  # of a row that is nobody's


def test_figures_outlive_sessions_and_models() -> None:
    with running(gain=GainStream()) as engine:
        for _ in range(2):
            session, listener = open_session(engine, "gain")
            write_blocks(session, noise(2, RATE), 4_096)
            session.close_input()
            listener.finished()
            engine.remove_stream("gain")
            assert read(exposition(engine))['backline_chunks_total{pack="gain"}'] == engine.stats().chunks
            engine.add_stream("gain", GainStream())
        assert engine.stats().chunks == 2 * session.totals.chunks
        settle(engine)
        assert engine.stats().sessions_total == 2


def test_what_is_written_is_prometheus_text() -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    odd = 'a "quoted\\" pack\nof two lines'
    with running(**{odd: GainStream()}) as engine:
        session, listener = open_session(engine, odd)
        write_blocks(session, noise(2, RATE), 4_096)
        session.close_input()
        listener.finished()
        engine.figures.count_error("osc", "BadInput")
        families = {family.name: family for family in parser.text_string_to_metric_families(exposition(engine))}
    chunks = session.totals.chunks
    assert [(sample.labels, sample.value) for sample in families["backline_chunks"].samples] == [
        ({"pack": odd}, chunks)
    ]
    assert families["backline_chunk_seconds"].type == "histogram"
    buckets = [sample.value for sample in families["backline_chunk_seconds"].samples if "le" in sample.labels]
    assert buckets == sorted(buckets)
    assert buckets[-1] == chunks
    assert families["backline_errors"].samples[0].labels == {"door": "osc", "kind": "BadInput"}
    assert all(family.documentation and family.type != "unknown" for family in families.values())


def test_errors_of_many_threads_are_all_counted() -> None:
    figures = Engine().figures
    threads = [
        threading.Thread(target=lambda: [figures.count_error("osc", "BadInput") for _ in range(5_000)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert figures.errors["osc", "BadInput"] == 20_000


def test_supervisors_hear_of_health_and_of_nothing_else(server: RunningServer) -> None:
    assert get(f"{server.metrics}/healthz") == (200, "alive\n")
    assert get(f"{server.metrics}/readyz") == (200, "ready\n")
    assert get(f"{server.metrics}/etc/passwd")[0] == 404
    assert server.metrics is not None
    host, _, port = server.metrics.removeprefix("http://").rpartition(":")
    for request in (b"POST /metrics HTTP/1.1\r\n\r\n", b"\0\xff" * 200 + b"\r\n\r\n"):
        with socket.create_connection((host, int(port)), 10) as connection:
            connection.sendall(request)
            said = connection.makefile("rb").read()
            assert b"501" in said or b"400" in said
    assert 'backline_errors_total{door="operations",kind="NotFound"} 1' in get(f"{server.metrics}/metrics")[1]


def test_metrics_are_not_told_to_other_machines_by_mistake() -> None:
    with pytest.raises(OSError, match=r"--metrics 0\.0\.0\.0:0: other machines may reach it"):
        start_server(metrics="0.0.0.0:0").__enter__()
    for address in ("127.0.0.1:port", "127.0.0.1:99999"):
        with pytest.raises(OSError, match=r"cannot listen at .* HOST:PORT"):
            start_server(metrics=address).__enter__()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("Host: evil.example\r\n", 403),  # a name server of a stranger's leads it here
        ("Host: 127.0.0.1:9464.evil.example\r\n", 403),
        ("Host: 127.0.0.1:9464\r\nOrigin: http://evil.example\r\n", 403),
        ("Host: \r\n", 403),
        ("Host: studio.example:9464\r\n", 200),  # as it was told
        ("Host: [fe80::1]:9464\r\n", 200),
        ("Host: studio:9464\r\n", 200),
        ("Host: studio.local\r\n", 200),
        ("Host: 192.168.1.4:9464\r\n", 200),
        ("", 200),  # a probe
    ],
)
def test_pages_of_other_sites_hear_nothing(headers: str, status: int) -> None:
    with (
        asked(names=["studio.example"]) as address,
        socket.create_connection(address, 10) as connection,
    ):
        connection.sendall(f"GET /metrics HTTP/1.1\r\n{headers}\r\n".encode())
        said = connection.makefile("rb").read()
        assert said.startswith(f"HTTP/1.0 {status} ".encode()), said
        assert (b"backline_uptime" in said) == (status == 200)


def test_a_request_that_trickles_is_cut_off_and_its_slot_is_free_again() -> None:
    """Bytes that keep coming, each well within the time."""
    with asked(request_seconds=1.5) as address, ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(address, 10)) for _ in range(REQUESTS)]
        slow[0].sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")

        def trickle() -> bool:
            """Whether all have been cut off."""
            for each in slow:
                with suppress(OSError):
                    each.sendall(b"X")
            return answers("/healthz")

        def answers(path: str) -> bool:
            host, port = address
            with suppress(OSError):
                return get(f"http://{host}:{port}{path}")[0] == 200
            return False

        assert not answers("/healthz")  # all slots are taken
        assert eventually(trickle)


@contextmanager
def asked(**options: Any) -> Iterator[tuple[str, int]]:
    """Where an engine of nothing is asked by HTTP."""
    loop = asyncio.new_event_loop()
    turning = threading.Thread(target=loop.run_forever)
    turning.start()
    try:
        with operations("127.0.0.1:0", Engine(), Readiness(""), loop, **options) as url:
            yield "127.0.0.1", int(url.rpartition(":")[2])
    finally:
        loop.call_soon_threadsafe(loop.stop)
        turning.join()
        loop.close()


SERVE = [sys.executable, "-m", "backline.cli.main", "serve", "--address", "127.0.0.1:0", "--socket", "none"]
SERVE += ["--device", "cpu", "--metrics", "127.0.0.1:0", "--log", "json"]


def test_sigterm_drains_and_readyz_says_so_meanwhile(tmp_path: Path) -> None:
    """A session that is open at SIGTERM plays on, /readyz turns 503, nobody else comes in; all is logged."""
    errors = tmp_path / "log"
    with (
        errors.open("wb") as log,
        subprocess.Popen(SERVE, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            metrics, address = [process.stdout.readline().rpartition(" ")[2].strip() for _ in range(2)]
            assert get(f"{metrics}/readyz")[0] == 200
            with grpc.insecure_channel(address, options=OPTIONS) as channel:
                audio = noise(2, 500)
                enough = threading.Event()

                def sent() -> Iterator[object]:
                    yield from client(opening(), block(audio))
                    enough.wait(30)
                    yield from client(pb.Close())

                call = BacklineStub(channel).Stream(sent())
                assert [next(call).WhichOneof("message") for _ in range(2)] == ["ready", "audio"]
                process.send_signal(signal.SIGTERM)
                assert eventually(lambda: get(f"{metrics}/readyz") == (503, "draining\n"))
                assert get(f"{metrics}/healthz")[0] == 200
                assert 'backline_sessions{pack="passthrough"} 1' in get(f"{metrics}/metrics")[1]
                late = Answer(BacklineStub(channel).Stream(held(opening())))
                assert (late.status, "shutting down" in late.details) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)
                enough.set()  # it had ten seconds
                ended = Answer(call)
                assert ended.status is grpc.StatusCode.OK
                assert ended.messages[-1].closed.samples_out == 500
            assert process.wait(30) == 0
        finally:
            process.kill()
    entries = [json.loads(line) for line in errors.read_text().splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(entry) for entry in entries)
    (opened,) = [entry for entry in entries if entry["message"].endswith("opened on 'passthrough' by ''")]
    (closed,) = [entry for entry in entries if "ended after" in entry["message"]]
    assert opened["session"] == closed["session"]
    assert (closed["pack"], closed["chunks"], closed["late_chunks"], closed["key"]) == ("passthrough", 2, 0, "")


def test_json_logs_hold_tracebacks_and_odd_names() -> None:
    program = """
import logging
from backline.cli.logs import log_as_json
log_as_json()
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("x").exception("failed for %r", 'a\\n"name"', extra={"pack": "é"})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=dict(os.environ))
    (line,) = done.stderr.splitlines()
    entry = json.loads(line)
    assert (entry["level"], entry["pack"]) == ("error", "é")
    assert "ZeroDivisionError" in entry["exception"]
    assert entry["message"] == """failed for 'a\\n"name"'"""
