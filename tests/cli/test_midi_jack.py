"""`backline live --midi-in` hears another program's port, through a MIDI system that is really there: JACK's."""

import queue
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from backline.cli.midi_clock import TICKS
from backline.cli.midi_in import VIRTUAL, MidiInputs, MidiPort, Received
from tests.support.processes import stop

pytestmark = [
    pytest.mark.hosts,
    pytest.mark.skipif(shutil.which("jackd") is None, reason="needs jackd2"),
]
rtmidi: Any = pytest.importorskip("rtmidi")
SERVER = "backline-midi-test"
PROBE, LAST_PROBE = [0xB0, 1, 0], [0xB0, 1, 1]


@pytest.fixture
def inputs(monkeypatch: pytest.MonkeyPatch) -> Iterator[MidiInputs]:
    """Of a JACK server of our own, which waits for its clients: otherwise it loses what a late one has sent."""
    monkeypatch.setenv("JACK_DEFAULT_SERVER", SERVER)
    monkeypatch.setenv("JACK_NO_START_SERVER", "1")
    command = ["jackd", "--no-realtime", "--sync", "--timeout", "5000", "--name", SERVER, "-d", "dummy", "-p", "128"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True) as jack:
        try:
            deadline = time.monotonic() + 10
            while rtmidi.API_UNIX_JACK not in (found := MidiInputs(rtmidi)).apis:
                assert time.monotonic() < deadline, found.problems
                time.sleep(0.1)
            yield found
            for _, client in found._clients:
                client.delete()
        finally:
            stop(jack)


def sender(name: str) -> Any:
    return rtmidi.MidiOut(rtmidi.API_UNIX_JACK, name)


def connected(port: Any, inbox: queue.Queue[Received]) -> None:
    """Returns when what `port` sends is heard: JACK's graph takes a new cable up some time after it was plugged in."""
    deadline = time.monotonic() + 10
    while True:
        port.send_message(PROBE)
        try:
            inbox.get(timeout=0.1)
            break
        except queue.Empty:
            assert time.monotonic() < deadline
    port.send_message(LAST_PROBE)
    while inbox.get(timeout=5).message != bytes(LAST_PROBE):
        pass


def test_a_clock_and_notes_come_whole_and_a_port_that_goes_is_found_again(inputs: MidiInputs) -> None:
    daw = sender("daw")
    daw.open_virtual_port("clock")
    inbox: queue.Queue[Received] = queue.Queue()
    port = MidiPort(inputs, "daw", inbox)
    port.open()
    connected(daw, inbox)
    sent = [[0xFA], *[[0xF8]] * (4 * TICKS), [0xF2, 5, 1], [0x93, 60, 100]]
    before = time.monotonic()
    for message in sent:
        daw.send_message(message)
        time.sleep(0.002)
    came = [inbox.get(timeout=5) for _ in sent]
    assert [each.message for each in came] == [bytes(message) for message in sent]
    assert all(each.port is port for each in came)
    moments = [before, *(each.seconds for each in came), time.monotonic()]
    assert moments == sorted(moments)

    daw.delete()
    assert port.look() is False
    assert port.look() is None
    daw = sender("daw")
    daw.open_virtual_port("clock")
    assert port.look() is True
    connected(daw, inbox)
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
    connected(keyboard, inbox)
    keyboard.send_message([0x90, 60, 100])
    assert inbox.get(timeout=5).message == bytes([0x90, 60, 100])
    assert port.look() is None
    port.close()
    keyboard.delete()
