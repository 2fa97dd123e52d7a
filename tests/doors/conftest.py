"""A server with an OSC door, and controllers that know its port."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backline.doors.osc import OscDoor
from backline.service.server import RunningServer, start_server
from tests.support.everything import everything_pack
from tests.support.osc import Controller

ROOT = Path(__file__).parents[2]
LIVE = [sys.executable, "-m", "backline.cli.main", "live"]


@pytest.fixture(scope="module")
def card() -> Iterator[None]:
    """What this process starts has a sound card: tests/support/card."""
    with pytest.MonkeyPatch.context() as patch:
        paths = [str(ROOT / "tests" / "support" / "card"), str(ROOT), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        yield


@pytest.fixture(scope="module")
def door(card: None) -> OscDoor:
    return OscDoor("127.0.0.1:0", LIVE, announce=False)


@pytest.fixture(scope="module")
def server(door: OscDoor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with pytest.MonkeyPatch.context() as patch:
        folder = everything_pack(tmp_path_factory.mktemp("packs"), patch)
        with start_server(packs=[folder], device="cpu", doors=[door], drain_seconds=0.1) as server:
            assert door.opened.wait(20)
            yield server


@pytest.fixture
def controller(server: RunningServer, door: OscDoor) -> Iterator[Controller]:
    with Controller(door.port) as controller:
        yield controller


@pytest.fixture
def controllers(server: RunningServer, door: OscDoor) -> Iterator[Callable[[], Controller]]:
    made: list[Controller] = []

    def make() -> Controller:
        made.append(Controller(door.port))
        return made[-1]

    yield make
    for each in made:
        each.close()
