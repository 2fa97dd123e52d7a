"""Plays through the console's "Try it" in a headless Chromium, and says what was heard, and when.

python -m bench.console --minutes 1 --buffer 80 --json console.json

The browser's microphone is noise, and the passthrough pack gives it back: the latency is what cross-correlation of what
goes in and what comes out finds, beside the one that the page shows. Exits with 1 where anything dropped out.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from rich.console import Console
from rich.table import Table

from tests.support.browser import PROGRAM, WHY_NOT, Browser
from tests.support.console_server import console_server
from tests.support.ear import Ear, Played, try_it

RATE = 48_000


def measure(pack: str, seconds: float, buffer_ms: int) -> Played:
    """Plays on a server and in a browser of its own."""
    with tempfile.TemporaryDirectory() as folder, console_server(load=[pack]) as server:
        microphone = Path(folder) / "noise.wav"
        noise = np.random.default_rng(0).uniform(-0.3, 0.3, 10 * RATE)
        soundfile.write(microphone, noise, RATE, subtype="PCM_16")
        with Browser(microphone) as page:
            played = try_it(page, Ear(page), server.url, pack, seconds=seconds, buffer_ms=buffer_ms)
            assert page.errors == [], page.errors
            return played


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--buffer", type=int, default=80, help="the page's playback buffer, in ms")
    parser.add_argument("--json", type=Path, help="where the figures go")
    arguments = parser.parse_args()
    if PROGRAM is None:
        print(WHY_NOT, file=sys.stderr)
        return 2
    played = measure("passthrough", 60 * arguments.minutes, arguments.buffer)
    found = {
        "seconds": played.seconds,
        "latency shown (ms)": 1_000 * float(played.shown[-1]),
        "latency found, median (ms)": 1_000 * float(np.median(played.lags)),
        "off by at most (ms)": 1_000 * float(np.abs(played.lags - played.shown).max()),
        "likeness, least": float(played.likeness.min()),
        "dropouts": played.dropouts,
        "silent instead": played.missing,
        "late at the server": played.late,
    }
    table = Table("Try it", "")
    for name, value in found.items():
        table.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
    Console().print(table)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=2))
    return 1 if played.dropouts else 0


if __name__ == "__main__":
    sys.exit(main())
