"""Average precision and the area under the ROC curve are what their definitions say, item by item."""

import numpy as np
import pytest

from backline.measures.ranking import average_precision, roc_area


def by_thresholds(true: np.ndarray, scores: np.ndarray) -> float:
    """The sum over thresholds, from the highest, of the gain in recall times the precision."""
    found, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        taken = scores >= threshold
        now = (true & taken).sum() / true.sum()
        found += (now - recall) * (true & taken).sum() / taken.sum()
        recall = now
    return found


def by_pairs(true: np.ndarray, scores: np.ndarray) -> float:
    pairs = [(high > low) + 0.5 * (high == low) for high in scores[true] for low in scores[~true]]
    return float(np.mean(pairs))


@pytest.mark.parametrize("seed", range(8))
def test_both_equal_their_definitions(seed: int) -> None:
    random = np.random.default_rng(seed)
    true = random.random(40) < 0.3
    true[:2] = True, False
    scores = np.round(random.normal(size=40) + true, 1 if seed % 2 else 8)  # with ties, and without
    assert average_precision(true, scores) == pytest.approx(by_thresholds(true, scores))
    assert roc_area(true, scores) == pytest.approx(by_pairs(true, scores))


def test_scores_that_say_nothing_have_the_share_and_a_half() -> None:
    true = np.arange(10) < 3
    assert average_precision(true, np.zeros(10)) == pytest.approx(0.3)
    assert roc_area(true, np.zeros(10)) == 0.5


def test_a_label_that_cannot_be_ranked_is_refused() -> None:
    with pytest.raises(ValueError, match="leave it out"):
        average_precision(np.zeros(3, bool), np.zeros(3))
    with pytest.raises(ValueError, match="leave it out"):
        roc_area(np.ones(3, bool), np.zeros(3))
