"""Where tests find the recordings, and how they share a small machine."""

import os
from collections.abc import Generator
from pathlib import Path

import hypothesis
import pytest
from xdist.scheduler import Scheduling

from tests.support.turns import PACED, FilesThenPaced, in_order, turn

os.environ.setdefault("OMP_NUM_THREADS", "1")
hypothesis.settings.register_profile("busy", deadline=None)  # how long an example takes says what else runs here
hypothesis.settings.load_profile("busy")
MOST_PROCESSES = 8  # each takes up to 3 GB


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of real recordings, named by BACKLINE_AUDIO."""
    folder = os.environ.get("BACKLINE_AUDIO")
    if not folder or not Path(folder).is_dir():
        pytest.skip("BACKLINE_AUDIO does not name a folder with the recordings; set it to run on real audio")
    return Path(folder)


def folder_of_the_run(config: pytest.Config) -> Path:
    """A temporary folder that all processes of the run share."""
    folder: Path = config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def run_folder(pytestconfig: pytest.Config) -> Path:
    """A temporary folder that all processes of the run share."""
    return folder_of_the_run(pytestconfig)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    in_order(items)
    for item in items:
        if item.get_closest_marker(PACED):
            item.add_marker(pytest.mark.xdist_group(PACED))


@pytest.hookimpl(wrapper=True, tryfirst=True)  # outside of the time limit: a turn may be long in coming
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    with turn(folder_of_the_run(item.config), bool(item.get_closest_marker(PACED))):
        return (yield)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling:
    config.option.loadscopereorder = False  # the order is ours
    return FilesThenPaced(config, log)  # type: ignore[arg-type]


def pytest_xdist_auto_num_workers() -> int:
    """For `-n auto`: one a core, as far as memory goes."""
    return min(MOST_PROCESSES, len(os.sched_getaffinity(0)))
