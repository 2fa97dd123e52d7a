"""What a message costs is measured on the thread that handles it."""

import numpy as np
import pytest

from backline.engine.engine import Engine
from backline.service.handling import LOOKS, MESSAGES, Handling
from backline.service.server import start_server
from backline_client import Client
from tests.support.clock import TurnedClock


def test_the_median_of_recent_looks_is_told() -> None:
    clock, told = TurnedClock(), []
    handling = Handling(told.append, clock)
    for seconds in [0.0001] * 3 + [0.01] + [0.0002] * LOOKS:
        for _ in range(MESSAGES):
            handling.count()
            clock.turn(seconds)
    assert told[2] == pytest.approx(0.0001)
    assert told[3] == pytest.approx(0.0001)  # one stumble does not count
    assert told[-1] == pytest.approx(0.0002)


def test_a_server_measures_its_own_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[float] = []
    monkeypatch.setattr(Engine, "observe_handling", lambda engine, seconds: told.append(seconds))
    with start_server() as server, Client(server.address) as client:
        client.render("passthrough", np.zeros((2, 2 * MESSAGES * 4096), np.float32), 192_000)
    assert told
    assert all(0 < seconds < 0.1 for seconds in told)
