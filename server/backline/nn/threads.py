"""How many threads torch computes on: one in a process that plays.

Two threads of one decode stream wait for each other, and a session beside them waits for both: the 99th percentile of a
chunk goes to a quarter of a second where anything else runs. Sessions share the cores, each on one.
"""

from __future__ import annotations

import sys
from contextlib import suppress


def use_one() -> None:
    """Has torch compute on the thread that calls it, in the whole process. Imports torch, which takes seconds."""
    import torch

    torch.set_num_threads(1)
    with suppress(RuntimeError):  # there has been parallel work, or it has been said before
        torch.set_num_interop_threads(1)


def count() -> int:
    """Threads that torch computes on; 0 where it is not loaded."""
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch is not None else 0
