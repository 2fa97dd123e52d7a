"""Where a server listens, and how it comes to an end."""

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from backline.packs.registry import PackNotFound
from backline.service.server import serve, start_server
from backline_protos.v1 import backline_pb2 as pb
from backline_protos.v1.backline_pb2_grpc import BacklineStub
from tests.support.wire import OPTIONS, Answer, block, blocks, client, eventually, held, noise, opening

SERVE = """
import asyncio
from backline.service.server import serve
asyncio.run(serve("127.0.0.1:0", device="cpu", drain_seconds=0.5, on_ready=lambda address: print(address, flush=True)))
"""


def echo(address: str) -> None:
    audio = noise(2, 1_000)
    with grpc.insecure_channel(address, options=OPTIONS) as channel:
        answer = Answer(BacklineStub(channel).Stream(client(opening(), *blocks(audio, [512]))))
    assert answer.status is grpc.StatusCode.OK, answer.details
    assert np.array_equal(answer.port(), audio)


def test_a_unix_socket_serves_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "backline.sock"
    with start_server(f"unix:{path}", device="cpu") as server:
        assert server.address == f"unix:{path}"
        assert path.stat().st_mode & 0o077 == 0
        echo(server.address)


def serve_until_ready(**options: Any) -> list[str]:
    """Where a server listens that ends as soon as it does."""
    found: list[str] = []
    stop = asyncio.Event()
    stop.set()
    asyncio.run(serve("127.0.0.1:0", device="cpu", drain_seconds=0.0, on_ready=found.append, stop=stop, **options))
    return found


def test_a_server_listens_at_a_socket_beside_its_address(tmp_path: Path) -> None:
    path = tmp_path / "beside"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    command = [sys.executable, "-m", "backline.cli.main", "serve", "--address", "127.0.0.1:0", "--socket", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            addresses = [process.stdout.readline().removeprefix("listening on ").strip() for _ in range(2)]
            assert addresses[0] == f"unix:{path}"
            assert path.stat().st_mode & 0o077 == 0
            for address in addresses:
                echo(address)
        finally:
            process.terminate()


@pytest.mark.parametrize("living", [True, False])
def test_a_socket_that_cannot_be_had_is_an_error_or_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, living: bool
) -> None:
    taken = f"unix:{tmp_path}/socket" if living else f"unix:{tmp_path}/no/folder"
    with start_server(taken) if living else contextlib.nullcontext():
        with pytest.raises(OSError, match=f"cannot listen at {taken}: .*(another server|folder)"):
            serve_until_ready(beside=taken)
        assert len(serve_until_ready(beside=taken, beside_if_free=True)) == 1
        assert f"cannot listen at {taken}" in caplog.text
        if living:
            echo(taken)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_an_address_that_is_taken_stays_with_its_server(tmp_path: Path, kind: str) -> None:
    with start_server("127.0.0.1:0" if kind == "tcp" else f"unix:{tmp_path}/socket", device="cpu") as first:
        with pytest.raises(OSError, match=r"cannot listen at .*: .*another server"), start_server(first.address):
            pass
        echo(first.address)


def test_a_socket_that_nobody_listens_at_is_no_hindrance(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(f"{tmp_path}/socket")
    for _ in range(2):
        with start_server(f"unix:{tmp_path}/socket", device="cpu") as server:
            echo(server.address)


def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(OSError, match="cannot listen at"), start_server(f"unix:{tmp_path}/notes", device="cpu"):
        pass
    assert (tmp_path / "notes").read_text() == "mine"


def test_packs_to_preload_must_be_there(tmp_path: Path) -> None:
    with (
        start_server(load=["passthrough"], device="cpu") as server,
        grpc.insecure_channel(server.address, options=OPTIONS) as channel,
    ):
        found = BacklineStub(channel).GetPack(pb.GetPackRequest(name="passthrough"))
        assert found.state == pb.PACK_STATE_RESIDENT
    with pytest.raises(PackNotFound, match="no pack 'polka'"), start_server(load=["polka"]):
        pass


def test_packs_are_looked_through_before_a_client_comes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "pack.toml").write_text("name = ")
    serve_until_ready(packs=[tmp_path])
    assert "pack 'broken' is damaged: pack.toml is not valid TOML" in caplog.text


def test_a_device_must_be_there() -> None:
    with pytest.raises(ValueError, match="device is 'tpu': use auto, cpu or cuda"), start_server(device="tpu"):
        pass


def test_open_streams_finish_when_the_server_stops() -> None:
    audio = noise(2, 5_003)
    answers: list[Answer] = []

    def play() -> None:
        with grpc.insecure_channel(server.address, options=OPTIONS) as channel:
            answers.append(Answer(BacklineStub(channel).Stream(held(opening(), *blocks(audio, [512])))))

    with (
        start_server(device="cpu", drain_seconds=0.2) as server,
        grpc.insecure_channel(server.address, options=OPTIONS) as channel,
    ):
        player = threading.Thread(target=play)
        player.start()
        stub = BacklineStub(channel)
        assert eventually(lambda: stub.GetStats(pb.GetStatsRequest()).chunks == 10)  # and 203 samples are left
    player.join(10)
    (answer,) = answers
    assert answer.status is grpc.StatusCode.OK, answer.details
    assert answer.messages[-1].WhichOneof("message") == "closed"
    assert np.array_equal(answer.port(), audio)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_in_order(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", SERVE], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            with grpc.insecure_channel(address, options=OPTIONS) as channel:
                audio = noise(2, 500)
                call = BacklineStub(channel).Stream(held(opening(), block(audio)))
                assert [next(call).WhichOneof("message") for _ in range(2)] == ["ready", "audio"]
                process.send_signal(number)
                ended = Answer(call)
                assert ended.status is grpc.StatusCode.OK
                assert ended.messages[-1].closed.samples_out == 500
            assert process.wait(30) == 0
        finally:
            process.kill()
