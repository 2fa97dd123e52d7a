"""What a steered process tells the door that has started it: a line of JSON whenever something has changed.

doors/live.py reads it. It is for displays: nothing waits for it, and what changes in between is not told.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

STATUS = "status"  # how the line begins
LOOK_SECONDS = 0.25


@contextmanager
def telling(figures: Callable[[], Mapping[str, Any]]) -> Iterator[None]:
    """As long as the block, `figures()` is written to stderr whenever they are others than before."""
    ended = threading.Event()

    def tell() -> None:
        told = ""
        while True:
            if (now := json.dumps(figures(), ensure_ascii=False)) != told:
                told = now
                sys.stderr.write(f"{STATUS}: {now}\n")  # at once: others write there, too
                sys.stderr.flush()
            if ended.wait(LOOK_SECONDS):
                return

    thread = threading.Thread(target=tell, name="status", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
