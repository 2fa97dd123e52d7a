"""A process that serves keeps few heaps, however many threads it has."""

import subprocess
import sys

import pytest

COUNT = """
import ctypes, sys, threading
from backline.service.allocator import HEAPS, use_few_heaps

if sys.argv[1] == "few":
    assert use_few_heaps()
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
