"""Where tests find the built plugins, and the real server that they play through."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.plugin import native
from tests.plugin.clap_host import Bundle, ClapPlugin
from tests.plugin.server_process import server_process
from tests.support.server import address, client

__all__ = ["address", "client"]


@pytest.fixture(scope="module", autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where plugins remember packs: none, at first; what one module's servers had is not in another's lists. They know
    of no servers either, whatever the user who runs the tests has written down.
    """
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder))
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        yield folder


@pytest.fixture(scope="session")
def plugins() -> Path:
    """The folder that `make plugin` builds into; BACKLINE_PLUGINS names another one."""
    folder = Path(os.environ.get("BACKLINE_PLUGINS", Path(__file__).parents[2] / "build" / "plugin"))
    if not folder.is_dir():
        pytest.skip("the plugins are not built: make plugin")
    return folder


@pytest.fixture(scope="session")
def built(plugins: Path) -> Path:
    """The folder of the core's test programs."""
    return native.build(plugins, "", "core_test", "drive", "realtime_guard", "out_of_memory", "names")


@pytest.fixture(scope="session")
def clap_file(plugins: Path) -> Path:
    path = plugins / "backline.clap"
    if not path.exists():
        pytest.skip("the CLAP plugin is not built: make plugin")
    return path


@pytest.fixture(scope="session")
def bundle(clap_file: Path) -> Iterator[Bundle]:
    """The loaded .clap."""
    with Bundle(clap_file) as loaded:
        yield loaded


@pytest.fixture
def plugin(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ClapPlugin]:
    """One instance that finds no server."""
    monkeypatch.setenv("BACKLINE_ADDRESS", f"unix:{tmp_path}/none.sock")
    with bundle.create() as made:
        yield made


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


@pytest.fixture(scope="session")
def served_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a server in a process of its own listens."""
    address = f"unix:{tmp_path_factory.mktemp('server')}/socket"
    with server_process(address):
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
