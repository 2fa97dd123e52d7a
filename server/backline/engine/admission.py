"""Who may play: a live session is admitted only if the engine can keep everybody's deadlines."""

from __future__ import annotations

from collections import deque
from statistics import median

from backline.engine.errors import Refused

LOAD_LIMIT = 0.85  # of one core: what is left absorbs the moments in which everything is slower


class Cost:
    """Compute seconds that one second of a session's audio costs on one model: the warm-up's, then the measured."""

    def __init__(self, warm_up: float) -> None:
        self._warm_up = warm_up
        self._seen: deque[float] = deque(maxlen=64)

    @property
    def value(self) -> float:
        """The median of recent chunks; the warm-up's figure until there are enough of them."""
        return median(self._seen) if len(self._seen) >= 8 else self._warm_up

    def observe(self, compute_seconds: float, audio_seconds: float) -> None:
        """One session's share of one engine call."""
        self._seen.append(compute_seconds / audio_seconds)


def admit(pack: str, cost: float, load: float, limit: float = LOAD_LIMIT) -> None:
    """Lets a live session of `cost` join an engine that already carries `load`.

    Raises:
        Refused: together they exceed `limit`.
    """
    if load + cost > limit:
        raise Refused(
            f"a session of {pack!r} needs {cost:.2f} of a core and open sessions hold {load:.2f} of the {limit:.2f} "
            "that keep every deadline: close a session, choose a smaller pack, or render offline"
        )
