"""What starts on Windows: the server, the client and the commands, on a Python from which Windows' gaps are taken."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import grpc
import numpy as np
import pytest
import soundfile

from backline.service.server import _signalled
from backline_protos.v1.backline_pb2_grpc import BacklineStub
from tests.support.wire import block, held, noise, opening

ROOT = Path(__file__).parents[2]
COMMANDS = """
import sys
import numpy as np
from backline.cli.main import main
from backline.service.server import start_server
from backline_client import Client, ConnectionFailed
from tests.support.sound_card import SoundDevice, device

folder = sys.argv[1]
def backline(*arguments):
    sys.argv[1:] = arguments
    try:
        main()
    except SystemExit as end:
        assert not end.code, end.code

with start_server(device="cpu") as server, Client(server.address) as client:
    audio = np.ones((1, 4_000), np.float32)
    assert np.array_equal(client.render("passthrough", audio, 48_000)["main"], audio)
    given = ("--pack", "passthrough", "--server", server.address)
    backline("render", f"{folder}/in.wav", "-o", f"{folder}/rendered.wav", *given)
    backline("live", "--input", f"{folder}/in.wav", "--output", f"{folder}/live.wav", *given, "--jitter-buffer", "1")
    sys.modules["sounddevice"] = card = SoundDevice(device("card", 0, 2))
    backline("live", "--input", f"{folder}/in.wav", *given)
    assert card.played
try:
    with start_server(f"unix:{folder}/socket"):
        raise SystemExit("a socket without sockets")
except OSError as error:
    print(error)
try:
    Client(f"unix:{folder}/socket", timeout=5.0).packs()
except ConnectionFailed as error:
    print(error)
"""


@pytest.fixture
def windows() -> dict[str, Any]:
    """The environment of a process that has only what Windows has."""
    path = [str(ROOT / "tests" / "support" / "windows"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


def test_the_names_are_taken_away(windows: dict[str, Any]) -> None:
    program = (
        "import os, socket, signal\n"
        "assert not hasattr(os, 'getuid') and not hasattr(socket, 'AF_UNIX') and hasattr(signal, 'SIGBREAK')\n"
        "try:\n    import fcntl\nexcept ModuleNotFoundError:\n    print('gone')"
    )
    said = subprocess.run([sys.executable, "-c", program], env=windows, capture_output=True, text=True, check=True)
    assert said.stdout == "gone\n"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGBREAK"])
def test_every_signal_that_asks_for_an_end_is_heard_where_loops_take_none(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR2, raising=False)
    number = getattr(signal, name)
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)}

    async def wait() -> None:
        loop = asyncio.get_running_loop()
        for method in ("add_signal_handler", "remove_signal_handler"):
            monkeypatch.setattr(loop, method, Mock(side_effect=NotImplementedError))
        loop.call_later(0.01, os.kill, os.getpid(), number)
        await asyncio.wait_for(_signalled(loop), 10)

    try:
        asyncio.run(wait())
        usual = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
        assert signal.getsignal(number) == usual, "the next one has its usual effect"
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def test_serve_starts_plays_and_ends_in_order(windows: dict[str, Any]) -> None:
    command = [sys.executable, "-m", "backline.cli.main", "serve", "--address", "127.0.0.1:0", "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=windows) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert said.startswith("listening on 127.0.0.1:"), said + process.communicate()[1]
            with grpc.insecure_channel(said.split()[-1]) as channel:
                audio = noise(2, 500)
                call = BacklineStub(channel).Stream(held(opening(), block(audio)))
                assert [next(call).WhichOneof("message") for _ in range(2)] == ["ready", "audio"]
                process.send_signal(signal.SIGINT)
                call.cancel()
            _, errors = process.communicate(timeout=30)
            assert process.returncode == 0, errors
            assert "Traceback" not in errors
        finally:
            process.kill()


def test_commands_and_the_client_start(windows: dict[str, Any], tmp_path: Path) -> None:
    audio = noise(2, 5_000)
    soundfile.write(tmp_path / "in.wav", audio.T, 48_000, subtype="FLOAT")
    command = [sys.executable, "-c", COMMANDS, str(tmp_path)]
    said = subprocess.run(command, env=windows, capture_output=True, text=True, timeout=100, check=False)
    assert said.returncode == 0, said.stderr
    for name in ("rendered", "live"):
        np.testing.assert_array_equal(soundfile.read(tmp_path / f"{name}.wav", dtype="float32")[0].T, audio)
    assert f"cannot listen at unix:{tmp_path}/socket: this system has no Unix sockets: use HOST:PORT" in said.stdout
    assert "no Backline server answers at unix:" in said.stdout
