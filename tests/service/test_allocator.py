"""A process that serves keeps few heaps, however many threads it has."""

import subprocess
import sys

import pytest

COUNT = """
import ctypes, sys, threading
from backline.service.allocator import HEAPS, keep_little

if sys.argv[1] == "few":
    assert keep_little()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.open_memstream.restype = ctypes.c_void_p
together = threading.Barrier(12)

def take():
    together.wait()
    for _ in range(200):
        libc.malloc(50_000)
    together.wait()

threads = [threading.Thread(target=take) for _ in range(12)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
text, size = ctypes.c_char_p(), ctypes.c_size_t()
stream = libc.open_memstream(ctypes.byref(text), ctypes.byref(size))
libc.malloc_info(0, ctypes.c_void_p(stream))
libc.fflush(ctypes.c_void_p(stream))
print(text.value.count(b"<heap "), HEAPS)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's heaps")
def test_heaps_are_few() -> None:
    def heaps(how: str) -> tuple[int, int]:
        answer = subprocess.run([sys.executable, "-c", COUNT, how], capture_output=True, text=True, check=True)
        found, limit = answer.stdout.split()
        return int(found), int(limit)

    found, limit = heaps("few")
    assert found <= limit
    assert heaps("many")[0] > limit, "what is tested for is there without it"


LOUD_ONCE = """
import gc, sys
import numpy as np
import psutil
from backline.service.allocator import keep_little

if sys.argv[1] == "little":
    assert keep_little()
process = psutil.Process()
held = []
before = process.memory_info().rss
for _ in range(8):  # sessions that come and go, and leave a little behind each time
    rings = [np.ones(3 << 20, np.float32) for _ in range(4)]
    held.append(np.ones(1000, np.float32))
    del rings
    gc.collect()
    rings = [np.ones(2 << 20, np.float32) for _ in range(4)]
    held.append(np.ones(1000, np.float32))
    del rings
print((process.memory_info().rss - before) >> 20)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's heaps")
def test_who_was_loud_once_leaves_no_memory_behind() -> None:
    def left(how: str) -> int:
        answer = subprocess.run([sys.executable, "-c", LOUD_ONCE, how], capture_output=True, text=True, check=True)
        return int(answer.stdout)

    assert left("little") <= 4
    assert left("much") >= 8, "what is tested for is there without it"
