"""Overlap-add and cross-fades against the slow, obvious way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backline.kernels.overlap import Audio, OverlapAdd, crossfade


def naive_overlap_add(frames: list[Audio], window: Audio, hop: int) -> Audio:
    """Sum of weighed frames over the sum of windows, the whole signal at once."""
    length = (len(frames) - 1) * hop + len(window)
    total, weight = np.zeros((frames[0].shape[0], length)), np.zeros(length)
    for index, frame in enumerate(frames):
        place = slice(index * hop, index * hop + len(window))
        total[:, place] += window * frame
        weight[place] += window
    return (total / np.maximum(weight, 1e-6)).astype(np.float32)


@given(
    length=st.integers(1, 60), hop_share=st.floats(0, 1), channels=st.integers(1, 3), count=st.integers(1, 9),
    seed=st.integers(0, 999),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_overlap_add_equals_the_naive_sum(length: int, hop_share: float, channels: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    hop = max(1, round(hop_share * length))
    window = np.hanning(length + 2)[1:-1].astype(np.float32)
    frames = [rng.standard_normal((channels, length)).astype(np.float32) for _ in range(count)]
    adder = OverlapAdd(window, hop, channels)
    streamed = np.concatenate([*(adder.process(frame) for frame in frames), adder.flush()], axis=1)
    np.testing.assert_allclose(streamed, naive_overlap_add(frames, window, hop), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("hop", [64, 100, 128, 200])
def test_a_signal_cut_into_frames_comes_back(hop: int) -> None:
    window = np.hanning(258)[1:-1].astype(np.float32)
    signal = np.random.default_rng(1).standard_normal((2, 256 + 20 * hop)).astype(np.float32)
    adder = OverlapAdd(window, hop, 2)
    frames = [signal[:, i * hop : i * hop + 256] for i in range(21)]
    streamed = np.concatenate([*(adder.process(frame) for frame in frames), adder.flush()], axis=1)
    np.testing.assert_allclose(streamed, signal, atol=2e-6)


def test_a_flushed_adder_begins_anew() -> None:
    adder = OverlapAdd(np.ones(8, np.float32), 4, 1)
    frame = np.full((1, 8), 0.5, np.float32)
    first = adder.process(frame)
    adder.flush()
    assert np.array_equal(adder.process(frame), first)


def test_an_impossible_hop_or_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="hop is 9: use 1 to 8"):
        OverlapAdd(np.ones(8), 9, 1)
    with pytest.raises(ValueError, match=r"give \(1, 8\)"):
        OverlapAdd(np.ones(8), 4, 1).process(np.zeros((2, 8), np.float32))


def test_a_linear_fade_between_equal_signals_changes_nothing() -> None:
    signal = np.random.default_rng(2).standard_normal((2, 101)).astype(np.float32)
    np.testing.assert_allclose(crossfade(signal, signal, "linear"), signal, atol=1e-6)


def test_an_equal_power_fade_keeps_the_power_of_unrelated_signals() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((2, 1, 200_000)).astype(np.float32)
    power = crossfade(a, b).reshape(20, -1).var(axis=1)
    np.testing.assert_allclose(power, 1.0, atol=0.05)


@pytest.mark.parametrize("kind", ["equal_power", "linear"])
def test_a_fade_goes_from_a_to_b_one_way_and_mirrors(kind: str) -> None:
    ones, zeros = np.ones((1, 64), np.float32), np.zeros((1, 64), np.float32)
    falling, rising = crossfade(ones, zeros, kind), crossfade(zeros, ones, kind)  # type: ignore[arg-type]
    assert np.all(np.diff(falling[0]) < 0)
    np.testing.assert_allclose(falling[0, ::-1], rising[0], atol=1e-6)
    assert falling[0, 0] > 0.98
    assert falling[0, -1] < 0.02
