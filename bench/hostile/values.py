"""What a stranger puts into a field: any message of the contract with values at and beyond their limits."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from backline_protos.v1 import backline_pb2 as pb

DOUBLES = (
    0.0, -0.0, -1.0, 1.0, 0.5, 2.0**31, 2.0**53 - 1, 2.0**53, 2.0**53 + 2, 2.0**63, 1e7, -1e7, 1.1e7, 1e15, -1e15,
    1e300, 1e308, -1e308, 1.7976931348623157e308, 5e-324, -5e-324, 2.2e-308, 1e-30, math.nan, math.inf, -math.inf,
)  # fmt: skip
INTEGERS = (
    0, 1, -1, 2, 3, 63, 64, 65, 127, 255, 7_999, 8_000, 48_000, 65_535, 65_536, 192_000, 192_001, 2**31 - 1,
    2**31, 2**32 - 1, 2**32, 2**53 - 1, 2**53, 2**53 + 1, 2**62, 2**63 - 1, -(2**31), -(2**53) - 1, -(2**63), 2**64 - 1,
)  # fmt: skip
NOT_UTF8 = b"\xff\xfe\x80\xc0\xaf\xed\xa0\x80"
STAND_IN = "\x01UTF8?\x02!"  # as long as NOT_UTF8, which takes its place in the bytes
STRINGS = (
    "", " ", "\0", "\n", "../../evil", "/etc/passwd", "..",
    "%s%n{0}", "ünïcödé 🎻", "\u202egnp", "a" * 300, "é" * 5_000,
    "x" * 9_000, "x" * 200_000, STAND_IN, "gain", "guidance", "temperature", "top_k", "key", "gate", "'; --",
)  # fmt: skip
SAMPLES = (0.0, 1.0, -1.0, 1e-45, 1e-38, 1e10, 3.4e38, -3.4e38, math.nan, math.inf, -math.inf)
RANGES = {
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
}
CLIENT_MESSAGES = {field.name: field for field in pb.ClientMessage.DESCRIPTOR.fields}


def double(random: Random) -> float:
    return random.choice(DOUBLES) if random.random() < 0.8 else random.uniform(-1e6, 1e6)


def integer(random: Random, low: int, high: int) -> int:
    """One that a field from `low` to `high` can hold."""
    if random.random() < 0.2:
        return random.randint(low, high)
    return random.choice([value for value in INTEGERS if low <= value <= high])


def text(random: Random) -> str:
    return random.choice(STRINGS)


def garbage(random: Random, longest: int = 600) -> bytes:
    return random.randbytes(random.choice((0, 1, 2, 3, 8, 17, longest)))


def midi(random: Random) -> bytes:
    """Channel messages, whole and otherwise, from none to many."""
    note = bytes((0x90 | random.randrange(16), random.randrange(128), random.randrange(128)))
    count = random.choice((1, 1, 1, 3, 1_000, 100_000))
    return random.choice((note * count, garbage(random), note[:2], b"\xf8", b"\xf0" + bytes(20) + b"\xf7", b""))


def pcm(random: Random, channels: int, samples: int) -> bytes:
    """Interleaved float32: a tone, noise, or samples that no recording has."""
    values = np.random.default_rng(random.getrandbits(32)).uniform(-0.3, 0.3, (samples, channels)).astype("<f4")
    if random.random() < 0.3 and values.size:
        odd = random.choice(SAMPLES)
        if random.random() < 0.5:
            values[:] = odd
        else:
            values[random.randrange(samples)] = odd
    return values.tobytes()


def serialized(message: Message) -> bytes:
    """On the wire, with bytes that are no UTF-8 where a string stands for them."""
    return message.SerializeToString().replace(STAND_IN.encode(), NOT_UTF8)


def odd(random: Random, message: Message, share: float = 0.5) -> Message:
    """`message` with about `share` of its fields changed to odd values, one at least."""
    fields = list(message.DESCRIPTOR.fields)
    chosen = [field for field in fields if random.random() < share] or (fields[:1] and [random.choice(fields)])
    for field in chosen:
        _set(random, message, field)
    return message


def _set(random: Random, message: Message, field: Any) -> None:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        if field.message_type.GetOptions().map_entry:
            entries, kind = getattr(message, field.name), field.message_type.fields_by_name["value"]
            for _ in range(random.choice((1, 1, 2, 300))):
                entries[text(random)] = _value(random, kind)
        elif field.is_repeated:
            for _ in range(random.choice((1, 1, 2, 70))):
                odd(random, getattr(message, field.name).add())
        else:
            odd(random, getattr(message, field.name))
    elif field.is_repeated:
        getattr(message, field.name).extend(_value(random, field) for _ in range(random.choice((1, 2, 64, 5_000))))
    else:
        setattr(message, field.name, _value(random, field))


def _value(random: Random, field: FieldDescriptor) -> Any:
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return double(random)
    if field.type == FieldDescriptor.TYPE_STRING:
        return text(random)
    if field.type == FieldDescriptor.TYPE_BYTES:
        if field.name == "pcm":
            return pcm(random, random.choice((1, 2, 3, 64)), random.choice((0, 1, 512, 513, 70_000))) + garbage(
                random, 3
            )
        return midi(random)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return random.random() < 0.5
    if field.type == FieldDescriptor.TYPE_ENUM:
        return random.choice((0, 1, 2, 3, 99, -1, 2**31 - 1))
    return integer(random, *RANGES[field.type])
