"""Codec frames that a client sends, until chunks take them: in order, whole, and only as many as a session may hold."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from backline.engine.errors import BadInput, Refused
from backline.engine.limits import PENDING_CODES
from backline.models.stream import Codebook, Codes


class FrameQueue:
    """One thread adds, one takes."""

    def __init__(self, codebooks: Sequence[Codebook]) -> None:
        self._codebooks = tuple(codebooks)
        self._sizes = np.array([codebook.size for codebook in codebooks], np.int64)
        self._lock = threading.Lock()
        self._parts: list[Codes] = []
        self.received = self._taken = 0  # frames since the session's start

    def add(self, first: int, codes: Codes) -> None:
        """The next frames [frame, codebook], of which the first is frame `first` of the session.

        Raises:
            BadInput: frames are missing or come twice, or are not of these codebooks.
            Refused: too many wait already.
        """
        if first != self.received:
            raise BadInput(f"frames from {first} on: frame {self.received} is due; send every frame once, in order")
        if codes.ndim != 2 or codes.shape[1] != len(self._codebooks):
            raise BadInput(f"frames of {codes.shape[-1]} codebooks: this session takes {len(self._codebooks)}")
        if (codes < 0).any() or (codes >= self._sizes).any():
            column = int(np.argwhere((codes < 0) | (codes >= self._sizes))[0, 1])
            wrong, book = codes[:, column], self._codebooks[column]
            worst = int(wrong[(wrong < 0) | (wrong >= book.size)][0])
            raise BadInput(f"code {worst} of codebook {book.name!r}: use 0 to {book.size - 1}")
        with self._lock:
            if not self.fits(len(codes)):
                waiting = self.received - self._taken + len(codes)
                raise Refused(f"{waiting} frames would wait in this session: send them as their time comes")
            self._parts.append(np.array(codes, np.int32))
            self.received += len(codes)

    def fits(self, count: int) -> bool:
        """Whether so many more may wait. Any thread."""
        return (self.received - self._taken + count) * len(self._codebooks) <= PENDING_CODES

    def take(self, required: int) -> Codes:
        """Those up to frame `required` that have not been taken; fewer where no more have come."""
        with self._lock:
            there = np.concatenate([np.zeros((0, len(self._codebooks)), np.int32), *self._parts])
            count = max(0, min(required - self._taken, len(there)))
            self._parts = [there[count:]] if count < len(there) else []
            self._taken += count
        return there[:count]
