"""Writes what `tomllib` reads: tables, lists, strings, numbers and truth values, in the order given."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any


def dumps(table: Mapping[str, Any]) -> str:
    """`table` as TOML text. Values that are None are left out.

    Raises:
        TypeError: TOML cannot hold a value.
    """
    return "\n".join(_table(table, ())).lstrip("\n") + "\n"


def _table(table: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    lines = [f"{_key(key)} = {_value(value)}" for key, value in table.items() if not _is_block(value)]
    for key, value in table.items():
        inner = (*path, key)
        name = ".".join(map(_key, inner))
        if isinstance(value, Mapping):
            lines += ["", f"[{name}]", *_table(value, inner)]
        elif _is_block(value) and value is not None:
            for entry in value:
                lines += ["", f"[[{name}]]", *_table(entry, inner)]
    return lines


def _is_block(value: Any) -> bool:
    """Whether `value` has lines of its own below the plain values (or none at all)."""
    tables = isinstance(value, Sequence) and len(value) > 0 and all(isinstance(entry, Mapping) for entry in value)
    return value is None or isinstance(value, Mapping) or tables


def _key(key: str) -> str:
    plain = key.replace("-", "").replace("_", "")
    return key if plain.isascii() and plain.isalnum() else _string(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {_value(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(_value, value)) + "]"
    raise TypeError(f"{value!r} is {type(value).__name__}: TOML holds strings, numbers, truth values, lists and tables")


def _string(text: str) -> str:
    """JSON's escapes are TOML's, but for DEL, which TOML wants escaped, and for pairs of surrogates."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
