"""Learning rates rise, then fall."""

import pytest

from backline.nn.learning_rate import cosine_rate


def test_the_learning_rate_rises_then_falls() -> None:
    rates = [cosine_rate(step, step / 1000, 1e-3, warmup_steps=100) for step in range(1001)]
    top = rates.index(max(rates))
    assert 90 <= top <= 110
    assert rates == sorted(rates[: top + 1]) + sorted(rates[top + 1 :], reverse=True)
    assert rates[-1] == pytest.approx(0.05e-3)
