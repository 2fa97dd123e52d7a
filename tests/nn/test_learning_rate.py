"""Learning rates rise, then fall."""

import pytest

from backline.nn.learning_rate import cosine_rate, exponential_rate, inverse_rate


def test_the_learning_rate_rises_then_falls() -> None:
    rates = [cosine_rate(step, step / 1000, 1e-3, warmup_steps=100) for step in range(1001)]
    top = rates.index(max(rates))
    assert 90 <= top <= 110
    assert rates == sorted(rates[: top + 1]) + sorted(rates[top + 1 :], reverse=True)
    assert rates[-1] == pytest.approx(0.05e-3)


def test_the_papers_learning_rate_rises_for_two_thousand_steps_and_decays_with_every_one() -> None:
    rates = [exponential_rate(step, 5e-4, warmup_steps=2000) for step in range(400_000)]
    assert rates[0] == pytest.approx(5e-4 / 2000)
    assert rates[999] == pytest.approx(2.5e-4)
    assert rates[1999] == max(rates) == pytest.approx(5e-4)
    assert rates[51_999] == pytest.approx(5e-4 * 0.99998**50_000)  # e^-1
    assert rates[-1] == pytest.approx(1e-5), "a floor of a fiftieth"


def test_the_rate_of_mge_ldm_is_there_after_some_hundred_steps_and_halves_in_three_million() -> None:
    rates = [inverse_rate(step, 5e-5, slowness=1e6, power=0.5, warmup=0.99) for step in (0, 68, 1000, 3_000_000)]
    assert rates == pytest.approx([0.01 * 5e-5, 0.5 * 5e-5, 5e-5, 2.5e-5], rel=2e-3)
