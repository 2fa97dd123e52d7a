"""MIDI inputs: which there are, and one that is found by its name and found again when it has been unplugged.

rtmidi itself is spoken to, without mido around it: its messages come whole, as they are wanted.
"""

from __future__ import annotations

import queue
import re
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from backline.cli.console import UserError

VIRTUAL = "virtual"  # asks for a port of our own
NAME = "backline"  # what other programs see
INBOX = 4_096  # messages that may wait: four seconds of a full cable
LIST = "see `backline live --list-midi`"


class Received(NamedTuple):
    """A whole message of a port, and the monotonic moment at which it came."""

    port: MidiPort
    message: bytes
    seconds: float


class Source(NamedTuple):
    """A place that sends."""

    api: int
    number: int  # among those of its API
    name: str

    @property
    def lasting_name(self) -> str:
        """Without ALSA's numbers of client and port, which are others when it is plugged in again."""
        return re.sub(r" \d+:\d+$", "", self.name)


class MidiInputs:
    """What this machine has of MIDI. One thread."""

    def __init__(self, rtmidi: Any) -> None:
        self.rtmidi = rtmidi
        self.problems: list[str] = []  # why an API of the system does not answer
        self._clients = []
        for api in rtmidi.get_compiled_api():
            try:
                self._clients.append((api, rtmidi.MidiIn(api, NAME)))
            except rtmidi.RtMidiError as error:
                self.problems.append(f"{rtmidi.get_api_display_name(api)}: {error}")

    @property
    def apis(self) -> list[int]:
        """Those that answer."""
        return [api for api, _ in self._clients]

    def sources(self) -> list[Source]:
        """All that send, in the order of their numbers."""
        found = []
        for api, client in self._clients:
            try:
                names = client.get_ports()
            except self.rtmidi.RtMidiError:  # its server has gone
                continue
            found += [Source(api, number, name) for number, name in enumerate(names) if not name.startswith(NAME)]
        return found

    def find(self, wanted: str) -> Source | None:
        """The source of this number, name, or part of a name; None: there is none.

        Raises:
            UserError: there are several.
        """
        sources = self.sources()
        if wanted.isdecimal():
            return sources[int(wanted)] if int(wanted) < len(sources) else None
        found = [source for source in sources if wanted.lower() in source.name.lower()]
        found = [source for source in found if wanted in (source.name, source.lasting_name)] or found
        if len(found) > 1:
            raise UserError(f"several MIDI ports are called {wanted!r}: use one of {listed(found)}")
        return found[0] if found else None


def listed(sources: Sequence[Source]) -> str:
    return ", ".join(repr(source.name) for source in sources)


class MidiPort:
    """One input. Its messages go into `inbox`; where that is full they are lost, and counted. One thread."""

    def __init__(self, inputs: MidiInputs, wanted: str, inbox: queue.Queue[Received]) -> None:
        """
        Args:
            wanted: a number, a name or a part of one, or `virtual`.

        Raises:
            UserError: there is no such port; the message says which there are.
        """
        self.lost = 0  # messages
        self.name = VIRTUAL
        self._inputs, self._inbox = inputs, inbox
        self._client: Any = None
        if not inputs.apis:
            raise UserError(f"this machine has no MIDI ({'; '.join(inputs.problems)}): do without --midi-in")
        self._source: Source | None = None
        if wanted == VIRTUAL:
            return
        source = inputs.find(wanted)
        if source is None:
            there = listed(inputs.sources()) or "nothing that sends"
            raise UserError(f"there is no MIDI port {wanted!r}, but {there}: use part of a name, or {VIRTUAL}")
        self.name, self._source = source.lasting_name, source

    def open(self) -> None:
        """Lets its messages come.

        Raises:
            UserError: it does not open.
        """
        self._open(self._inputs.apis[0] if self._source is None else self._source.api, self._source)

    @property
    def is_open(self) -> bool:
        return self._client is not None

    def look(self) -> bool | None:
        """False: it has just been unplugged. True: it is there again. None: all is as it was."""
        if self.name == VIRTUAL:
            return None
        there = next((each for each in self._inputs.sources() if each.lasting_name == self.name), None)
        if self.is_open and there is None:
            self.close()
            return False
        if not self.is_open and there is not None:
            try:
                self._open(there.api, there)
            except UserError:  # it is not ready yet
                return None
            return True
        return None

    def close(self) -> None:
        """Nothing comes any more; twice does no harm."""
        client, self._client = self._client, None
        if client is not None:
            client.cancel_callback()
            client.close_port()
            client.delete()

    def _open(self, api: int, source: Source | None) -> None:
        rtmidi = self._inputs.rtmidi
        try:
            client = rtmidi.MidiIn(api, NAME)
            client.ignore_types(sysex=True, timing=False, active_sense=True)
            client.set_callback(self._receive)
            if source is None:
                client.open_virtual_port("in")
            else:
                client.open_port(source.number, "in")
        except (rtmidi.RtMidiError, NotImplementedError) as error:
            raise UserError(f"the MIDI port {self.name!r} does not open ({error}): {LIST}") from error
        self._client = client

    def _receive(self, event: tuple[Sequence[int], float], _: object = None) -> None:
        """rtmidi's own thread."""
        try:
            self._inbox.put_nowait(Received(self, bytes(event[0]), time.monotonic()))
        except queue.Full:
            self.lost += 1


def rtmidi_package() -> Any:
    """The rtmidi package.

    Raises:
        UserError: it is not installed.
    """
    try:
        import rtmidi
    except ImportError as error:
        raise UserError("MIDI needs python-rtmidi: pip install 'backline[midi]'") from error
    return rtmidi
