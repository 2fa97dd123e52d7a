"""AlignedOutput gives each output at its host position, at one latency, whatever the blocks and their order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backline_client import AlignedOutput, Block
from backline_protos.v1 import backline_pb2 as pb

PORTS = [pb.OutputPort(name="band", channels=2), pb.OutputPort(name="bass", channels=1)]


def block(port: str, position: int, length: int) -> Block:
    """Samples that carry their own position, from 1 on; the second channel negated."""
    samples = np.arange(position + 1, position + 1 + length, dtype=np.float32)
    audio = np.stack([samples, -samples]) if port == "band" else samples[np.newaxis]
    return Block(port, position, audio, committed=position + length, sequence=0)


def test_output_comes_its_latency_after_the_input_it_belongs_to() -> None:
    output = AlignedOutput(PORTS, latency_samples=100)
    output.push(block("band", 0, 64))
    output.push(block("bass", 0, 64))
    played = output.pull(0, 164)
    assert not played["band"][:, :100].any()
    np.testing.assert_array_equal(played["band"][:, 100:], block("band", 0, 64).audio)
    np.testing.assert_array_equal(played["bass"][:, 100:], block("bass", 0, 64).audio)
    assert output.underrun_samples == 0


@settings(max_examples=60, deadline=None)
@given(
    pushes=st.lists(st.integers(1, 97), min_size=1, max_size=30),
    pulls=st.lists(st.integers(1, 97), min_size=1, max_size=60),
    latency=st.integers(0, 500),
    start=st.integers(-1000, 1000),
)
def test_any_split_gives_the_same_samples(pushes: list[int], pulls: list[int], latency: int, start: int) -> None:
    capacity = sum(pushes)
    output = AlignedOutput(PORTS[1:], latency, start=start, capacity_samples=capacity)
    position = start
    for length in pushes:
        output.push(block("bass", position, length))
        position += length
    host, played = start, []
    for count in pulls:
        played.append(output.pull(host, count)["bass"])
        host += count
    positions = np.arange(start, host) - latency
    expected = np.where((positions >= start) & (positions < position), positions + 1, 0)
    np.testing.assert_array_equal(np.concatenate(played, axis=1)[0], expected)
    assert output.underrun_samples == np.count_nonzero(positions >= position)
    assert output.late_samples == output.early_samples == 0


def test_what_is_missing_is_silence_and_counted_and_what_comes_too_late_is_not_played() -> None:
    output = AlignedOutput(PORTS[1:], latency_samples=10)
    output.push(block("bass", 0, 20))
    assert np.count_nonzero(output.pull(10, 30)["bass"]) == 20
    assert output.underrun_samples == 10
    output.push(block("bass", 20, 20))  # 20 to 29 should have been played
    assert output.late_samples == 10
    np.testing.assert_array_equal(output.pull(40, 10)["bass"][0], np.arange(31, 41))


def test_a_revision_replaces_what_has_not_been_played() -> None:
    output = AlignedOutput(PORTS[1:], latency_samples=0)
    output.push(block("bass", 0, 20))
    output.push(Block("bass", 10, np.full((1, 10), 7, np.float32), committed=20, sequence=1))
    np.testing.assert_array_equal(output.pull(0, 20)["bass"][0], [*range(1, 11), *[7] * 10])


def test_what_comes_further_ahead_than_there_is_room_is_counted() -> None:
    output = AlignedOutput(PORTS[1:], latency_samples=0, capacity_samples=16)
    output.push(block("bass", 0, 20))
    assert output.early_samples == 4
    np.testing.assert_array_equal(output.pull(0, 16)["bass"][0], np.arange(1, 17))


def test_skipped_output_does_not_come_back_a_lap_later() -> None:
    output = AlignedOutput(PORTS[1:], latency_samples=0, capacity_samples=16)
    output.push(block("bass", 0, 16))
    output.pull(12, 4)
    assert not output.pull(16, 12)["bass"].any()
    assert output.underrun_samples == 12


def test_positions_that_go_back_are_refused() -> None:
    output = AlignedOutput(PORTS[1:], latency_samples=0)
    output.pull(0, 10)
    with pytest.raises(ValueError, match="host position 5"):
        output.pull(5, 10)


@settings(max_examples=60, deadline=None)
@given(
    pieces=st.lists(st.tuples(st.booleans(), st.integers(1, 60)), min_size=1, max_size=8),
    pulls=st.lists(st.integers(1, 97), min_size=1, max_size=20),
    fade=st.integers(1, 16),
)
def test_gaps_begin_and_end_without_a_click_whatever_the_blocks(
    pieces: list[tuple[bool, int]], pulls: list[int], fade: int
) -> None:
    """Against the definition, sample by sample: the last sample dies away, what comes again fades in."""
    here = np.concatenate([np.full(length, there) for there, length in pieces])
    audio = np.random.default_rng(1).uniform(0.5, 1.0, here.size).astype(np.float32)
    output = AlignedOutput(PORTS[1:], 0, fade_samples=fade)
    at = 0
    for there, length in pieces:
        if there:
            output.push(Block("bass", at, audio[None, at : at + length], committed=at + length, sequence=0))
        at += length
    played, host = [np.zeros(0, np.float32)], 0
    for count in pulls:
        count = min(count, here.size - host)
        if count:
            played.append(output.pull(host, count)["bass"][0])
        host += count
    expected, last, missing, back, heard = np.zeros(host, np.float32), 0.0, fade, fade, False
    for index in range(host):
        if here[index]:
            if missing:
                back, missing = (0 if heard else fade), 0
            back = min(fade, back + 1)
            expected[index] = last = audio[index] * back / fade
            heard = True
        else:
            missing = min(fade, missing + 1)
            expected[index] = last * (1.0 - missing / fade)
    np.testing.assert_allclose(np.concatenate(played), expected, atol=1e-6)
    whole = np.maximum.accumulate(~here)[:host] == False  # noqa: E712, until the first gap all is as it came
    np.testing.assert_array_equal(np.concatenate(played)[whole], audio[:host][whole])
