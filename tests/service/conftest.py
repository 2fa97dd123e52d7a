"""A server with packs of every kind, one for each test file."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import torch

from backline.packs.pack import write_pack
from backline.service.server import RunningServer, start_server
from backline_protos.v1.backline_pb2_grpc import BacklineStub
from tests.support.wire import OPTIONS


def make_pack(folder: Path, passthrough: dict[str, object], weights: bool = False) -> None:
    config = {"name": folder.name, "version": "1", "family": "passthrough", "description": "a test", "license": "none"}
    tensors = {"codec.weight": torch.zeros(1000)} if weights else {}
    write_pack(folder, {**config, "passthrough": passthrough}, tensors)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packs: `stems` has four ports, `late` looks ahead by a second, `torn` and `bent` are damaged, `bare` is empty."""
    folder = tmp_path_factory.mktemp("packs")
    make_pack(folder / "stems", {"ports": ["vocals", "drums", "bass", "other"]})
    make_pack(folder / "late", {"latency_seconds": 1.0})
    for name in ("torn", "bent", "bare"):
        make_pack(folder / name, {}, weights=True)
    weights = folder / "torn" / "codec.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    weights = folder / "bent" / "codec.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    (folder / "bare" / "codec.safetensors").unlink()
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[RunningServer]:
    with start_server(packs=[folder], device="cpu", max_sessions=8, drain_seconds=0.1) as server:
        yield server


@pytest.fixture
def stub(server: RunningServer) -> Iterator[BacklineStub]:
    with grpc.insecure_channel(server.address, options=OPTIONS) as channel:
        yield BacklineStub(channel)


@pytest.fixture(scope="module")
def server_address(server: RunningServer) -> str:
    """For tests that hypothesis repeats, which may use no fixture of a function's scope."""
    return server.address
