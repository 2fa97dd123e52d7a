"""A clock that tests turn, so that a run of so many minutes is a run of so many steps."""

from collections.abc import Callable

import pytest


class StepClock:
    """The training loop's: it goes on by `tick` seconds whenever somebody looks, which is once in a step."""

    def __init__(self, tick: float) -> None:
        self.tick, self.now = tick, 0.0

    def monotonic(self) -> float:
        self.now += self.tick
        return self.now


@pytest.fixture
def seconds_a_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Makes each step of a training loop last so many seconds of its budget, on whatever machine."""
    return lambda seconds: monkeypatch.setattr("backline.training.loop.time", StepClock(seconds))
