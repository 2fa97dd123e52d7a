"""Variables of a TensorFlow checkpoint ("tensor bundle": model.index, model.data-00000-of-00001), without TensorFlow.

The index is a table of LevelDB's (its doc/table_format.md): blocks of keys that share prefixes, found through an index
block, found through a footer. Its values are the protocol buffers of tensorflow/core/protobuf/tensor_bundle.proto, of
which five fields are wanted. The data are the variables' bytes, one after another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
FOOTER = 48  # bytes
FLOAT = 1  # DT_FLOAT
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types

Fields = list[tuple[int, Any]]


def read_bundle(index: bytes, shard: Callable[[str], bytes]) -> dict[str, NDArray[np.float32]]:
    """Every variable of floats by name.

    Args:
        index: of the file that ends in .index.
        shard: gives the file that ends as it is told, such as "data-00000-of-00001".

    Raises:
        ValueError: it is damaged, or of a kind that TensorFlow does not write for checkpoints.
    """
    try:
        entries = dict(_table(index))
        shards = next((value for number, value in _fields(entries.pop(b"")) if number == 1), 1)
        data: dict[int, bytes] = {}
        found = {}
        for name, entry in entries.items():
            fields = _fields(entry)
            kind, at, size, place = (_last(fields, number) for number in (1, 4, 5, 3))
            if kind != FLOAT or any(number == 7 for number, _ in fields):  # a slice of a larger one
                continue
            if place not in data:
                data[place] = shard(f"data-{place:05d}-of-{shards:05d}")
            shape = [_last(_fields(size), 1) for number, size in _fields(_last(fields, 2, b"")) if number == 2]
            if size != 4 * math.prod(shape) or at + size > len(data[place]):
                raise ValueError(f"{name!r} does not fill its bytes")
            found[name.decode()] = np.frombuffer(data[place], "<f4", math.prod(shape), at).reshape(shape)
        return found
    except (IndexError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"it is damaged ({type(error).__name__})") from error


def _table(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Every key of a table, with its value."""
    footer = content[-FOOTER:]
    if len(footer) < FOOTER or not footer.endswith(MAGIC):
        raise ValueError("it is no index of a checkpoint")
    _, at = _handle(footer, 0)  # of what TensorFlow leaves empty
    (start, size), _ = _handle(footer, at)
    for _, value in _block(content, start, size):
        yield from _block(content, *_handle(value, 0)[0])


def _block(content: bytes, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    if start + size >= len(content) or content[start + size] != 0:  # what follows says how it is compressed
        raise ValueError("its index is cut off, or compressed: TensorFlow's are not")
    block = content[start : start + size]
    restarts = int.from_bytes(block[-4:], "little")
    end, at, key = size - 4 - 4 * restarts, 0, b""
    while at < end:
        shared, at = _varint(block, at)
        fresh, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + fresh]
        yield key, block[at + fresh : at + fresh + length]
        at += fresh + length


def _handle(content: bytes, at: int) -> tuple[tuple[int, int], int]:
    """Where a block starts and how long it is, and what follows."""
    start, at = _varint(content, at)
    size, at = _varint(content, at)
    return (start, size), at


def _fields(message: bytes) -> Fields:
    """A protocol buffer's fields by number, as they come; messages and texts as bytes."""
    found: Fields = []
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        value: Any
        if tag & 7 == VARINT:
            value, at = _varint(message, at)
        elif tag & 7 == BYTES:
            length, at = _varint(message, at)
            value, at = message[at : at + length], at + length
        else:
            length = {FIXED32: 4, FIXED64: 8}[tag & 7]
            value, at = message[at : at + length], at + length
        found.append((tag >> 3, value))
    return found


def _last(fields: Fields, number: int, default: Any = 0) -> Any:
    return next((value for found, value in reversed(fields) if found == number), default)


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte, and what follows."""
    value = shift = 0
    while shift < 64:
        value |= (content[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if content[at - 1] < 0x80:
            return value, at
    raise ValueError("a number of more than 64 bits")
