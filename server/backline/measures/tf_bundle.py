"""Reads the tensors of a TensorFlow checkpoint (a "bundle") without TensorFlow. Nothing in it is executed.

The index is a LevelDB table, uncompressed: from the name of each tensor to a message that says its type, its shape and
where in the data file it lies, raw. Only what such files hold of the formats is read; all of it is checked.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

MAGIC = bytes.fromhex("57fb808b247547db")  # that ends a LevelDB table
FOOTER = 48  # bytes
TRAILER = 5  # bytes behind each block: its compression and a checksum
FLOAT = 1  # DT_FLOAT
MOST_ELEMENTS = 1 << 28

Field = tuple[int, int | bytes]  # number, and what it holds


class BadBundle(ValueError):
    """It is no such checkpoint, or is damaged."""


def read_bundle(index: bytes, data: bytes) -> dict[str, NDArray[np.float32]]:
    """All float32 tensors of a bundle with one data file, by their names.

    Raises:
        BadBundle: what does not fit.
    """
    try:
        return {
            name.decode(): tensor
            for name, entry in _table(index)
            if name and (tensor := _tensor(entry, data)) is not None
        }
    except (IndexError, struct.error, UnicodeDecodeError, ValueError) as error:
        raise BadBundle(f"no TensorFlow checkpoint: {error}") from error


def _tensor(entry: bytes, data: bytes) -> NDArray[np.float32] | None:
    """What a BundleEntryProto describes, if it is of floats."""
    fields = dict(_fields(entry))
    if fields.get(1) != FLOAT:
        return None
    dims = [dict(_fields(_bytes(dim))) for number, dim in _fields(_bytes(fields.get(2, b""))) if number == 2]
    shape = [_integer(dim.get(1, 0)) for dim in dims]
    offset, size = _integer(fields.get(4, 0)), _integer(fields.get(5, 0))
    if fields.get(3, 0) or not 0 <= size <= 4 * MOST_ELEMENTS or size != 4 * int(np.prod(shape, dtype=object)):
        raise BadBundle(f"a tensor of shape {shape} has {size} bytes")
    if offset + size > len(data):
        raise BadBundle("the data file is too short")
    return np.frombuffer(data, "<f4", size // 4, offset).reshape(shape)


def _table(index: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys of a LevelDB table with their values."""
    if len(index) < FOOTER or index[-len(MAGIC) :] != MAGIC:
        raise BadBundle("its index is no table of LevelDB")
    handles = index[-FOOTER:]
    _, at = _varint(handles, 0)  # of the metaindex, its place and its size
    _, at = _varint(handles, at)
    for _, handle in _block(index, handles[at:]):
        yield from _block(index, handle)


def _block(index: bytes, handle: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The entries of a block; each key says only how it differs from the one before."""
    offset, at = _varint(handle, 0)
    size, _ = _varint(handle, at)
    if offset + size + TRAILER > len(index) or index[offset + size]:
        raise BadBundle("a block of its index is compressed, or missing")
    block = index[offset : offset + size]
    (restarts,) = struct.unpack("<I", block[-4:])
    end, at, key = size - 4 - 4 * restarts, 0, b""
    while at < end:
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + own]
        yield key, block[at + own : at + own + length]
        at += own + length


def _fields(message: bytes) -> Iterator[Field]:
    """The fields of a protocol buffer message."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield number, value
        elif kind == 2:
            length, at = _varint(message, at)
            yield number, message[at : at + length]
            at += length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise BadBundle(f"a field of kind {kind}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise BadBundle("a number without an end")


def _integer(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise BadBundle("text in place of a number")
    return value


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise BadBundle("a number in place of a message")
    return value
