"""Where tests find the recordings, and what keeps them quiet on small machines."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of real recordings, named by BACKLINE_AUDIO."""
    folder = os.environ.get("BACKLINE_AUDIO")
    if not folder or not Path(folder).is_dir():
        pytest.skip("BACKLINE_AUDIO does not name a folder with the recordings; set it to run on real audio")
    return Path(folder)
