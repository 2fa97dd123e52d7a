"""The latency ledger: every millisecond between an input sample and the output that belongs under it has a name."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from backline.models.stream import LatencyItem

NAMES = ("capture", "network", "queue", "front_end", "visibility", "compute", "codec", "jitter_buffer")
NETWORK_SECONDS = 0.002  # one way there and back on one machine, gRPC's own work included
WAKE_SECONDS = 0.001  # until the engine thread runs
MARGIN = 2.0  # times the median: what a chunk may take when the machine stumbles
FALL = 0.25  # of an item, by which it must have been too much before it is announced anew
OBSERVATIONS = 256  # newest chunks that a percentile is taken of
OBSERVATIONS_BETWEEN_LOOKS = 16


@dataclass(frozen=True)
class Ledger:
    """The items in the order of the signal's way, and what they come to."""

    items: tuple[LatencyItem, ...]
    sample_rate: int

    @property
    def total_seconds(self) -> float:
        """Never below zero: a model that plays ahead far enough costs nothing."""
        return max(0.0, sum(item.seconds for item in self.items))

    @property
    def latency_samples(self) -> int:
        """Play output p at input p + this."""
        return math.ceil(round(self.total_seconds * self.sample_rate, 6))


class LedgerBook:
    """One session's ledger: what follows from contracts, and what is measured as it plays.

    Measured items grow by steps, since a latency that moves with every chunk cannot be played. They fall, too, once a
    whole window of chunks has needed much less. Who has chosen a latency by what was announced earlier keeps it: output
    is late only where it is later than anything that was ever announced.
    """

    def __init__(
        self,
        model_items: Iterable[LatencyItem],
        *,
        sample_rate: int,
        block_size: int,
        input_seconds: float,
        output_seconds: float,
        compute_seconds: float,
        queue_seconds: float,
        jitter_buffer_seconds: float,
    ) -> None:
        """`input_seconds` and `output_seconds` are the resamplers' delays, `compute_seconds` the median of a chunk."""
        self._sample_rate = sample_rate
        self._model_items = tuple(model_items)
        self._contract = {
            "capture": (block_size / sample_rate, f"a block of {block_size} samples is sent when it is full"),
            "network": (NETWORK_SECONDS, "there and back; the default for one machine"),
            "front_end": (input_seconds, "resampling to the model's rate"),
            "codec": (output_seconds, "resampling to the session's rate"),
            "jitter_buffer": (jitter_buffer_seconds, "the client's playback buffer"),
        }
        self._measured = {"queue": WAKE_SECONDS + queue_seconds, "compute": compute_seconds * MARGIN}
        self._least = {"queue": self._measured["queue"], "compute": 0.0}  # below which nothing measured counts
        self._seen = {name: deque[float](maxlen=OBSERVATIONS) for name in self._measured}
        self._is_measured = {"queue": False, "compute": False}
        self._chunks = 0
        self.current = self._write()
        self.promised_samples = self.current.latency_samples  # the most that was ever announced

    def observe(self, queue_seconds: float, compute_seconds: float) -> Ledger | None:
        """Takes one chunk's times; the new ledger if they make it grow or fall."""
        self._seen["queue"].append(queue_seconds)
        self._seen["compute"].append(compute_seconds)
        self._chunks += 1
        if self._chunks % OBSERVATIONS_BETWEEN_LOOKS:
            return None
        changed = [
            self._follow(name, float(np.percentile(seen, self._percentile()))) for name, seen in self._seen.items()
        ]
        return self._rewrite(any(changed))

    def expect_queue(self, seconds: float) -> Ledger | None:
        """The others on the engine may keep a chunk waiting this long; the new ledger if that makes it grow.

        Where there are fewer of them than before, it falls as soon as it is seen that nothing waits as long.
        """
        self._least["queue"] = WAKE_SECONDS + seconds
        return self._rewrite(self._raise_to("queue", WAKE_SECONDS + seconds, measured=False))

    def _percentile(self) -> int:
        """99, as soon as that leaves a single stumble of the machine out."""
        return 99 if len(self._seen["compute"]) >= OBSERVATIONS // 2 else 90

    def _follow(self, name: str, seconds: float) -> bool:
        """Takes over what was measured, where it differs by enough from what was announced."""
        if self._raise_to(name, seconds, measured=True):
            return True
        usual = MARGIN * float(np.median(self._seen[name])) if name == "compute" else 0.0
        announced, enough = self._measured[name], max(1.2 * seconds, usual, self._least[name])
        if len(self._seen[name]) < OBSERVATIONS or enough > announced - max(0.002, FALL * announced):
            return False
        self._measured[name] = enough
        self._is_measured[name] = enough > self._least[name]
        return True

    def _raise_to(self, name: str, seconds: float, measured: bool) -> bool:
        announced = self._measured[name]
        if seconds <= announced + max(0.002, 0.1 * announced):
            return False
        self._measured[name] = 1.2 * seconds if measured else seconds
        self._is_measured[name] = measured
        return True

    def _rewrite(self, grown: bool) -> Ledger | None:
        if not grown:
            return None
        self.current = self._write()
        self.promised_samples = max(self.promised_samples, self.current.latency_samples)
        return self.current

    def _write(self) -> Ledger:
        items = []
        for name in NAMES:
            seconds, why = self._contract.get(name, (0.0, ""))
            parts = [item for item in self._model_items if item.name == name]
            reasons = [item.explanation for item in parts if item.explanation] + ([why] if seconds else [])
            seconds += sum(item.seconds for item in parts)
            if name in self._measured:
                seconds += self._measured[name]
                reasons.append(self._reason(name))
            items.append(LatencyItem(name, seconds, "; ".join(reasons), self._is_measured.get(name, False)))
        return Ledger(tuple(items), self._sample_rate)

    def _reason(self, name: str) -> str:
        if self._is_measured[name]:
            least = f", or {MARGIN:g} times their median" if name == "compute" else ""
            return f"{self._percentile()}th percentile of the last {len(self._seen[name])} chunks, and a fifth{least}"
        if name == "queue":
            return f"waking the engine, and one chunk of every other session on the model, times {MARGIN:g}"
        return f"the warm-up's median, times {MARGIN:g}"
