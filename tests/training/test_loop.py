"""A training run stops on time, carries on where it stopped, and loses nothing when it is told to end."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from backline.training.loop import LoopConfig, Losses, Moment, Outcome, Stateful, pick_device, restore, train


class Problem:
    """A linear fit to random targets, whose every step draws from torch's random state."""

    def __init__(self) -> None:
        torch.manual_seed(5)
        self.model = nn.Linear(4, 1)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01)
        self.state: dict[str, Stateful] = {"model": self.model, "optimizer": self.optimizer}
        self.seen: list[Tensor] = []

    def step(self, moment: Moment) -> Losses:
        x = torch.randn(8, 4)
        self.seen.append(x)
        loss = (self.model(x) - 1).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": float(loss.detach())}

    def until(self, last: int, number: int) -> Callable[[Moment], Losses]:
        """A step that sends the signal `number` to this process when step `last` is reached."""

        def step(moment: Moment) -> Losses:
            if moment.step == last - 1:
                os.kill(os.getpid(), number)
            return self.step(moment)

        return step


def run(problem: Problem, out: Path, last: int, number: int = signal.SIGTERM) -> Outcome:
    return train(LoopConfig(out, minutes=10, seed=3), problem.until(last, number), problem.state)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_ends_the_run(tmp_path: Path, number: int) -> None:
    before = signal.getsignal(number)
    outcome = run(Problem(), tmp_path, 4, number)
    assert outcome.interrupted
    assert outcome.step == 4
    assert (tmp_path / "checkpoint.pt").exists()
    assert not list(tmp_path.glob("*.partial"))
    assert signal.getsignal(number) is before


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, first, second = Problem(), Problem(), Problem()
    run(whole, tmp_path / "whole", 9)
    run(first, tmp_path / "parts", 4)
    outcome = run(second, tmp_path / "parts", 9)
    assert outcome.step == 9
    assert torch.equal(torch.stack(whole.seen), torch.stack(first.seen + second.seen))
    assert torch.equal(whole.model.weight, second.model.weight)


def test_the_time_budget_ends_the_run_and_validates(tmp_path: Path) -> None:
    problem = Problem()
    outcome = train(
        LoopConfig(tmp_path, minutes=0.001, seed=3), problem.step, problem.state, lambda: {"error": 2.0}, watch="error"
    )
    assert not outcome.interrupted
    assert outcome.best == 2.0
    assert outcome.validation == {"error": 2.0}
    assert (tmp_path / "best.pt").exists()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["kind"] == "validation"
    assert lines[-1]["step"] == outcome.step


def test_counted_steps_end_the_run_and_progress_counts_them(tmp_path: Path) -> None:
    problem, seen = Problem(), []

    def step(moment: Moment) -> Losses:
        seen.append(moment.progress)
        return problem.step(moment)

    assert train(LoopConfig(tmp_path, steps=3), step, problem.state).step == 3
    assert train(LoopConfig(tmp_path, steps=5), step, problem.state).step == 5
    assert seen == [0, 1 / 3, 2 / 3, 3 / 5, 4 / 5]


def test_a_budget_without_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give it minutes or steps"):
        LoopConfig(tmp_path)


def test_a_finished_run_is_not_trained_on_until_its_budget_grows(
    tmp_path: Path, seconds_a_step: Callable[[float], None]
) -> None:
    seconds_a_step(0.25)
    problem = Problem()
    first = train(LoopConfig(tmp_path, minutes=1 / 60), problem.step, problem.state)
    again = train(LoopConfig(tmp_path, minutes=1 / 60), problem.step, problem.state)
    more = train(LoopConfig(tmp_path, minutes=2 / 60), problem.step, problem.state)
    assert (first.step, again.step, more.step) == (4, 4, 8)


def test_only_the_best_validation_is_kept(tmp_path: Path) -> None:
    problem = Problem()
    errors = iter([3.0, 1.0, 2.0, 4.0, *[5.0] * 1000])

    def step(moment: Moment) -> Losses:
        if moment.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return problem.step(moment)

    config = LoopConfig(tmp_path, minutes=1, validate_seconds=0.0)
    outcome = train(config, step, problem.state, lambda: {"error": next(errors)}, watch="error")
    assert outcome.best == 1.0
    moment, best = restore(tmp_path / "best.pt", config, Problem().state)
    assert (moment.step, best) == (2, 1.0)


def test_a_loss_that_is_not_finite_ends_the_run_and_names_it(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="step 1: loss not finite"):
        train(LoopConfig(tmp_path, minutes=1), lambda moment: {"loss": float("nan")}, {})


def test_another_seed_does_not_carry_on_a_run(tmp_path: Path) -> None:
    run(Problem(), tmp_path, 2)
    with pytest.raises(ValueError, match="seed 3, not 4"):
        train(LoopConfig(tmp_path, minutes=1, seed=4), Problem().step, Problem().state)


def test_a_missing_device_is_refused_with_the_remedy() -> None:
    assert pick_device("cpu").type == "cpu"
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="--device cpu"):
            pick_device("cuda")
