"""Who may play: a session is admitted only if every live one, itself included, keeps its deadlines.

A chunk's deadline is the moment at which its session's next one is ready: who comes later than that falls behind for
good. At worst, a chunk is ready just after a chunk of offline work has begun and just after every other live session of
its model. Models compute side by side, as far as there are cores. What is done in Python, for every message and for
every chunk outside of the model, is done by one thread at a time.

Every figure is a measured one as soon as there is one. A session that finds nobody else is always admitted: who is
alone takes nobody's time, and what it costs is then known.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from backline.engine.errors import Refused

LOAD_LIMIT = 0.85  # of a deadline, and of a core: what is left absorbs the moments in which everything is slower
MESSAGE_SECONDS = 150e-6  # that the service takes for a message in or out, until it has measured
DELIVERY_SECONDS = 150e-6  # that the engine takes for a chunk besides the model, until it has measured
REMEDY = "close a session, use longer chunks or a smaller pack, or render when nobody plays live"


class Cost:
    """Compute seconds that one second of a session's audio costs on one model: the warm-up's, then the measured."""

    def __init__(self, warm_up: float) -> None:
        self._warm_up = warm_up
        self._seen: deque[float] = deque(maxlen=64)
        self._deliveries: deque[float] = deque(maxlen=64)

    @property
    def value(self) -> float:
        """The median of recent chunks; the warm-up's figure until there are enough of them."""
        return median(self._seen) if len(self._seen) >= 8 else self._warm_up

    @property
    def delivery_seconds(self) -> float:
        """That a chunk takes besides the model: to be gathered, converted, and sent."""
        return median(self._deliveries) if len(self._deliveries) >= 8 else DELIVERY_SECONDS

    def observe(self, compute_seconds: float, audio_seconds: float, delivery_seconds: float = 0.0) -> None:
        """One session's share of one engine call, and how much of it was not the model's."""
        self._seen.append(compute_seconds / audio_seconds)
        self._deliveries.append(delivery_seconds)


@dataclass(frozen=True)
class Claim:
    """What one session asks of the machine."""

    pack: str
    chunk_seconds: float
    compute_seconds: float  # a chunk
    offline: bool
    messages: float = 0.0  # a second, both ways
    delivery_seconds: float = 0.0  # a chunk: the part of compute_seconds that is not the model's

    @property
    def load(self) -> float:
        """Cores that it keeps busy while it plays live."""
        return self.compute_seconds / self.chunk_seconds

    def handling(self, message_seconds: float) -> float:
        """Share of the one thread at a time that runs Python."""
        return self.messages * message_seconds + self.delivery_seconds / self.chunk_seconds


@dataclass(frozen=True)
class Machine:
    """What sessions share."""

    cores: float  # on which models compute side by side; 1 for a GPU
    message_seconds: float = MESSAGE_SECONDS
    limit: float = LOAD_LIMIT


def admit(newcomer: Claim, others: Sequence[Claim], machine: Machine) -> None:
    """Lets a session join those that are open.

    Raises:
        Refused: a deadline would break; the message says whose, and why.
    """
    if not others:
        return
    everyone = [*others, newcomer]
    live = [claim for claim in everyone if not claim.offline]
    if not live:
        return
    for pack in sorted({claim.pack for claim in live}):
        slower = _slower(pack, everyone, machine.cores)
        # Models do not wait for each other: only where cores are too few does one suffer from another's newcomer.
        if pack == newcomer.pack or slower > _slower(pack, others, machine.cores):
            _keep_pace(pack, [claim for claim in live if claim.pack == pack], slower, machine.limit)
            _keep_deadlines(pack, [claim for claim in everyone if claim.pack == pack], slower, machine.limit)
    handling = sum(claim.handling(machine.message_seconds) for claim in live)
    if not newcomer.offline and handling > machine.limit:
        raise Refused(
            f"{len(live)} live sessions would keep {handling:.2f} of a core busy with {_per_second(live)}, and "
            f"{machine.limit:.2f} keep every deadline: close a session, or use larger blocks and longer chunks"
        )


def _per_second(live: Sequence[Claim]) -> str:
    messages, chunks = sum(claim.messages for claim in live), sum(1 / claim.chunk_seconds for claim in live)
    return f"{messages:.0f} messages and {chunks:.0f} chunks a second"


def _slower(pack: str, claims: Sequence[Claim], cores: float) -> float:
    """By what factor a model's chunks take longer because of the other models: it gets what these leave of the cores,
    and its fair share at least.
    """
    packs = {claim.pack for claim in claims} | {pack}
    left = cores - sum(_busy(other, claims) for other in packs - {pack})
    return 1.0 / min(1.0, max(left, cores / len(packs)))


def _busy(pack: str, claims: Sequence[Claim]) -> float:
    """Share of its thread that a model computes in."""
    own = [claim for claim in claims if claim.pack == pack]
    return 1.0 if any(claim.offline for claim in own) else min(1.0, sum(claim.load for claim in own))


def _keep_pace(pack: str, live: Sequence[Claim], slower: float, limit: float) -> None:
    load = slower * sum(claim.load for claim in live)
    if load > limit:
        raise Refused(
            f"{len(live)} live sessions of {pack!r} need {load:.2f} s for every second that they play{_why(slower)}, "
            f"and {limit:.2f} keep every deadline: {REMEDY}"
        )


def _keep_deadlines(pack: str, claims: Sequence[Claim], slower: float, limit: float) -> None:
    """Whether the live one with the shortest chunks gets them in time."""
    live = [claim for claim in claims if not claim.offline]
    first = min(live, key=lambda claim: claim.chunk_seconds)
    blocked = max((claim.compute_seconds for claim in claims if claim.offline), default=0.0)
    worst = slower * (blocked + sum(claim.compute_seconds for claim in live))
    if worst > limit * first.chunk_seconds:
        offline = f", of which offline work takes {slower * blocked:.2f} s" if blocked else ""
        raise Refused(
            f"a live session of {pack!r} has chunks of {first.chunk_seconds:.2f} s and would wait {worst:.2f} s for "
            f"one at worst{offline}{_why(slower)}: {REMEDY}"
        )


def _why(slower: float) -> str:
    return f" ({slower:.1f} times as long as alone, for want of cores)" if slower > 1 else ""
