"""Builds the C++ hosts of plugin_client/tests, and the plugins under a sanitizer, and runs checks of them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.turns import locked

SOURCE = Path(__file__).parents[2] / "plugin_client"
CHECK_SECONDS = 120  # after which a check counts as hanging

# Any report is a failure, not only one that the process survives to mention.
SANITIZER_OPTIONS = {
    "TSAN_OPTIONS": "halt_on_error=1",
    "ASAN_OPTIONS": "detect_leaks=1:strict_string_checks=1",
}


def build(plugins: Path, sanitizer: str, *targets: str) -> Path:
    """A build folder in which these CMake targets are up to date: `plugins` itself, or one beside it for a sanitizer.

    Args:
        plugins: the folder of the plugins as they are shipped.
        sanitizer: thread, address, or empty for none.
        targets: of plugin_client/CMakeLists.txt.
    """
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    folder = plugins.with_name(f"{plugins.name}-{sanitizer}") if sanitizer else plugins
    commands = (
        ["cmake", "-S", str(SOURCE), "-B", str(folder), f"-DBACKLINE_SANITIZE={sanitizer}"],
        ["cmake", "--build", str(folder), "--parallel", "2", "--target", *targets],
    )
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "tests.lock"):
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return folder


def run(*command: str | Path, environment: Mapping[str, str] | None = None) -> None:
    """Runs a check; fails with its words where it fails, or where a sanitizer reports anything."""
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=CHECK_SECONDS,
        check=False,
        env={**os.environ, **SANITIZER_OPTIONS, **(environment or {})},
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout[-4000:]}{done.stderr[-8000:]}"
