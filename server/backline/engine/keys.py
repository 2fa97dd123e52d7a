"""Which keys sound, as MIDI tells it, so that whoever begins to hear later can be told."""

from __future__ import annotations

from backline.models.stream import Notes

NOTE_OFF, NOTE_ON, CONTROLLER = 0x80, 0x90, 0xB0
PEDAL, SOUND_OFF, RESET, NOTES_OFF = 64, 120, 121, 123  # controllers
DOWN = 64  # of the pedal, from which on it holds


class Keys:
    """Of all channels, by the rules of the bands that hear them."""

    def __init__(self) -> None:
        self._struck: dict[tuple[int, int], int] = {}  # velocity of each channel and pitch that sounds
        self._down: set[tuple[int, int]] = set()  # those; what else sounds the pedal holds
        self._pedals: set[int] = set()  # channels on which it is down

    def hear(self, data: bytes) -> None:
        """Takes in whole channel messages."""
        for message in Notes(0, data).messages():
            self._take(message)

    def told(self) -> list[bytes]:
        """Messages, to be sent in this order, after which the same sounds; none where nothing does."""
        pedals = b"".join(bytes([CONTROLLER | channel, PEDAL, 127]) for channel in sorted(self._pedals))
        struck = b"".join(bytes([NOTE_ON | channel, pitch, how]) for (channel, pitch), how in self._struck.items())
        held = [each for each in self._struck if each not in self._down]
        let_go = b"".join(bytes([NOTE_OFF | channel, pitch, 0]) for channel, pitch in held)
        return [data for data in (pedals, struck, let_go) if data]

    def _take(self, message: bytes) -> None:
        kind, channel = message[0] & 0xF0, message[0] & 0x0F
        if kind == NOTE_ON and message[2]:
            self._struck[channel, message[1]] = message[2]
            self._down.add((channel, message[1]))
        elif kind in (NOTE_ON, NOTE_OFF):
            self._down.discard((channel, message[1]))
        elif kind == CONTROLLER and message[1] == PEDAL and message[2] >= DOWN:
            self._pedals.add(channel)
        elif kind == CONTROLLER and message[1] in (PEDAL, SOUND_OFF, RESET, NOTES_OFF):
            self._pedals.discard(channel)
            if message[1] in (SOUND_OFF, NOTES_OFF):
                self._down = {each for each in self._down if each[0] != channel}
        self._struck = {
            each: how for each, how in self._struck.items() if each in self._down or each[0] in self._pedals
        }
