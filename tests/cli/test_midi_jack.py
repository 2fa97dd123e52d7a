"""`backline live --midi-in` hears another program's port, through a MIDI system that is really there: JACK's."""

import queue
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from backline.cli.midi_clock import TICKS, MidiClock
from backline.cli.midi_in import VIRTUAL, MidiInputs, MidiPort, Received

pytestmark = [
    pytest.mark.hosts,
    pytest.mark.skipif(shutil.which("jackd") is None, reason="needs jackd2"),
]
rtmidi: Any = pytest.importorskip("rtmidi")
SERVER = "backline-midi-test"


@pytest.fixture
def inputs(monkeypatch: pytest.MonkeyPatch) -> Iterator[MidiInputs]:
    """Of a JACK server of our own."""
    monkeypatch.setenv("JACK_DEFAULT_SERVER", SERVER)
    monkeypatch.setenv("JACK_NO_START_SERVER", "1")
    command = ["jackd", "--no-realtime", "--name", SERVER, "-d", "dummy", "-p", "128"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as jack:
        try:
            deadline = time.monotonic() + 10
            while rtmidi.API_UNIX_JACK not in (found := MidiInputs(rtmidi)).apis:
                assert time.monotonic() < deadline, found.problems
                time.sleep(0.1)
            yield found
            for _, client in found._clients:
                client.delete()
        finally:
            jack.terminate()


def sender(name: str) -> Any:
    return rtmidi.MidiOut(rtmidi.API_UNIX_JACK, name)


def test_a_clock_and_notes_come_whole_and_a_port_that_goes_is_found_again(inputs: MidiInputs) -> None:
    daw = sender("daw")
    daw.open_virtual_port("clock")
    inbox: queue.Queue[Received] = queue.Queue()
    port = MidiPort(inputs, "daw", inbox)
    port.open()
    daw.send_message([0xFA])
    start = time.monotonic()
    for number in range(2 * TICKS):
        time.sleep(max(0.0, start + number * 0.02 - time.monotonic()))
        daw.send_message([0xF8])
    daw.send_message([0x93, 60, 100])
    clock = MidiClock()
    while (received := inbox.get(timeout=5)).message[0] >= 0xF0:
        clock.hear(received.message, received.seconds)
    assert received.message == bytes([0x93, 60, 100])
    beat = clock.beat
    assert beat is not None
    assert beat.tempo == pytest.approx(125.0, rel=0.02)  # two beats of a busy machine's sleep
    assert beat.quarters == pytest.approx(2 - 1 / TICKS)

    daw.close_port()
    assert port.look() is False
    assert port.look() is None
    daw.open_virtual_port("clock")
    assert port.look() is True
    daw.send_message([0x83, 60, 0])
    assert inbox.get(timeout=5).message == bytes([0x83, 60, 0])
    port.close()
    daw.delete()


def test_others_can_play_on_a_port_of_our_own(inputs: MidiInputs) -> None:
    inbox: queue.Queue[Received] = queue.Queue()
    port = MidiPort(inputs, VIRTUAL, inbox)
    port._inputs._clients = [each for each in inputs._clients if each[0] == rtmidi.API_UNIX_JACK]
    port.open()
    keyboard = sender("keyboard")
    (number,) = (number for number, name in enumerate(keyboard.get_ports()) if name.endswith(":in"))
    keyboard.open_port(number)
    keyboard.send_message([0x90, 60, 100])
    assert inbox.get(timeout=5).message == bytes([0x90, 60, 100])
    assert port.look() is None
    port.close()
    keyboard.delete()
