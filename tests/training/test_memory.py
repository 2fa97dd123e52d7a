"""Memory that a training step has freed serves the next one without being faulted in again."""

import subprocess
import sys

import pytest

# In a process of its own: what malloc has been told holds for the rest of its life.
FAULTS = """
import resource, sys
from backline.training.memory import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = bytearray(b"x") * 64_000_000
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    del block
"""


def second_time(how: str) -> int:
    """Page faults of filling 64 MB that have been filled and freed before."""
    run = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
    return int(run.stdout.split()[1])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone is told")
def test_a_large_block_is_not_faulted_in_a_second_time() -> None:
    assert second_time("kept") < 0.1 * second_time("given back")
