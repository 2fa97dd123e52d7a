"""What a session should ask for, so that its output comes in time: a pure reckoning from what takes how long."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

from backline.engine.ledger import MARGIN
from backline.models.stream import StreamSpec

RESERVE = 0.25  # of all that takes time, which is left over where a session is safe
STEADY = 0.85  # of a core, beyond which a model falls behind however long its chunks are
STEP = 0.01  # seconds to which a visibility is rounded down


class Verdict(Enum):
    """Whether a session keeps time."""

    SAFE = "safe"
    TIGHT = "tight"
    INFEASIBLE = "infeasible"


@dataclass(frozen=True)
class Costs:
    """What takes how long. Seconds, but for `compute`."""

    compute: float  # seconds per second of audio, the median
    round_trip: float  # of the network, the 95th percentile
    fixed: float  # look-ahead, resampling, the codec, the client's blocks and its jitter buffer
    queue: float = 0.0  # other sessions on the model

    def latency(self, chunk: Fraction) -> float:
        """From the newest input that a chunk hears until it can be played."""
        return self.fixed + self.queue + self.round_trip + MARGIN * self.compute * float(chunk)


@dataclass(frozen=True)
class Advice:
    """What to ask for."""

    verdict: Verdict
    chunk_seconds: Fraction
    visibility_seconds: float
    latency_seconds: float  # that a session with these comes to
    reason: str


def advise(spec: StreamSpec, costs: Costs, latency: float, tempo: float = 0.0) -> Advice:
    """Chunk and visibility of a session whose output may be heard `latency` seconds after its input at most.

    The longest chunk up to the pack's default that is safe, else the longest that fits; of what it may hear as much as
    fits, up to the pack's default, but where it plays ahead and there is a `tempo`, by whole beats.
    """
    fitting: list[Advice] = []
    for chunk in _chunks(spec):
        for reserve in (RESERVE, 0.0):
            visible = _visibility(spec, chunk, latency - (1 + reserve) * costs.latency(chunk), tempo)
            if visible is not None:
                safe = reserve > 0 and MARGIN * costs.compute <= 1.0
                comes_to = max(0.0, visible + costs.latency(chunk))
                verdict = Verdict.SAFE if safe else Verdict.TIGHT
                fitting.append(Advice(verdict, chunk, visible, comes_to, _parts(costs, chunk)))
                break
    if not fitting or costs.compute > STEADY:
        chunk = spec.default_chunk_seconds if costs.compute > STEADY else min(_chunks(spec))
        visible, reason = spec.minimum_visibility_seconds, _parts(costs, chunk)
        if costs.compute > STEADY:
            reason += f"; the model needs {costs.compute:.2f} s for a second: use a faster machine or a smaller pack"
        else:
            needed = visible + costs.latency(chunk) - latency
            reason += f"; {needed * 1000:.0f} ms too much, though it plays {-visible:g} s ahead: use a nearer server"
        return Advice(Verdict.INFEASIBLE, chunk, visible, max(0.0, visible + costs.latency(chunk)), reason)
    return next((each for each in fitting if each.verdict is Verdict.SAFE), fitting[0])


def _chunks(spec: StreamSpec) -> Iterator[Fraction]:
    """From the pack's default down to its quantum."""
    chunk = spec.default_chunk_seconds
    while chunk > 0:
        yield chunk
        chunk -= spec.chunk_quantum_seconds


def _visibility(spec: StreamSpec, chunk: Fraction, room: float, tempo: float) -> float | None:
    """The most that a session with such chunks hears of what there is room for; None: it cannot play ahead enough."""
    visible = min(spec.visibility(chunk), room)
    step = 60.0 / tempo if tempo > 0 and visible < 0 else STEP
    rounded = round(math.floor(visible / step + 1e-9) * step, 6) if visible < spec.visibility(chunk) else visible
    if rounded < spec.minimum_visibility_seconds <= visible:
        rounded = math.floor(visible / STEP + 1e-9) * STEP  # no whole beat fits
    return rounded if rounded >= spec.minimum_visibility_seconds else None


def _parts(costs: Costs, chunk: Fraction) -> str:
    """What takes how long, in words."""
    compute = MARGIN * costs.compute * float(chunk)
    parts = {"network": costs.round_trip, "a chunk's compute": compute, "others": costs.queue, "the rest": costs.fixed}
    return ", ".join(f"{name} {seconds * 1000:.0f} ms" for name, seconds in parts.items() if seconds >= 0.0005)
