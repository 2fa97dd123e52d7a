"""The ring against a list."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backline.engine.rings import Ring


@given(
    capacity=st.integers(1, 40),
    channels=st.integers(1, 3),
    moves=st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=40),
)
@settings(max_examples=100, deadline=None)
def test_a_ring_is_a_bounded_queue(capacity: int, channels: int, moves: list[tuple[bool, int]]) -> None:
    ring, queue, counter = Ring(capacity, channels), [], 0
    for writes, wanted in moves:
        if writes:
            count = min(wanted, ring.free)
            block = (counter + np.arange(count) + 1000 * np.arange(channels)[:, None]).astype(np.float32)
            counter += count
            ring.write(block)
            queue += list(block.T)
        else:
            count = min(wanted, ring.available)
            expected, queue = queue[:count], queue[count:]
            read = ring.read(count)
            assert read.shape == (channels, count)
            assert np.array_equal(read.T, np.array(expected, np.float32).reshape(count, channels))
        assert (ring.available, ring.free) == (len(queue), capacity - len(queue))


def test_a_ring_refuses_what_does_not_fit_and_what_is_not_there() -> None:
    ring = Ring(10, 2)
    ring.write(np.zeros((2, 8), np.float32))
    with pytest.raises(ValueError, match="room for 2"):
        ring.write(np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match="holds 8"):
        ring.read(9)


def test_one_thread_may_write_while_another_reads() -> None:
    ring, count = Ring(97, 2), 5_000
    ramp = np.arange(count, dtype=np.float32)

    def write() -> None:
        at = 0
        while at < count:
            block = ramp[at : at + min(13, ring.free)]
            ring.write(np.stack([block, -block]))
            at += len(block)
            time.sleep(0)

    writer = threading.Thread(target=write)
    writer.start()
    got = [np.zeros((2, 0), np.float32)]
    while sum(part.shape[1] for part in got) < count:
        got.append(ring.read(min(11, ring.available)))
        time.sleep(0)
    writer.join()
    assert np.array_equal(np.concatenate(got, axis=1), np.stack([ramp, -ramp]))
