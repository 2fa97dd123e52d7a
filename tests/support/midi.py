"""MIDI ports for tests: the part of the `rtmidi` package that `backline live` uses, as RtMidi behaves.

A port calls back on a thread of its own, a whole message at a time. A test plugs ports in and out, and plays on them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

ALSA, JACK = 2, 3
OWN = "own"  # where a virtual port is played on


class RtMidi:
    """The package, and what is plugged in: names in the order of their numbers. ALSA answers, JACK does not run."""

    class RtMidiError(Exception):
        pass

    def __init__(self, *ports: str) -> None:
        self.ports = list(ports)
        self.open: list[MidiIn] = []

    def get_compiled_api(self) -> list[int]:
        return [ALSA, JACK]

    def get_api_display_name(self, api: int) -> str:
        return {ALSA: "ALSA", JACK: "Jack"}[api]

    def MidiIn(self, api: int, name: str) -> MidiIn:
        if api == JACK:
            raise self.RtMidiError("JACK server not running?")
        return MidiIn(self)

    def send(self, port: str, *messages: Sequence[int]) -> None:
        """Plays on a port, as its thread does, and returns when all has been called back."""

        def play() -> None:
            for message in messages:
                for client in self.open:
                    if client.source == port and client.callback is not None:
                        client.callback((list(message), 0.0), None)

        thread = threading.Thread(target=play)
        thread.start()
        thread.join()


class MidiIn:
    """A client, with one input at most."""

    def __init__(self, package: RtMidi) -> None:
        self.package, self.source = package, ""
        self.callback: Callable[[tuple[list[int], float], Any], None] | None = None

    def get_ports(self) -> list[str]:
        return list(self.package.ports)

    def ignore_types(self, sysex: bool, timing: bool, active_sense: bool) -> None:
        assert not timing, "a clock would not be heard"

    def set_callback(self, callback: Callable[[tuple[list[int], float], Any], None]) -> None:
        self.callback = callback

    def cancel_callback(self) -> None:
        self.callback = None

    def open_port(self, number: int, name: str) -> None:
        if number >= len(self.package.ports):
            raise self.package.RtMidiError("invalid port")
        self.source = self.package.ports[number]
        self.package.open.append(self)

    def open_virtual_port(self, name: str) -> None:
        self.source = OWN
        self.package.open.append(self)

    def close_port(self) -> None:
        if self in self.package.open:
            self.package.open.remove(self)

    def delete(self) -> None:
        assert self not in self.package.open
