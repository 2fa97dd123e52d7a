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

    The latency is constant: what has not come by then is silence, and counted. Where output ends too early its last
    sample dies away, and where it comes again it fades in; all else is as it came. One thread pushes what a session
    receives, another pulls; a lock is held only while samples are copied.
    """

    def __init__(
        self,
        ports: Iterable[pb.OutputPort],
        latency_samples: int,
        *,
        start: int = 0,
        capacity_samples: int = 1 << 20,
        fade_samples: int = 0,
    ) -> None:
        """
        Args:
            ports: the session's, `session.ready.ports`.
            latency_samples: usually `session.latency_samples`.
            start: position of the first input block.
            capacity_samples: output may come this much before it is played.
            fade_samples: how long a fade is, at either end of what is missing.
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
        self._fades: dict[str, Fade] = {}
        for port in ports:
            self._rings[port.name] = np.zeros((port.channels, capacity_samples), np.float32)
            self._present[port.name] = np.zeros(capacity_samples, np.bool_)
            self._fades[port.name] = Fade(port.channels, fade_samples)

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
                found = np.where(here, ring[:, slots], np.float32(0.0))
                outputs[name][:, first - begin :] = self._fades[name].process(found, here)
            self._forget(first, end)
            self._played = max(self._played, end)
            self.underrun_samples += missing
        return outputs

    def _forget(self, begin: int, end: int) -> None:
        """Frees the slots of [begin, end), played or skipped."""
        slots = np.arange(begin, min(end, begin + self._capacity)) % self._capacity
        for present in self._present.values():
            present[slots] = False


class Fade:
    """Takes the clicks out of one port's gaps, block by block; where nothing is missing the audio stays as it is."""

    def __init__(self, channels: int, samples: int) -> None:
        """`samples`: how long a fade is; 0: none."""
        self._length = samples
        self._last = np.zeros((channels, 1), np.float32)  # that was there
        self._missing = samples  # samples since then
        self._back = samples  # samples since output came again, after a gap

    def process(self, audio: Audio, here: NDArray[np.bool_]) -> Audio:
        """The next `audio` [channel, sample], zeros where it is not `here`."""
        if not self._length or (here.all() and self._missing == 0 and self._back >= self._length):
            self._keep(audio)
            return audio
        out, at = audio.copy(), 0
        edges = [*(np.flatnonzero(here[1:] != here[:-1]) + 1), here.size]
        for end in edges if here.size else []:
            part = out[:, at:end]
            steps = np.arange(1, part.shape[1] + 1, dtype=np.float32)
            if here[at]:
                if self._missing:
                    self._back, self._missing = 0 if self._heard else self._length, 0
                part *= np.minimum(1.0, (self._back + steps) / self._length)
                self._back = min(self._length, self._back + part.shape[1])
                self._keep(part)
            else:
                part += self._last * np.maximum(0.0, 1.0 - (self._missing + steps) / self._length)
                self._missing = min(self._length, self._missing + part.shape[1])
            at = end
        return out

    _heard = False  # anything yet: what begins a session has no gap before it

    def _keep(self, audio: Audio) -> None:
        if audio.shape[1]:
            self._last, self._heard = audio[:, -1:].copy(), True
