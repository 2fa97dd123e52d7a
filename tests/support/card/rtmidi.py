"""The package `rtmidi` in a process that a test starts with this folder on its path: a keyboard whose knob 21 turns.

It goes from one end to the other and back, every 40 ms a step of 16, as long as somebody listens.
"""

import itertools
import sys
import threading
import time

from tests.support.midi import RtMidi

KEYBOARD, KNOB = "Knobs:Knobs MIDI 1 24:0", 21

package = RtMidi(KEYBOARD, "DAW:clock 130:0")
sys.modules[__name__] = package  # type: ignore[assignment]


def turn() -> None:
    for place in itertools.cycle([*range(0, 128, 16), *range(127, 0, -16)]):
        time.sleep(0.04)
        package.send(KEYBOARD, [0xB0, KNOB, place])


threading.Thread(target=turn, daemon=True).start()
