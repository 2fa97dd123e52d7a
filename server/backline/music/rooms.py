"""Impulse responses of rooms: the early echoes of a shoebox by image sources, then noise that dies away.

Allen and Berkley, "Image method for efficiently simulating small-room acoustics" (JASA 1979), for the first ORDER
reflections; after them the tail of recording.py, in the time that Sabine's formula gives for that room.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from backline.music.recording import room_response

Sound = NDArray[np.float32]  # [sample]

SPEED = 343.0  # metres a second
ORDER = 4  # reflections on a pair of walls that single echoes are computed of


def room(sample_rate: int, size: float, rng: Generator) -> Sound:
    """The answer [sample] to an impulse, without the impulse itself, energy 1, of a room that chance furnishes.

    Args:
        size: metres, the edge of a cube of its volume.
    """
    edges = size * np.array([rng.uniform(1.0, 1.5), rng.uniform(0.75, 1.1), 1.0])
    edges[2] *= size**3 / np.prod(edges)
    absorption = float(rng.uniform(0.08, 0.45))
    source, listener = (edges * rng.uniform(0.15, 0.85, 3) for _ in range(2))
    early = echoes(sample_rate, edges, absorption, source, listener)
    surface = 2 * (edges[0] * edges[1] + edges[1] * edges[2] + edges[0] * edges[2])
    seconds = float(np.clip(0.161 * size**3 / (surface * absorption), 0.08, 2.2))
    late = room_response(sample_rate, seconds, rng)
    found = np.zeros(max(len(early), len(late)), np.float32)
    found[: len(early)] += early / np.float32(np.sqrt(np.sum(np.square(early))) + 1e-9)
    found[: len(late)] += late * np.float32(rng.uniform(0.4, 1.2))
    return found / np.float32(np.sqrt(np.sum(np.square(found))))


def echoes(
    sample_rate: int, edges: NDArray[np.float64], absorption: float, source: NDArray[np.float64],
    listener: NDArray[np.float64],
) -> Sound:  # fmt: skip
    """Single echoes [sample] after the direct sound, against its strength, each at its nearest sample.

    Args:
        edges, source, listener: [axis], metres; the corner of the room is the origin.
        absorption: share of the energy that a wall takes.
    """
    images = np.arange(-ORDER, ORDER + 1)
    # Image n of a coordinate: mirrored if n is odd; it has met |n| walls.
    along = [np.where(images % 2, (images + 1) * edge - at, images * edge + at)
             for edge, at in zip(edges, source, strict=True)]  # fmt: skip
    grid = np.stack(np.meshgrid(*along, indexing="ij"), axis=-1)
    met = np.sum(np.meshgrid(*[np.abs(images)] * 3, indexing="ij"), axis=0)
    distance = np.sqrt(np.sum(np.square(grid - listener), axis=-1))
    direct = float(np.sqrt(np.sum(np.square(source - listener))))
    keep = (met > 0) & (met <= ORDER)
    strength = (1 - absorption) ** (met[keep] / 2) * max(direct, 0.3) / distance[keep]
    delay = np.round((distance[keep] - direct) / SPEED * sample_rate).astype(int)
    found = np.zeros(int(delay.max()) + 1, np.float32)
    np.add.at(found, delay, strength.astype(np.float32))
    return found
