"""How well scores rank what is there above what is not: average precision, and the area under the ROC curve."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata


def average_precision(true: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """Mean over the recalls, as the threshold falls past each distinct score, of the precision there; both [item].

    Raises:
        ValueError: nothing is true.
    """
    if not true.any():
        raise ValueError("average precision of a label that nothing has: leave it out")
    order = np.argsort(-scores, kind="stable")
    hits, ranked = np.cumsum(true[order]), scores[order]
    last = np.append(ranked[1:] != ranked[:-1], True)  # of equal scores: all are taken at once
    found, taken = hits[last], np.flatnonzero(last) + 1
    return float((np.diff(found, prepend=0) * found / taken).sum() / true.sum())


def roc_area(true: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """The chance that something true scores higher than something that is not, ties counting half; both [item].

    Raises:
        ValueError: everything is true, or nothing.
    """
    positive, negative = int(true.sum()), int((~true).sum())
    if not positive or not negative:
        raise ValueError("the ROC curve of a label that everything or nothing has: leave it out")
    return float((rankdata(scores)[true].sum() - positive * (positive + 1) / 2) / (positive * negative))
