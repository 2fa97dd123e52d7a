"""What fine-tuning is judged by: new songs, and old ones of which it may not lose much."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from backline.music.stems import Stems
from backline.training.keeping import LOST, MOST_LOST, Keeping, by, told
from backline.training.loop import LoopConfig, Moment, train
from backline.training.run_folder import best_validation, best_weights, validations

NEW, OLD = np.zeros((4, 1), np.float32), np.ones((4, 1), np.float32)


class Model:
    """A number for each kind of songs, which training changes."""

    def __init__(self) -> None:
        self.worth = {"new": 1.0, "old": 2.0}

    def judged(self, songs: Sequence[Stems]) -> Mapping[str, float]:
        return {"mel": self.worth["old" if songs[0].any() else "new"], "other": 7.0}

    def state_dict(self) -> dict[str, float]:
        return dict(self.worth)

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.worth = dict(state)


def test_old_songs_are_judged_beside_the_new_ones_and_by_what_is_lost() -> None:
    model = Model()
    judge = Keeping(model.judged, [NEW], [OLD], "mel")
    assert judge() == {"mel": 1.0, "other": 7.0, "old_mel": 2.0, "old_other": 7.0, LOST: 0.0}
    model.worth = {"new": 0.5, "old": 2.2}
    assert judge()[LOST] == pytest.approx(0.1)
    assert Keeping(model.judged, [NEW], [], "mel")() == {"mel": 0.5, "other": 7.0}


def test_what_has_lost_too_much_is_never_the_best() -> None:
    key = by("mel")
    assert key({"mel": 0.5}) == key({"mel": 0.5, LOST: MOST_LOST}) == 0.5
    assert key({"mel": 0.1, LOST: MOST_LOST + 1e-6}) == float("inf")


def test_a_run_keeps_the_best_that_has_not_forgotten_and_says_where_it_began(
    tmp_path: Path, seconds_a_step: object
) -> None:
    assert callable(seconds_a_step)
    seconds_a_step(0.4)
    model, made = Model(), iter([(0.8, 2.05), (0.5, 2.5), (0.9, 1.9)])

    def step(moment: Moment) -> Mapping[str, float]:
        model.worth = dict(zip(("new", "old"), next(made), strict=True))
        return {}

    judge = Keeping(model.judged, [NEW], [OLD], "mel")
    loop = LoopConfig(tmp_path / "part", minutes=0.02, validate_seconds=0.0)
    outcome = train(loop, step, {"model": model}, judge, by("mel"), validate_first=True)
    assert (outcome.step, outcome.best) == (3, 0.8)
    assert [found["mel"] for found in validations(tmp_path / "part")][:4] == [1.0, 0.8, 0.5, 0.9]
    assert best_weights(tmp_path / "part") == {"new": 0.8, "old": 2.05}
    best = best_validation(tmp_path / "part", by("mel"))
    assert (best["mel"], best[LOST]) == (0.8, 0.025)
    text = told(validations(tmp_path / "part")[0], best, "mel")
    assert text == "mel 1 -> 0.8 (-20.0 %), old_mel 2 -> 2.05 (+2.5 %)"
