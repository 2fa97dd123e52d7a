"""One row's fault is its own: whatever else shares the call plays on as if it had been alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from backline.models.rows import check_tokens, sounding, together
from backline.models.stream import RowFailed


@dataclass
class Job:
    row: int


class Counting:
    """Rows that count their chunks; a call with a bad row moves some of the others before it raises."""

    def __init__(self, bad: int | None) -> None:
        self.bad, self.chunks = bad, dict.fromkeys(range(4), 0)
        self.calls: list[list[int]] = []

    def batch(self, jobs: Sequence[Job]) -> list[int]:
        self.calls.append([job.row for job in jobs])
        answers = []
        for job in jobs:
            if job.row == self.bad:
                raise ArithmeticError(f"row {job.row}")
            self.chunks[job.row] += 1
            answers.append(self.chunks[job.row])
        return answers

    def play(self) -> list[int | Exception]:
        return together([Job(row) for row in range(4)], self.batch, self.chunks.__getitem__, self.chunks.__setitem__)


def test_a_call_that_succeeds_is_made_once() -> None:
    rows = Counting(bad=None)
    assert rows.play() == [1, 1, 1, 1]
    assert rows.calls == [[0, 1, 2, 3]]


@pytest.mark.parametrize("bad", range(4))
def test_a_call_that_fails_is_made_again_row_by_row_from_where_each_stood(bad: int) -> None:
    rows = Counting(bad)
    answers = rows.play()
    assert [answer for row, answer in enumerate(answers) if row != bad] == [1, 1, 1]
    assert isinstance(answers[bad], ArithmeticError)
    assert sum(rows.chunks.values()) == 3


def test_a_row_alone_is_not_asked_twice() -> None:
    rows = Counting(bad=0)
    (answer,) = together([Job(0)], rows.batch, rows.chunks.__getitem__, rows.chunks.__setitem__)
    assert isinstance(answer, ArithmeticError)
    assert rows.calls == [[0]]


def test_nobody_asks_for_nothing() -> None:
    rows = Counting(bad=None)
    assert together([], rows.batch, rows.chunks.__getitem__, rows.chunks.__setitem__) == []
    assert not rows.calls


@pytest.mark.parametrize("token", [-1, 5, 2**40])
def test_a_token_that_its_table_does_not_hold_never_reaches_it(token: int) -> None:
    check_tokens(np.array([[0, 4]]), 5, "the beat")
    check_tokens(np.zeros((1, 0), np.int64), 5, "the beat")
    with pytest.raises(ValueError, match=f"token {token} of the beat: its table has 5 entries"):
        check_tokens(np.array([[0, token]]), 5, "the beat")


def test_what_a_row_failed_of_is_raised_where_its_sound_is_wanted() -> None:
    with pytest.raises(ArithmeticError):
        sounding(RowFailed(0, ArithmeticError()))
