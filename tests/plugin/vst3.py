"""Fixtures: the built .vst3, and a server in a process of its own that its hosts find."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.plugin.server_process import server_process

Audio = NDArray[np.float32]  # [channel, sample]


def noise(frames: int, seed: int = 0) -> Audio:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (2, frames)).astype(np.float32)


def factor(gain_db: float) -> np.float32:
    return np.float32(10.0 ** (gain_db / 20.0))


@pytest.fixture(scope="session")
def vst3_bundle(plugins: Path) -> Path:
    """The bundle's folder."""
    path = plugins / "backline.vst3"
    if not path.is_dir():
        pytest.skip("the VST3 plugin is not built: make plugin")
    return path


@pytest.fixture(scope="session")
def vst3_binary(vst3_bundle: Path) -> Path:
    (path,) = vst3_bundle.glob("Contents/*/backline.so")
    return path


@pytest.fixture(scope="module")
def served_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a server of this module's own listens."""
    address = f"unix:{tmp_path_factory.mktemp('server')}/socket"
    with server_process(address, load=["passthrough"]):
        yield address


@pytest.fixture
def served(served_address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Plugins of this process find the server."""
    monkeypatch.setenv("BACKLINE_ADDRESS", served_address)
    return served_address


@pytest.fixture
def unserved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plugins of this process find no server."""
    monkeypatch.setenv("BACKLINE_ADDRESS", f"unix:{tmp_path}/none")
