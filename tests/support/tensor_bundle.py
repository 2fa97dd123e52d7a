"""Writes what TensorFlow writes of variables: an index that is a table of LevelDB's, and their bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

MAGIC = 0xDB4775248B80FB57
TYPES = {np.dtype(np.float32): 1, np.dtype(np.int64): 9}
RESTART = 16  # every how many keys one is written whole
KEYS = 40  # of a block


def write_bundle(variables: Mapping[str, np.ndarray]) -> tuple[bytes, bytes]:
    """(index, data)"""
    entries, data = [(b"", _field(1, 1) + _field(3, _field(1, 1)))], b""
    for name, array in sorted(variables.items()):
        content = np.ascontiguousarray(array).tobytes()
        shape = b"".join(_field(2, _field(1, size)) for size in array.shape)
        entry = _field(1, TYPES[array.dtype]) + _field(2, shape)
        entry += (_field(4, len(data)) if data else b"") + _field(5, len(content)) + _varint(6 << 3 | 5) + b"\0\0\0\0"
        entries.append((name.encode(), entry))
        data += content
    return _table(entries), data


def _table(entries: Sequence[tuple[bytes, bytes]]) -> bytes:
    table, index = b"", []
    for start in range(0, len(entries), KEYS):
        part = entries[start : start + KEYS]
        handle, table = _append(table, _block(part))
        index.append((part[-1][0] + b"~", handle))
    meta, table = _append(table, _block([]))
    handle, table = _append(table, _block(index))
    return table + (meta + handle).ljust(40, b"\0") + MAGIC.to_bytes(8, "little")


def _append(table: bytes, block: bytes) -> tuple[bytes, bytes]:
    """The block's handle, and the table with it: not compressed, and without the checksum that nobody looks at."""
    return _varint(len(table)) + _varint(len(block)), table + block + b"\0" + b"\0\0\0\0"


def _block(entries: Sequence[tuple[bytes, bytes]]) -> bytes:
    block, restarts, before = b"", [0], b""
    for number, (key, value) in enumerate(entries):
        shared = 0
        if number % RESTART:
            while shared < min(len(key), len(before)) and key[shared] == before[shared]:
                shared += 1
        elif number:
            restarts.append(len(block))
        block += _varint(shared) + _varint(len(key) - shared) + _varint(len(value)) + key[shared:] + value
        before = key
    return block + b"".join(at.to_bytes(4, "little") for at in [*restarts, len(restarts)])


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])
