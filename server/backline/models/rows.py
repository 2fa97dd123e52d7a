"""Rows of a resident model: which one a new session takes."""

from __future__ import annotations

from collections.abc import Container

from backline.models.errors import NoRowFree


def free_row(taken: Container[int], capacity: int) -> int:
    """The lowest row of `capacity` that is not taken.

    Raises:
        NoRowFree: all of them are.
    """
    for row in range(capacity):
        if row not in taken:
            return row
    raise NoRowFree(f"all {capacity} rows are taken: close a session")
