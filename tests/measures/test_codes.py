"""The figures of a codec's codes, and of its buzz."""

import math

import numpy as np
import pytest
import torch

from backline.measures.codes import entropy_bits, frame_correlation, perplexity, utilisation


def test_perplexity_counts_the_entries_in_use() -> None:
    assert perplexity(torch.arange(16).repeat(3), 32) == pytest.approx(16)
    assert perplexity(torch.zeros(10, dtype=torch.int64), 32) == pytest.approx(1)


def test_buzz_is_heard_in_a_high_tone_of_the_frame_rate_and_not_in_noise() -> None:
    buzz = np.zeros(24_000, dtype=np.float32)
    buzz[::320] = 1
    noise = np.random.default_rng(0).standard_normal(24_000).astype(np.float32)
    assert frame_correlation(buzz, 320, 24_000) > 0.9
    assert abs(frame_correlation(noise, 320, 24_000)) < 0.1


def test_entropy_is_corrected_by_miller_and_madow() -> None:
    """Four tokens, three of them one entry: .8113 bits by frequency, and (2 - 1) / (2 * 4) nats."""
    found = entropy_bits(torch.tensor([0, 0, 0, 2]), 8)
    assert found == pytest.approx(0.8113 + 0.125 / math.log(2), abs=1e-4)


def test_the_corrected_entropy_of_a_sample_is_nearer_to_the_truth() -> None:
    drawn = torch.randint(256, (1024,), generator=torch.Generator().manual_seed(0))
    plain = math.log2(perplexity(drawn, 256))
    assert abs(entropy_bits(drawn, 256) - 8) < 0.3 * abs(plain - 8)
    assert entropy_bits(torch.arange(16), 16) == 4, "and no more than even use"


def test_utilisation_counts_what_occurs() -> None:
    assert utilisation(torch.tensor([3, 3, 0]), 8) == 0.25
