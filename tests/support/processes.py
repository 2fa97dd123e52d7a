"""Programs that a test has started."""

from __future__ import annotations

import subprocess

STOP_SECONDS = 30.0


def stop(process: subprocess.Popen[str]) -> None:
    """Asks it to end, and ends it where it does not."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
