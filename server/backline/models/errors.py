"""What a model may fail with: a pack with problems, all of them at once, and rows that are all taken."""

from __future__ import annotations

from collections.abc import Sequence


class PackError(ValueError):
    """A pack cannot be used. `problems` are sentences that each name one fault and what to do about it."""

    def __init__(self, problems: Sequence[str], pack: str = "") -> None:
        # Names of files and tensors may hold what no text that is sent can: halves of surrogate pairs.
        self.problems = tuple(problem.encode("utf-8", "backslashreplace").decode() for problem in problems)
        self.pack = pack
        subject = f"pack {pack!r}" if pack else "the pack"
        super().__init__(f"{subject} cannot be loaded: " + "; ".join(self.problems))


class NoRowFree(RuntimeError):
    """Every row of a model is a session's (`Stream.open`)."""
