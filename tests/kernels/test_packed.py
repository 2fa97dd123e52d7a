"""Products with packed matrices against float64, and that company changes no bit of a vector's product."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backline.kernels.packed import multiply_one, multiply_vectors, pack, to_bfloat16


def rounded(values: np.ndarray, bfloat16: bool) -> np.ndarray:
    if not bfloat16:
        return values.astype(np.float64)
    return (to_bfloat16(values).astype(np.uint32) << 16).view(np.float32).astype(np.float64)


@pytest.mark.parametrize("bfloat16", [False, True])
@settings(deadline=None, max_examples=30)
@given(outputs=st.integers(1, 100), inputs=st.integers(1, 80), vectors=st.integers(1, 7))
def test_products_of_vectors(bfloat16: bool, outputs: int, inputs: int, vectors: int) -> None:
    rng = np.random.default_rng(outputs * inputs)
    matrix = rng.normal(size=(outputs, inputs)).astype(np.float32)
    padded_outputs, padded_inputs = -(-outputs // 32) * 32, -(-inputs // 16) * 16
    x = np.zeros((vectors, padded_inputs), np.float32)
    x[:, :inputs] = rng.normal(size=(vectors, inputs))
    y = np.full((vectors, padded_outputs), np.nan, np.float32)
    packed = pack(matrix, bfloat16)
    shape = (padded_outputs, padded_inputs)
    multiply_vectors(packed, 0, *shape, x.ravel(), 0, padded_inputs, y.reshape(-1), 0, padded_outputs, vectors)
    expected = x[:, :inputs].astype(np.float64) @ rounded(matrix, bfloat16).T
    np.testing.assert_allclose(y[:, :outputs], expected, atol=2e-5)
    assert (y[:, outputs:] == 0).all()
    for vector in range(vectors):
        alone = np.zeros(padded_outputs, np.float32)
        multiply_vectors(packed, 0, *shape, x[vector].copy(), 0, padded_inputs, alone, 0, padded_outputs, 1)
        np.testing.assert_array_equal(alone, y[vector])


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("used", [2, 30, 48])
def test_product_of_one_vector_with_the_first_inputs(bfloat16: bool, used: int) -> None:
    rng = np.random.default_rng(used)
    stack = rng.normal(size=(2, 128, 48)).astype(np.float32)
    x, y = rng.normal(size=48).astype(np.float32), np.zeros(128, np.float32)
    multiply_one(pack(stack, bfloat16), 128 * 48, 48, 128, used, x, 0, y, 0)
    np.testing.assert_allclose(y, rounded(stack[1, :, :used], bfloat16) @ x[:used], atol=2e-5)


def test_bfloat16_rounds_as_torch_does() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(size=2000), [0.0, -0.0, 1 + 2.0**-8, 1 + 3 * 2.0**-8, 3e38, 1e-40]])
    values = values.astype(np.float32)
    expected = torch.from_numpy(values).bfloat16().view(torch.int16).numpy().view(np.uint16)
    np.testing.assert_array_equal(to_bfloat16(values), expected)
