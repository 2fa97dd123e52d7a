"""Plays a session's output in time: the jitter buffer between the network and a sound card or a host."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from backline_client.wire import Audio, Block
from backline_protos.v1 import backline_pb2 as pb


class AlignedOutput:
    """At host position p it gives the output that belongs under input p - latency, for every port at once.

    The latency is constant: what has not come by then is silence, and counted. One thread pushes what a session
    receives, another pulls; a lock is held only while samples are copied.
    """

    def __init__(
        self, ports: Iterable[pb.OutputPort], latency_samples: int, *, start: int = 0, capacity_samples: int = 1 << 20
    ) -> None:
        """
        Args:
            ports: the session's, `session.ready.ports`.
            latency_samples: usually `session.latency_samples`.
            start: position of the first input block.
            capacity_samples: output may come this much before it is played.
        """
        self.latency_samples = latency_samples
        self.underrun_samples = 0  # pulled when missing, of the port that misses most
        self.late_samples = 0  # came after they should have been played
        self.early_samples = 0  # came further ahead than there is room
        self._start = start
        self._played = start  # stream position up to which everything has been pulled
        self._capacity = capacity_samples
        self._lock = threading.Lock()
        self._rings: dict[str, Audio] = {}  # [channel, slot]; sample p lies in slot p % capacity
        self._present: dict[str, NDArray[np.bool_]] = {}  # [slot]
        for port in ports:
            self._rings[port.name] = np.zeros((port.channels, capacity_samples), np.float32)
            self._present[port.name] = np.zeros(capacity_samples, np.bool_)

    def push(self, block: Block) -> None:
        """Takes a block of output; where it overlaps earlier output that has not been played, it replaces it."""
        with self._lock:
            first = max(block.position, self._played)
            last = min(block.end, self._played + self._capacity)
            self.late_samples += min(block.end, first) - block.position
            self.early_samples += block.end - max(last, block.position)
            if first < last:
                slots = np.arange(first, last) % self._capacity
                self._rings[block.port][:, slots] = block.audio[:, first - block.position : last - block.position]
                self._present[block.port][slots] = True

    def pull(self, position: int, count: int) -> dict[str, Audio]:
        """What to play at host positions [position, position + count): port name to [channel, sample].

        Positions must not go back. Before the session's start there is silence, which counts as nothing missing.
        """
        begin = position - self.latency_samples
        end = begin + count
        with self._lock:
            if begin < self._played and self._played > self._start:
                raise ValueError(f"host position {position} was played already: positions must not go back")
            held_until = self._played + self._capacity  # what lies in the slots is before this
            self._forget(self._played, begin)
            first = min(max(begin, self._start), end)  # before the start nothing is due
            wanted = np.arange(first, end)
            slots = wanted % self._capacity
            outputs: dict[str, Audio] = {}
            missing = 0
            for name, ring in self._rings.items():
                here = self._present[name][slots] & (wanted < held_until)
                missing = max(missing, int(np.count_nonzero(~here)))
                outputs[name] = np.zeros((ring.shape[0], count), np.float32)
                outputs[name][:, first - begin :] = np.where(here, ring[:, slots], np.float32(0.0))
            self._forget(first, end)
            self._played = max(self._played, end)
            self.underrun_samples += missing
        return outputs

    def _forget(self, begin: int, end: int) -> None:
        """Frees the slots of [begin, end), played or skipped."""
        slots = np.arange(begin, min(end, begin + self._capacity)) % self._capacity
        for present in self._present.values():
            present[slots] = False
