"""The package `sounddevice` in a process that a test starts with this folder on its path: a card that keeps time.

It hears a constant of 0.25 for a minute. CARD_FAILS in the environment names what goes wrong: "open", or "unplugged".
"""

import os
import sys
import time

import numpy as np

from tests.support.sound_card import SoundDevice

START = time.monotonic()


def paced(number: int) -> None:
    time.sleep(max(0.0, START + (number + 1) * 256 / 48_000 - time.monotonic()))


fails = os.environ.get("CARD_FAILS", "")
sys.modules[__name__] = SoundDevice(  # type: ignore[assignment]
    captured=np.full((2, 60 * 48_000), 0.25, np.float32),
    clock=paced,
    fails={"open": SoundDevice.PortAudioError("busy")} if fails == "open" else {},
    unplugged=(int(fails.partition(" ")[2] or 0), "finished") if fails.startswith("unplugged") else None,
)
