"""Where compiled code is kept: beside the sources, and wherever else an installation that is read-only leaves room."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import backline
import backline_client
import backline_protos
from backline.kernels.compiled import COMPILING, NAME, SETTINGS, place

PRELUDE = """
import pwd
def nobody(*_):
    raise KeyError("uid not found")
pwd.getpwuid = pwd.getpwnam = nobody
"""
RESAMPLE = """
import numpy as np
from backline.kernels.compiled import place
from backline.kernels.resample import Resampler
assert Resampler(48_000, 24_000, 1).process(np.ones((1, 4800), np.float32)).shape[1] > 2000
print(place().kept, place().description)
"""
EVERYTHING = """
import importlib, pkgutil, sys
import backline, backline_client
for package in (backline, backline_client):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
from backline.cli.main import main
for arguments in (["--help"], ["packs", "list"]):
    sys.argv = ["backline", *arguments]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (arguments, end.code)
import numpy as np
from backline.engine.engine import Engine, default_config
from backline.packs.registry import PackRegistry
stream = PackRegistry().load("default")
config = default_config(stream.spec)
row = stream.open(config)
from backline.models.stream import ChunkInput
(played,) = stream.step([ChunkInput(row, np.zeros((1, stream.required_input(row)), np.float32), None, {})])
print("played", played.audio[0].shape)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages in which no folder can keep compiled code: a file stands where it would lie.

    Permissions would not do: root, as whom tests may run, heeds none.
    """
    site = tmp_path_factory.mktemp("site")
    for package in (backline, backline_client, backline_protos):
        source = Path(next(iter(package.__path__)))
        shutil.copytree(source, site / source.name, ignore=without_compiled_and_packs)
    packs = Path(next(iter(backline.__path__))) / "packs" / "data"
    (site / "backline" / "packs" / "data").symlink_to(packs)
    for folder, _, _ in os.walk(site):
        (Path(folder) / "__pycache__").touch()
    return site


def without_compiled_and_packs(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name == "__pycache__" or (name == "data" and Path(folder).name == "packs")]


def run(installed: Path, code: str, temporary: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """`code` in a process of someone without a home, whom the system does not know."""
    environment = {"PATH": os.defpath, "PYTHONPATH": str(installed), "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PRELUDE + code]
    done = subprocess.run(
        command, env=environment | variables, cwd="/", capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done


def test_an_installation_that_can_be_written_to_keeps_it_beside_the_sources() -> None:
    if os.environ.get("NUMBA_CACHE_DIR"):
        pytest.skip("NUMBA_CACHE_DIR is set")
    assert place().description == "beside the sources"
    assert not SETTINGS.CACHE_DIR


def test_a_read_only_one_keeps_it_in_the_users_cache(installed: Path, tmp_path: Path) -> None:
    done = run(installed, RESAMPLE, tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert done.stdout.strip() == f"True {tmp_path / 'cache' / 'backline' / 'kernels'}"
    assert list((tmp_path / "cache").rglob("*.nbc"))


def test_without_a_home_it_is_kept_in_a_private_folder(installed: Path, tmp_path: Path) -> None:
    done = run(installed, RESAMPLE, tmp_path)
    (kept,) = tmp_path.glob(f"{NAME}-*")
    assert done.stdout.strip() == f"True {kept}"
    assert kept.stat().st_mode & 0o077 == 0
    assert list(kept.rglob("*.nbc"))


def test_code_that_others_could_change_is_not_run(installed: Path, tmp_path: Path) -> None:
    """Then nothing is kept, which is said once."""
    theirs = tmp_path / f"{NAME}-{os.getuid()}"
    theirs.mkdir()
    theirs.chmod(0o777)
    done = run(installed, RESAMPLE, tmp_path)
    assert done.stdout.startswith("False nowhere")
    assert done.stderr.count("compiled code cannot be kept") == 1
    assert not list(theirs.iterdir())


def test_a_cache_that_cannot_be_written_to_is_passed_over(installed: Path, tmp_path: Path) -> None:
    done = run(installed, RESAMPLE, tmp_path, NUMBA_CACHE_DIR="/proc/nowhere", HOME="/proc/nobody")
    assert done.stdout.startswith(f"True {tmp_path / NAME}")


@pytest.mark.slow
def test_everything_works_without_a_home_or_a_place_to_write_to(installed: Path, tmp_path: Path) -> None:
    before = sorted(str(path) for path in installed.rglob("*"))
    done = run(installed, EVERYTHING, tmp_path)
    assert "played" in done.stdout
    assert sorted(str(path) for path in installed.rglob("*")) == before


def test_every_part_that_compiles_is_known() -> None:
    root = Path(next(iter(backline.__path__)))
    importing = {
        path.relative_to(root).parts[0] for path in root.rglob("*.py") if "import compiled\n" in path.read_text()
    }
    assert importing == set(COMPILING)
    direct = [path.name for path in root.rglob("*.py") if "from numba import njit" in path.read_text()]
    assert direct == ["simd.py"], "compile with backline.kernels.compiled: simd.py's are inlined and never kept"
