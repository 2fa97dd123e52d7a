"""The figures of a codec's codes, and of its buzz."""

import numpy as np
import pytest
import torch

from backline.measures.codes import frame_correlation, perplexity


def test_perplexity_counts_the_entries_in_use() -> None:
    assert perplexity(torch.arange(16).repeat(3), 32) == pytest.approx(16)
    assert perplexity(torch.zeros(10, dtype=torch.int64), 32) == pytest.approx(1)


def test_buzz_is_heard_in_a_high_tone_of_the_frame_rate_and_not_in_noise() -> None:
    buzz = np.zeros(24_000, dtype=np.float32)
    buzz[::320] = 1
    noise = np.random.default_rng(0).standard_normal(24_000).astype(np.float32)
    assert frame_correlation(buzz, 320, 24_000) > 0.9
    assert abs(frame_correlation(noise, 320, 24_000)) < 0.1
