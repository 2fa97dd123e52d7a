"""A client that knows the contract as it was (tests/support/old/backline.proto) plays every pack on this server."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from grpc_tools import protoc

from tests.support.server import address

__all__ = ["address"]

OLD = Path(__file__).parent.parent / "support" / "old"
PLAY = """
import json, sys
import grpc, numpy as np
from backline_old import backline_pb2 as pb
from backline_old.backline_pb2_grpc import BacklineStub

address, pack = sys.argv[1:]
rate, block = 48_000, 512
audio = np.random.default_rng(0).uniform(-0.1, 0.1, (2 * rate, 2)).astype("<f4")

def requests(kind):
    yield kind(open=pb.Open(pack=pack, sample_rate=rate, channels=2, block_size=block, seed=3, mode=pb.MODE_OFFLINE))
    yield kind(transport=pb.Transport(playing=True, tempo=100, numerator=4, denominator=4))
    for at in range(0, len(audio), block):
        yield kind(audio=pb.AudioBlock(position=at, pcm=audio[at : at + block].tobytes()))

with grpc.insecure_channel(address) as channel:
    stub = BacklineStub(channel)
    found = {}
    for name, kind, method in (
        ("stream", pb.ClientMessage, stub.Stream), ("render", pb.RenderRequest, stub.Render)
    ):
        played = {}
        for message in method(requests(kind)):
            if message.WhichOneof("message") == "ready":
                ports = [port.name for port in message.ready.ports]
            elif message.WhichOneof("message") == "audio":
                played.setdefault(ports[message.audio.port], []).append(message.audio.pcm)
            elif message.WhichOneof("message") == "closed":
                closed = message.closed.samples_out
        sounds = {port: np.frombuffer(b"".join(pcm), "<f4") for port, pcm in played.items()}
        found[name] = {port: [len(sound), float(np.abs(sound).sum())] for port, sound in sounds.items()}
    listed = [entry.name for entry in stub.ListPacks(pb.ListPacksRequest()).packs]
print(json.dumps({"found": found, "closed": closed, "packs": listed}))
"""


@pytest.fixture(scope="module")
def old_stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package `backline_old`."""
    folder = tmp_path_factory.mktemp("old")
    (folder / "backline_old").mkdir()
    (folder / "backline_old" / "__init__.py").touch()
    arguments = ["protoc", f"-Ibackline_old={OLD}", "backline_old/backline.proto"]
    assert protoc.main([*arguments, f"--python_out={folder}", f"--grpc_python_out={folder}"]) == 0
    return folder


@pytest.mark.parametrize("pack", ["passthrough", "default", "stems"])
def test_an_old_client_plays(address: str, old_stubs: Path, pack: str) -> None:
    typed = [sys.executable, "-c", PLAY, address, pack]  # in a process of its own: both contracts have the same names
    said = subprocess.run(typed, cwd=old_stubs, capture_output=True, text=True, timeout=120)
    assert said.returncode == 0, said.stderr
    told = json.loads(said.stdout)
    assert told["closed"] == 96_000
    assert {"passthrough", "default", "stems"} <= set(told["packs"])
    assert told["found"]["stream"] == told["found"]["render"]
    for samples, level in told["found"]["render"].values():
        assert samples % 96_000 == 0
        assert level > 0
    if pack == "passthrough":
        audio = np.random.default_rng(0).uniform(-0.1, 0.1, (96_000, 2)).astype("<f4")
        assert told["found"]["render"] == {"main": [192_000, pytest.approx(float(np.abs(audio).sum()))]}
