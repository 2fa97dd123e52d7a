"""An OSC controller as others write them, on python-osc alone, and packets that no controller would send."""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Callable, Iterable
from typing import Any

from pythonosc.osc_bundle import OscBundle
from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import OscMessageBuilder
from pythonosc.udp_client import SimpleUDPClient

PATIENCE_SECONDS = 20.0

Said = tuple[str, list[Any]]


class Controller(SimpleUDPClient):
    """Sends, and hears what comes back to its own port."""

    def __init__(self, port: int) -> None:
        super().__init__("127.0.0.1", port)
        self.tags: dict[str, str] = {}  # type tags of the newest message from each address

    @property
    def port(self) -> int:
        return int(self._sock.getsockname()[1])

    def hear(self, seconds: float) -> list[Said]:
        """The messages of the next packet; none where none comes in time."""
        packet = self.receive(max(seconds, 1e-3))
        return [] if not packet else [self._said(message) for message in unpacked(packet)]

    def ask(self, address: str, *values: Any, answer: str | None = None) -> list[Any]:
        """Sends, and waits for what comes from `answer`, which is the address itself as a rule."""
        self.send_message(address, values)
        return self.await_(answer or address)

    def await_(self, address: str, wanted: Callable[[list[Any]], bool] = lambda values: True) -> list[Any]:
        """The next values of an address that are as they are wanted; fails where an error comes instead."""
        end = time.monotonic() + PATIENCE_SECONDS
        while (left := end - time.monotonic()) > 0:
            for said, values in self.hear(left):
                if said == address and wanted(values):
                    return values
                assert said != "/error" or address == "/error", values
        raise AssertionError(f"{address} has not answered so")

    def ask_until(self, address: str, wanted: Callable[[list[Any]], bool]) -> list[Any]:
        """Asks again and again, until the answer is as it is wanted."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not wanted(values := self.ask(address)):
            assert time.monotonic() < end, f"{address} stays {values}"
            time.sleep(0.01)
        return values

    def name_of(self, session: str) -> str:
        """The short name of the session with this id, as soon as it has one."""
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            self.send_message("/session/*/id", [])
            self.send_message("/server/device", [])
            while (heard := self.hear(1.0)) and heard[0][0] != "/server/device":
                for address, values in heard:
                    if values == [session]:
                        self.await_("/server/device")
                        return address.split("/")[2]
        raise AssertionError(f"session {session} is not seen")

    def _said(self, message: OscMessage) -> Said:
        tags = message.dgram[message.dgram.index(b",") :] if b"," in message.dgram else b","
        self.tags[message.address] = tags.partition(b"\0")[0][1:].decode()
        return message.address, list(message.params)


def unpacked(packet: bytes) -> list[OscMessage]:
    """The messages of a packet, by python-osc's own reading of bundles."""
    return list(OscBundle(packet)) if OscBundle.dgram_is_bundle(packet) else [OscMessage(packet)]


def message(address: str, *values: Any) -> bytes:
    builder = OscMessageBuilder(address)
    for value in values:
        builder.add_arg(value)
    return builder.build().dgram


def bundle(time_tag: int, *packets: bytes) -> bytes:
    parts = (struct.pack(">i", len(packet)) + packet for packet in packets)
    return b"#bundle\0" + struct.pack(">Q", time_tag) + b"".join(parts)


def tag_at(seconds: float) -> int:
    """The time tag of a moment, in seconds since 1970."""
    return int((seconds + 2_208_988_800) * 2**32)


def fuzzed(count: int, seed: int, addresses: Iterable[str]) -> Iterable[bytes]:
    """Packets around these addresses: whole, cut, with wrong types and sizes, huge, bundles in bundles, and noise."""
    draw = random.Random(seed)
    known = list(addresses)
    words: list[Any] = [
        0,
        1,
        -1,
        2**31 - 1,
        0.5,
        float("nan"),
        float("inf"),
        -1e30,
        "",
        "x" * 300,
        "/*",
        True,
        False,
        None,
    ]
    words += [b"blob", "gain", "*", [1, [2.0]], "\u00e9"]

    def whole() -> bytes:
        address = draw.choice(known)
        if draw.random() < 0.2:
            at = draw.randrange(1, len(address))
            address = address[:at] + draw.choice(["*", "?", "[", "]", "{a,b}", "{", "#", " ", "//"]) + address[at + 1 :]
        return message(address, *(draw.choice(words) for _ in range(draw.randrange(4))))

    def nested(depth: int) -> bytes:
        inner = [nested(depth - 1) if depth and draw.random() < 0.7 else whole() for _ in range(draw.randrange(1, 4))]
        return bundle(draw.choice([1, 0, 2**64 - 1, draw.getrandbits(64)]), *inner)

    for _ in range(count):
        packet = whole()
        match draw.randrange(9):
            case 0:
                packet = packet[: draw.randrange(len(packet))]
            case 1:
                flipped = bytearray(packet)
                for _ in range(draw.randrange(1, 6)):
                    flipped[draw.randrange(len(flipped))] = draw.randrange(256)
                packet = bytes(flipped)
            case 2:
                packet = draw.randbytes(draw.randrange(200))
            case 3:
                packet = nested(draw.randrange(12))
            case 4:
                packet = bundle(1, packet) + struct.pack(">i", draw.choice([-4, -1, 0, 3, 2**31 - 1])) + packet
            case 5:
                packet = packet + draw.randbytes(draw.choice([4, 20_000, 60_000]))
            case 6:
                for _ in range(draw.choice([2, 40, 600])):
                    packet = bundle(1, packet)
            case 7:
                tags = "".join(draw.choice("ihfdsbTFNIrmt[]Sc") for _ in range(draw.randrange(40)))
                packet = message(draw.choice(known))[:-4] + b"," + tags.encode() + b"\0" * (4 - (len(tags) + 1) % 4)
        yield packet[:65_000]
