"""Positions against a slow oracle that keeps every sample by itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backline.engine.errors import BadInput
from backline.engine.timeline import InputTimeline, OutputTimeline, late_samples, zero_non_finite


def test_input_starts_anywhere_and_counts_what_is_missing() -> None:
    timeline = InputTimeline(1_000)
    assert timeline.gap_before(-5_000) == 0
    timeline.advance(100)
    assert timeline.end == -4_900
    assert timeline.gap_before(-4_900) == 0
    assert timeline.gap_before(-4_870) == 30


def test_input_that_goes_back_or_leaps_is_refused_with_the_numbers() -> None:
    timeline = InputTimeline(1_000)
    timeline.gap_before(0)
    timeline.advance(100)
    with pytest.raises(BadInput, match="position 99 goes back: input up to 100"):
        timeline.gap_before(99)
    with pytest.raises(BadInput, match="at most 60000 are filled"):
        timeline.gap_before(70_000)
    assert timeline.gap_before(100) == 0  # a refused block changes nothing


def test_what_is_not_finite_becomes_zero_and_is_counted() -> None:
    audio = np.array([[1.0, np.nan, 2.0], [np.inf, -np.inf, 3.0]], np.float32)
    clean, count = zero_non_finite(audio)
    assert count == 3
    assert clean.tolist() == [[1, 0, 2], [0, 0, 3]]
    same, none = zero_non_finite(clean)
    assert same is clean
    assert none == 0


class SampleByPosition:
    """The output timeline, one dictionary entry per sample."""

    def __init__(self) -> None:
        self.samples: dict[int, float] = {}
        self.committed, self.end, self.dropped, self.missing = 0, 0, 0, 0

    def lay(self, position: int, values: list[float]) -> None:
        new = {position + i: value for i, value in enumerate(values) if position + i >= self.committed}
        self.dropped += len(values) - len(new)
        overlap = [at for at in new if at < self.end]
        if new:
            for at in range(self.end, min(new)):
                self.samples[at] = 0.0
                self.missing += 1
        for order, at in enumerate(overlap):
            share = (order + 0.5) / len(overlap)
            new[at] = (1 - share) * self.samples[at] + share * new[at]
        self.samples.update(new)
        self.end = max([self.end, *(at + 1 for at in new)])

    def commit(self) -> list[float]:
        done = [self.samples[at] for at in range(self.committed, self.end)]
        self.committed = self.end
        return done


@given(
    chunks=st.lists(st.tuples(st.integers(-40, 12), st.integers(0, 40), st.booleans()), max_size=15),
    seed=st.integers(0, 99),
)
@settings(max_examples=200, deadline=None)
def test_output_is_laid_filled_and_committed_like_the_oracle(chunks: list[tuple[int, int, bool]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    timeline, oracle = OutputTimeline(2), SampleByPosition()
    for offset, count, commits in chunks:
        audio = rng.standard_normal((1, count)).astype(np.float32) * np.ones((2, 1), np.float32)
        position = max(0, oracle.end + offset)
        timeline.lay(position, audio)
        oracle.lay(position, audio[0].tolist())
        if commits:
            final = timeline.commit()
            expected = oracle.commit()
            assert final.shape == (2, len(expected))
            np.testing.assert_allclose(final[1], expected, atol=1e-6)
        assert (timeline.committed, timeline.end) == (oracle.committed, oracle.end)
        assert (timeline.dropped, timeline.missing) == (oracle.dropped, oracle.missing)


@given(
    position=st.integers(-50, 50), count=st.integers(0, 60), now=st.integers(-50, 200), latency=st.integers(0, 60)
)  # fmt: skip
def test_a_sample_is_late_if_it_should_have_been_played_before_now(
    position: int, count: int, now: int, latency: int
) -> None:
    expected = sum(sample + latency < now for sample in range(position, position + count))
    assert late_samples(position, count, now, latency) == expected
