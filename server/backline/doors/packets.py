"""OSC packets from bytes and to bytes, and how a stream of bytes (TCP) is cut into them.

Messages are python-osc's; bundles are walked here, because python-osc follows their sizes wherever they lead: a
negative one for ever.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pythonosc import slip
from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import OscMessageBuilder
from pythonosc.parsing import ntp, osc_types

Value: TypeAlias = "int | float | str | bool | None"

PACKET_BYTES = 16_384  # of a packet that is read
PACKET_MESSAGES = 256  # in one bundle, those within it included
DEPTH = 8  # of bundles in bundles
DATAGRAM_BYTES = 1_400  # of what is sent in one: as much as an Ethernet carries whole
BUNDLE = b"#bundle\0"
IMMEDIATELY = ntp.IMMEDIATELY
TYPES = frozenset("ihfdsTFN")  # of arguments that some address takes
END = slip.END[0]


class BadPacket(ValueError):
    """Bytes that are no OSC, or too much of it; the message says which."""


@dataclass(frozen=True)
class Message:
    """One message of a packet."""

    address: str  # an address, or a pattern of some
    arguments: tuple[Value, ...]
    time: float | None = None  # seconds since 1970 at which its bundle wants it to happen; None: at once


def read(packet: bytes) -> list[Message]:
    """The messages of a packet, in their order.

    Raises:
        BadPacket: it is none, or too long, or too deep.
    """
    if len(packet) > PACKET_BYTES:
        raise BadPacket(f"a packet of {len(packet)} bytes: send at most {PACKET_BYTES}")
    found: list[Message] = []
    try:
        _read(packet, None, DEPTH, found)
    except BadPacket:
        raise
    except Exception as error:  # python-osc lets more through than its own errors
        raise BadPacket(f"bytes that are no OSC ({type(error).__name__}: {error})") from error
    return found


def _read(packet: bytes, time: float | None, depth: int, found: list[Message]) -> None:
    if not packet.startswith(BUNDLE):
        found.append(_message(packet, time))
        if len(found) > PACKET_MESSAGES:
            raise BadPacket(f"more than {PACKET_MESSAGES} messages in a packet: send several packets")
        return
    if not depth:
        raise BadPacket(f"bundles in bundles, more than {DEPTH} deep: send flatter ones")
    tag = packet[8:16]
    if len(tag) < 8:
        raise BadPacket("a bundle that ends within its time tag")
    time, at = None if tag == IMMEDIATELY else ntp.ntp_to_system_time(tag), 16
    while at < len(packet):
        if len(packet) - at < 4:
            raise BadPacket("a bundle that ends within the size of an element")
        (size,) = struct.unpack_from(">i", packet, at)
        at += 4
        if not 0 < size <= len(packet) - at or size % 4:
            raise BadPacket(f"a bundle with an element of {size} bytes, where {len(packet) - at} are left")
        _read(packet[at : at + size], time, depth - 1, found)
        at += size


def _message(packet: bytes, time: float | None) -> Message:
    if not packet.startswith(b"/"):
        raise BadPacket("bytes that begin neither with / nor with #bundle")
    address, at = osc_types.get_string(packet, 0)
    if not address.isprintable():
        raise BadPacket(f"the address {address[:60]!a}: use letters, digits and punctuation")
    if at < len(packet):
        tags, _ = osc_types.get_string(packet, at)
        if unknown := set(tags[1:]) - TYPES:
            raise BadPacket(f"an argument of type {min(unknown)!a}: no address takes other types than i h f d s T F N")
    return Message(address, tuple(OscMessage(packet).params), time)


def write(address: str, values: Sequence[Value], types: str) -> bytes:
    """A message; `types` has a type tag for each value."""
    builder = OscMessageBuilder(address)
    for value, tag in zip(values, types, strict=True):
        builder.add_arg(value, "F" if tag == "T" and not value else tag)
    return builder.build().dgram


def bundled(messages: Iterable[bytes]) -> Iterator[bytes]:
    """The messages in their order, as few packets as a network carries whole: bundles, or single messages."""
    waiting: list[bytes] = []
    size = 16
    for message in messages:
        if waiting and size + 4 + len(message) > DATAGRAM_BYTES:
            yield _bundle(waiting)
            waiting, size = [], 16
        waiting.append(message)
        size += 4 + len(message)
    if waiting:
        yield _bundle(waiting)


def _bundle(messages: list[bytes]) -> bytes:
    if len(messages) == 1:
        return messages[0]
    return b"".join([BUNDLE, IMMEDIATELY, *(struct.pack(">i", len(message)) + message for message in messages)])


class Slip:
    """Packets between END bytes (RFC 1055), as OSC 1.1 has them in a stream."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The packets that are whole now.

        Raises:
            BadPacket: more bytes than a packet may have, and no end.
        """
        *whole, self._rest = (self._rest + data).split(slip.END)
        if len(self._rest) > 2 * PACKET_BYTES:
            raise BadPacket(f"more than {2 * PACKET_BYTES} bytes without an end: send packets of {PACKET_BYTES}")
        try:
            return [slip.decode(packet) for packet in whole if packet]
        except slip.ProtocolError as error:
            raise BadPacket("a SLIP escape that escapes nothing") from error

    def frame(self, packet: bytes) -> bytes:
        """A packet as the stream carries it."""
        return slip.encode(packet)


class SizePrefixed:
    """Packets behind their size in four bytes, as OSC 1.0 has them in a stream."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The packets that are whole now.

        Raises:
            BadPacket: a size that no packet may have.
        """
        self._rest += data
        packets = []
        while len(self._rest) >= 4:
            (size,) = struct.unpack_from(">i", self._rest)
            if not 0 < size <= PACKET_BYTES:
                raise BadPacket(f"a packet of {size} bytes: send 1 to {PACKET_BYTES}")
            if len(self._rest) < 4 + size:
                break
            packets.append(self._rest[4 : 4 + size])
            self._rest = self._rest[4 + size :]
        return packets

    def frame(self, packet: bytes) -> bytes:
        """A packet as the stream carries it."""
        return struct.pack(">i", len(packet)) + packet


Framing: TypeAlias = "Slip | SizePrefixed"


def framing_of(first: int) -> Framing:
    """How a stream with this first byte is cut: sizes below 16 MiB begin with a zero, nothing in SLIP does."""
    return SizePrefixed() if first == 0 else Slip()
