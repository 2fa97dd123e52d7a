"""Which code stands where: how the frames and codebooks of a track become positions of a sequence.

A track of n codec frames has 2 * n elements, in the order a0 s0 a1 s1 …: acoustic and semantic vector of each frame.
An element's codebooks share one position ("parallel"), stand one position later each ("delay", after which a position
holds codebooks of different elements), or take one position each ("flat"). MODELS.md B2 shows the whole:

    in : <mix> F0…F199 | S a0 s0 … a49 s49 | S … drums | S … bass | S … other      (605 positions)
    out:                 a0 s0 …   s49 E   | …
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from backline.codecs.hcodec.network import PATHS
from backline.models.stems.config import Order

PATH_COUNT = len(PATHS)
Slots = NDArray[np.int64]


@cache
def slots(order: Order, elements: int, codebooks: int) -> Slots:
    """[position, codebook]: the element whose code stands there; -1 where none does."""
    if order == "parallel":
        return np.repeat(np.arange(elements)[:, None], codebooks, axis=1)
    if order == "delay":
        late = np.arange(elements + codebooks - 1)[:, None] - np.arange(codebooks)
        return np.where((late >= 0) & (late < elements), late, -1)
    flat = np.full((elements * codebooks, codebooks), -1)
    positions = np.arange(elements * codebooks)
    flat[positions, positions % codebooks] = positions // codebooks
    return flat


def heard_at(table: Slots) -> NDArray[np.int64]:
    """[position]: the newest element that each position tells of; its time is the position's."""
    newest: NDArray[np.int64] = table.max(axis=1)
    return newest


def known_positions(table: Slots, elements: int) -> int:
    """How many first positions hold nothing but codes of the first `elements` elements."""
    unknown = (table >= elements).any(axis=1)
    return int(unknown.argmax()) if unknown.any() else len(table)


def to_positions(codes: NDArray[np.int64], table: Slots) -> NDArray[np.int64]:
    """Codes [.., path, codebook, frame] as they stand [.., position, codebook]; -1 where none does."""
    elements = np.moveaxis(codes, -1, -3).reshape(*codes.shape[:-3], -1, codes.shape[-2])  # [.., element, codebook]
    books = np.arange(table.shape[1])
    return np.where(table >= 0, elements[..., np.maximum(table, 0), books], -1)


def from_positions(told: NDArray[np.int64], table: Slots) -> NDArray[np.int64]:
    """[.., position, codebook] -> codes [.., path, codebook, frame]."""
    elements = int(table.max()) + 1
    out = np.zeros((*told.shape[:-2], elements, table.shape[1]), np.int64)
    positions, books = np.nonzero(table >= 0)
    out[..., table[positions, books], books] = told[..., positions, books]
    return np.moveaxis(out.reshape(*told.shape[:-2], -1, PATH_COUNT, table.shape[1]), -3, -1)
