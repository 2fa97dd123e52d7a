"""How much memory the C library keeps for itself: little in a process that serves strangers for days.

glibc gives threads heaps of their own, eight for every core, and none of them gives back what lies under anything that
is still held. A server has two dozen threads, each of which carries sessions' audio for a while: a thousand calls left
the process with 100 to 170 MiB that nobody used, and with two heaps with none.

It also learns from what is freed: after the first long ring of a session, blocks as large come from a heap, and the
heap keeps twice as much at its end. Whoever was loud once then costs memory for ever. So large blocks always come from
the system and go back to it.
"""

from __future__ import annotations

import ctypes
import sys

HEAPS = 2
LARGE_BYTES = 4 << 20  # blocks from here on are the system's; what a model needs in a chunk is mostly smaller
KEPT_BYTES = 8 << 20  # at the end of a heap
M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -8, -3, -1  # malloc.h


def keep_little() -> bool:
    """Limits what is kept from now on: before there are threads. False where the C library has no such settings."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none, and one heap
    if mallopt is None:
        return False
    wanted = {M_ARENA_MAX: HEAPS, M_MMAP_THRESHOLD: LARGE_BYTES, M_TRIM_THRESHOLD: KEPT_BYTES}
    taken = [bool(mallopt(what, value)) for what, value in wanted.items()]
    return all(taken)
