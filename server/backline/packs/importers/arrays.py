"""Arrays out of a pickle that nobody vouches for.

A pickle calls what it names, and numpy's own types believe any state that a pickle gives them. So numpy is not asked:
the four names that a pickled array needs stand here for plain records, made anew for every file, and nothing else has
a name. An array is made of a record once all of it has been checked.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backline.models.errors import PackError

KINDS = {"f2": np.float16, "f4": np.float32, "f8": np.float64}
MOST_DIMENSIONS = 8


def read_arrays(content: bytes, file: str) -> dict[str, NDArray[np.floating[Any]]]:
    """The arrays by name of a pickled dictionary, or of one in a file of torch's (zip, data.pkl).

    Raises:
        PackError: it holds anything else, or is damaged. No code that it names is run.
    """
    try:
        if content[:2] == b"PK":
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                (name,) = (name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl")
                content = archive.read(name)
        found = _Unpickler(io.BytesIO(content), encoding="latin1").load()
        if not isinstance(found, Mapping):
            raise ValueError("no dictionary of arrays")
        return {_name(name): _array(entry) for name, entry in found.items()}
    except pickle.UnpicklingError as error:
        raise PackError([f"it is not read: {error}"], file) from error
    except Exception as error:  # whatever damage makes pickle or zipfile stumble over
        raise PackError([f"it holds no arrays by name ({error}): give a checkpoint of arrays alone"], file) from error


class _Unpickler(pickle.Unpickler):
    """Knows four names, and what they stand for is nobody else's: a pickle may set attributes of what it names."""

    def __init__(self, content: io.BytesIO, encoding: str) -> None:
        super().__init__(content, encoding=encoding)

        class Record:
            def __init__(self, *given: Any) -> None:
                self.given, self.state = given, ()

            def __setstate__(self, state: Any) -> None:
                self.state = state

        def encode(text: str, encoding: str) -> bytes:
            return text.encode("latin1")  # as which protocols before 3 keep bytes

        class Array(Record):
            pass

        class Type(Record):
            pass

        self._known: dict[str, Any] = {
            "ndarray": Array,
            "dtype": Type,
            "_reconstruct": lambda *given: Array(),
            "encode": encode,
        }

    def find_class(self, module: str, name: str) -> Any:
        places = {"numpy": ("ndarray", "dtype"), "_codecs": ("encode",)}
        places |= dict.fromkeys(("numpy.core.multiarray", "numpy._core.multiarray"), ("_reconstruct",))
        if name not in places.get(module, ()):
            raise pickle.UnpicklingError(
                f"it holds objects other than arrays, which may run code ({module}.{name}): where you trust it, load "
                "it with what it comes from and save its arrays alone"
            )
        return self._known[name]


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise ValueError(f"an array is named {type(name).__name__}")
    return name


def _array(record: Any) -> NDArray[np.floating[Any]]:
    """Of what `ndarray.__reduce__` tells: (version, shape, type, whether in Fortran's order, bytes)."""
    _, shape, kind, fortran, data = record.state
    (name, *_), (_, order, *_) = kind.given, kind.state
    if name not in KINDS or order != "<" or not isinstance(data, bytes):
        raise ValueError("an array that is not of little-endian floats")
    whole = isinstance(shape, tuple) and len(shape) <= MOST_DIMENSIONS and all(type(size) is int for size in shape)
    if not whole or min(shape, default=0) < 0 or math.prod(shape) * int(name[1]) != len(data):
        raise ValueError("an array of another length than its shape")
    return np.frombuffer(data, KINDS[name]).reshape(shape, order="F" if fortran else "C")
