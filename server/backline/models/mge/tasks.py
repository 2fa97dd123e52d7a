"""The three tracks of MGE-LDM, and what can be asked of one network about them (Section 2.3).

The mixture is the whole song, the source some of its stems, the submixture the others. A task is given one of them, or
none, and answers the others; its prompt is about one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

MIXTURE, SUBMIXTURE, SOURCE = range(3)
TaskName = Literal["extract", "impute", "accompany", "generate"]
TRACKS = ("mixture", "submixture", "source")


@dataclass(frozen=True)
class Task:
    """What is given, and what the prompt is about, by the numbers of their tracks."""

    given: int | None
    asked: int

    def known(self, rows: int) -> Tensor:
        """Which tracks are given, bool [row, track, 1], as samplers want it (nn/diffusion.py)."""
        known = torch.zeros(rows, len(TRACKS), 1, dtype=torch.bool)
        if self.given is not None:
            known[:, self.given] = True
        return known

    @property
    def goes_on(self) -> bool:
        """Whether a window goes on from what the one before has said.

        What joins in does. What is taken out of a mixture is told anew: a rest that was silent, as before a session,
        stays silent for networks that are told so, whatever the mixture does.
        """
        return self.given != MIXTURE


TASKS = {
    "extract": Task(MIXTURE, SOURCE),
    "impute": Task(SUBMIXTURE, SOURCE),
    "accompany": Task(SOURCE, SUBMIXTURE),
    "generate": Task(None, MIXTURE),
}

PORTS = {  # by task: names of a stream's ports, and the tracks that play there
    "extract": {"source": SOURCE, "rest": SUBMIXTURE},
    "impute": {"source": SOURCE},
    "accompany": {"accompaniment": SUBMIXTURE},
    "generate": {"mix": MIXTURE},
}
