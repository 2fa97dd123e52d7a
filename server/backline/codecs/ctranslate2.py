"""The tensors of a CTranslate2 model.bin, read as the work of a stranger: a table of names, shapes and bytes, no code.

    uint32 version, text name of the model, uint32 its revision
    uint32 count, then each tensor: text name, uint8 rank, uint32 [rank] shape, uint8 type, uint32 bytes, the bytes
    uint32 count, then each alias: text name, text of which tensor

Numbers are little endian; a text is a uint16 length and as many bytes, the last of which is 0. What the format is
follows from `CTranslate2/python/ctranslate2/specs/model_spec.py`.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import torch
from torch import Tensor

VERSIONS = (4, 5, 6)  # that write a type and a size for each tensor
TYPES: dict[int, Any] = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}
MOST_TENSORS, MOST_DIMENSIONS, LONGEST_NAME = 10_000, 8, 500


class ModelDamaged(ValueError):
    """A file that is no model, or not one that is read here; the message says why and what to do."""


def read_model(data: bytes, name: str) -> dict[str, Tensor]:
    """The tensors of a model by name, scalars and aliases included.

    Args:
        data: the whole file.
        name: of the model that is wanted, as "WhisperSpec".

    Raises:
        ModelDamaged: it is no such file, ends too early, or holds another model.
    """
    try:
        return _read(_Reader(data), name)
    except (struct.error, UnicodeDecodeError) as error:
        raise ModelDamaged(f"it is no model.bin of CTranslate2, or damaged ({error}): download it again") from error


class _Reader:
    """Where in the file the reading is."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = memoryview(data), 0

    def number(self, form: str) -> int:
        (found,) = struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))
        return int(found)

    def text(self) -> str:
        return str(self.take(self.number("H")), "utf-8").removesuffix("\0")

    def take(self, count: int) -> memoryview:
        taken = self._data[self._at : self._at + count]
        if len(taken) != count:
            raise struct.error("it ends too early")
        self._at += count
        return taken


def _read(file: _Reader, name: str) -> dict[str, Tensor]:
    version = file.number("I")
    if version not in VERSIONS:
        raise ModelDamaged(f"its format is {version}, only {VERSIONS[0]} to {VERSIONS[-1]} are read: convert it anew")
    found = file.text()
    if found != name:
        raise ModelDamaged(f"it holds {found[:40]!r}, not {name!r}: give another model")
    file.number("I")
    tensors: dict[str, Tensor] = {}
    for _ in range(_count(file)):
        key = file.text()
        rank = file.number("B")
        if rank > MOST_DIMENSIONS:
            raise ModelDamaged(f"{key[:LONGEST_NAME]} has {rank} dimensions: it is damaged, download it again")
        shape = [file.number("I") for _ in range(rank)]
        kind, size = file.number("B"), file.number("I")
        if kind not in TYPES:
            raise ModelDamaged(f"{key[:LONGEST_NAME]} is of type {kind}: convert the model to float16 or float32")
        if math.prod(shape) * np.dtype(TYPES[kind]).itemsize != size:
            raise ModelDamaged(f"{key[:LONGEST_NAME]} {shape} is {size} bytes: it is damaged, download it again")
        values = np.frombuffer(file.take(size), TYPES[kind]).reshape(shape)
        tensors[key] = torch.from_numpy(values.astype(values.dtype.newbyteorder("=")))  # a copy that can be written to
    for _ in range(_count(file)):
        key, of = file.text(), file.text()
        if of not in tensors:
            raise ModelDamaged(f"{key[:LONGEST_NAME]} stands for a tensor that is missing: download it again")
        tensors[key] = tensors[of]
    return tensors


def _count(file: _Reader) -> int:
    count = file.number("I")
    if count > MOST_TENSORS:
        raise ModelDamaged(f"it says it has {count} tensors: it is damaged, download it again")
    return count
