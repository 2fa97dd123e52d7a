"""Where tests find the built plugins, and the real server that they play through."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.plugin.clap_host import Bundle, ClapPlugin
from tests.support.server import address, client

__all__ = ["address", "client"]


@pytest.fixture(scope="session")
def plugins() -> Path:
    """The folder that `make plugin` builds into; BACKLINE_PLUGINS names another one."""
    folder = Path(os.environ.get("BACKLINE_PLUGINS", Path(__file__).parents[2] / "build" / "plugin"))
    if not folder.is_dir():
        pytest.skip("the plugins are not built: make plugin")
    return folder


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
