"""How long a sound card waits for `backline live`: the callback's time, while a model generates for the same command.

python bench/card_callback.py --pack default --seconds 20 --json card.json

A card of our own calls back every 256 samples at 48 kHz, on its own thread, as PortAudio does; the server is a process
of its own, as for `backline live`, or (--inside) in the same process, where it shares Python's lock with the callback.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from backline.cli.connection import connected
from backline.cli.console import console
from backline.cli.live import mix_heard
from backline.cli.paced import Host
from backline.cli.sound_card import Card, Played, play_on_card

RATE, BLOCK = 48_000, 256
P99_BAR = 0.5  # of a block's time


class PacedCard:
    """What `play_on_card` uses of the sounddevice package, with a card that keeps time."""

    class PortAudioError(Exception):
        pass

    class CallbackStop(Exception):
        pass

    def __init__(self) -> None:
        self.seconds: list[float] = []  # that each callback took
        self.late = 0  # callbacks that were over only after the next was due

    def OutputStream(self, *, callback: Callable[..., None], finished_callback: Callable[[], None], **_: Any) -> Any:
        self._callback, self._finished = callback, finished_callback
        self._thread = threading.Thread(target=self._run, daemon=True)
        return self

    def start(self) -> None:
        self._thread.start()

    def abort(self) -> None:
        self._thread.join()

    def close(self) -> None:
        pass

    def _run(self) -> None:
        speakers = np.zeros((BLOCK, 2), np.float32)
        due = time.monotonic()
        over = False
        while not over:
            due += BLOCK / RATE
            time.sleep(max(0.0, due - time.monotonic()))
            begun = time.perf_counter()
            try:
                self._callback(speakers, BLOCK, None, None)
            except self.CallbackStop:
                over = True
            self.seconds.append(time.perf_counter() - begun)
            self.late += time.monotonic() > due + BLOCK / RATE
        self._finished()


def measure(pack: str, seconds: float, inside: bool) -> dict[str, float]:
    """Plays noise for `seconds`; the callback's times in seconds."""
    package = PacedCard()
    card = Card(package, speakers=0, output_channels=2, rate=RATE)
    song = np.random.default_rng(0).normal(0.0, 0.1, (2, round(seconds * RATE))).astype(np.float32)
    played = Played()
    with (
        connected(None, [], "auto", apart=not inside) as client,
        client.open(pack, RATE, 2, block_size=BLOCK) as session,
    ):
        host, ports = Host(session, RATE, 2), [port.name for port in session.ready.ports]
        play_on_card(card, host, song, BLOCK, lambda blocks: mix_heard(blocks, ports, 0.5), played)
        host.finish()
    p50, p99, worst = np.percentile(package.seconds, [50, 99, 100])
    return {
        "p50": p50, "p99": p99, "worst": worst, "callbacks": played.blocks, "late_callbacks": package.late,
        "late_chunks": host.measured.totals.late_chunks,
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", default="default")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--inside", action="store_true", help="the server in this process, to see what that costs")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = measure(arguments.pack, arguments.seconds, arguments.inside)
    bar = P99_BAR * BLOCK / RATE
    console.print(
        f"callback: p50 {found['p50'] * 1e3:.2f} ms, p99 {found['p99'] * 1e3:.2f} ms (at most {bar * 1e3:.2f}), worst "
        f"{found['worst'] * 1e3:.2f} ms; {found['late_callbacks']} of {found['callbacks']} late"
    )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({**found, "p99_at_most": bar}))
    return 0 if found["p99"] <= bar else 1


if __name__ == "__main__":
    sys.exit(main())
