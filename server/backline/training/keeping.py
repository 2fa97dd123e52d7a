"""Fine-tuning that does not forget: beside the new songs, a pack is judged by songs like those that it knew before.

    judge = Keeping(judged, new, old)      # `judged` says what the model that trains is worth on songs
    train(loop, step, state, judge, watch=by("mel"), validate_first=True)

Results on the old songs begin with OLD. LOST is by how much they are worse than at the start, and what has lost more
than MOST_LOST is never the best.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from backline.music.stems import Stems
from backline.training.loop import Losses
from backline.training.run_folder import best_validation, validations

OLD, LOST = "old_", "lost"
MOST_LOST = 0.05  # of what the old songs are judged by
WARM = 0.5  # of the usual learning rates, where training starts from a pack: what it knows is not to be shaken loose

Judged = Callable[[Sequence[Stems]], Mapping[str, float]]


class Keeping:
    """Validation on new songs, and on old ones where there are any; to be made before training goes on."""

    def __init__(self, judged: Judged, new: Sequence[Stems], old: Sequence[Stems], watched: str) -> None:
        """`watched` is the result, lower where better, of which old songs may lose only so much."""
        self.judged, self.new, self.old, self.watched = judged, new, old, watched
        self._before = judged(old)[watched] if old else 0.0

    def __call__(self) -> dict[str, float]:
        found = dict(self.judged(self.new))
        if self.old:
            old = self.judged(self.old)
            found |= {OLD + name: value for name, value in old.items()}
            found[LOST] = old[self.watched] / self._before - 1
        return found


def by(watched: str) -> Callable[[Losses], float]:
    """What is to be lowest of the results: the new songs' `watched`, where the old ones have not lost too much."""
    return lambda found: found[watched] if found.get(LOST, 0.0) <= MOST_LOST else math.inf


def told(before: Mapping[str, float], after: Mapping[str, float], watched: str) -> str:
    """What fine-tuning has done, for a card."""
    texts = [
        f"{name} {before[name]:.4g} -> {after[name]:.4g} ({100 * (after[name] / before[name] - 1):+.1f} %)"
        for name in (watched, OLD + watched)
        if name in before and name in after
    ]
    return ", ".join(texts)


def fine_tuned(run: Path, watched: Mapping[str, str]) -> str:
    """What training has done to every part of a run that was started from a pack, for a card.

    Args:
        watched: by part, the result that tells its best.
    """
    texts = []
    for part, name in watched.items():
        if found := validations(run / part):
            texts.append(f"{part}: {told(found[0], best_validation(run / part, by(name)), name)}")
    return "; ".join(texts)
