"""The programs of other people that tests show the plugin to."""

import os
import subprocess
from pathlib import Path

import pytest

SCAN_SECONDS = 60


def found(pattern: str, package: str) -> Path:
    """A program of a Debian package, under /usr; where it is not installed the test is skipped."""
    paths = sorted(Path("/usr").glob(pattern))
    if not paths:
        pytest.skip(f"{pattern.split('/')[-1]} is not installed (Debian: sudo apt install {package})")
    return paths[0]


def at_home(home: Path) -> dict[str, str]:
    """The environment of somebody else, whose settings and caches are in this folder."""
    return {**{name: value for name, value in os.environ.items() if not name.startswith("XDG_")}, "HOME": str(home)}


def scan_for_ardour(bundle: Path, home: Path) -> str:
    """What Ardour's scanner finds in the VST3 bundle; whoever starts Ardour at this home then has the plugin."""
    scanner = found("lib/ardour*/ardour-vst3-scanner", "ardour")
    done = subprocess.run(
        [scanner, "--force", "--verbose", bundle],
        env={**at_home(home), "LD_LIBRARY_PATH": str(scanner.parent)},
        capture_output=True,
        text=True,
        timeout=SCAN_SECONDS,
        check=True,
    )
    return done.stdout
