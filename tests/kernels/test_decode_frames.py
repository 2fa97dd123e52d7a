"""All codebooks at every position, with delays: the fused step against torch layers with the definition around them."""

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from backline.kernels import decode_step
from backline.kernels.decode import DecodeStage
from backline.kernels.decode_arrays import StageArrays
from backline.kernels.packed import to_bfloat16
from backline.kernels.random import uniform_array
from backline.models.hafm.interleaved.config import TINY
from backline.models.hafm.interleaved.decode import stage_arrays
from backline.models.hafm.interleaved.network import StageNetwork
from backline.nn.transformer import Transformer

Floats = NDArray[np.float32]
Tokens = NDArray[np.int32]

WINDOW = 37  # no multiple of anything
WRAPS = 4 * WINDOW + 3  # positions
DIM = 40
DELAYS = {"one codebook": [0], "all at once": [0, 0, 0], "one after the other": [0, 1, 2, 3, 4], "any": [3, 0, 7, 3]}


def random_stage(delays: list[int], bfloat16: bool = False) -> tuple[Transformer, StageArrays]:
    """Torch layers and the whole stage with the same weights, which keep logits far from equal.

    With `bfloat16` the matrices are numbers that bfloat16 holds, so that both sides still have the same.
    """
    rng = np.random.default_rng(len(delays))
    config = replace(
        TINY.coarse,
        quantizers=len(delays),
        vocabulary=53,
        width=DIM,
        heads=3,
        head_width=20,
        window=WINDOW,
        max_distance=64,
    )
    network = StageNetwork(config).eval().requires_grad_(False)
    for parameter in network.parameters():
        if parameter.dim() > 1:
            values = rng.normal(size=parameter.shape) / np.sqrt(parameter.shape[-1])
            parameter.data = torch.from_numpy(as_bfloat16(values) if bfloat16 else values.astype(np.float32))
        else:
            parameter.data = torch.from_numpy(rng.uniform(0.5, 1.5, size=parameter.shape).astype(np.float32))
    begin = rng.normal(size=(len(delays), DIM)).astype(np.float32)
    arrays = stage_arrays(network)
    heads = 4 * arrays.heads
    return network.transformer, replace(arrays, heads=heads, begin=begin, delays=np.array(delays, np.int64))


def as_bfloat16(values: NDArray[np.float64]) -> Floats:
    """Rounded to bfloat16, in float32 again."""
    return (to_bfloat16(values.astype(np.float32)).astype(np.uint32) << 16).view(np.float32)


def random_conditions(steps: int, branches: int = 2, seed: int = 1) -> Floats:
    """[1, branch, step, dim]"""
    return np.random.default_rng(seed).normal(size=(1, branches, steps, DIM)).astype(np.float32)


class Slow:
    """One row by the definition."""

    def __init__(self, layers: Transformer, arrays: StageArrays) -> None:
        self.layers, self.arrays = layers, arrays
        self.cache = layers.init_state(2)
        self.tokens: list[list[int]] = []  # [step][codebook]

    @torch.inference_mode()
    def logits(self, conditions: Floats) -> Floats:
        """[codebook, 2, vocabulary] of the next step, under conditions [2, dim]."""
        x = conditions.copy()
        for k in range(len(self.arrays.heads)):
            last = self.tokens[-1][k] if self.tokens else -1
            x += self.arrays.begin[k] if last < 0 else self.arrays.tokens[k, last]
        hidden = self.layers.step_(torch.from_numpy(x)[:, None], self.cache)[:, 0].numpy()
        return np.einsum("kvd,bd->kbv", self.arrays.heads, hidden)

    def begun(self, codebook: int) -> bool:
        assert self.arrays.delays is not None
        return len(self.tokens) >= self.arrays.delays[codebook]


def chosen(logits: Floats, temperature: float, top_k: int, u: float) -> int:
    """The token by sorting."""
    scaled = logits.astype(np.float64) / temperature
    if top_k:
        scaled = np.where(scaled >= np.sort(scaled)[-top_k], scaled, -np.inf)
    weights = np.exp(scaled - scaled.max())
    return int(np.argmax(np.cumsum(weights) > u * weights.sum()))


def last_logits(stage: DecodeStage) -> Floats:
    """[2, vocabulary] of the codebook that a stage with one row drew last."""
    return stage._scratch.logits.reshape(-1, stage.shape.padded_vocabulary)[:2, : stage.shape.vocabulary].copy()


@pytest.mark.parametrize("delays", DELAYS.values(), ids=DELAYS)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 5e-3)])
def test_the_likeliest_tokens_are_those_of_torch_over_three_wraps(
    dtype: Literal["float32", "bfloat16"], tolerance: float, delays: list[int]
) -> None:
    """Torch goes on with the kernel's tokens, so that near equals, which rounding may swap, stay single cases."""
    layers, arrays = random_stage(delays, dtype == "bfloat16")
    slow, stage = Slow(layers, arrays), DecodeStage(arrays, 1, WINDOW, dtype)
    conditions = random_conditions(WRAPS)
    got, expected, decided = [], [], []
    for step in range(WRAPS):
        tokens = stage.generate_frames([0], conditions[:, :, step : step + 1], guidance=2.5, temperature=0.0)[0, 0]
        logits = slow.logits(conditions[0, :, step])
        guided = logits[:, 1] + np.float32(2.5) * (logits[:, 0] - logits[:, 1])
        for k in range(len(delays)):
            assert (tokens[k] >= 0) == slow.begun(k)
            runner_up, best = np.sort(guided[k])[-2:]
            decided.append(best - runner_up > 10 * tolerance * np.abs(guided).max())
            if decided[-1] and slow.begun(k):
                assert tokens[k] == guided[k].argmax()
        got.append(last_logits(stage))
        expected.append(logits[-1])
        slow.tokens.append(tokens.tolist())
    assert np.mean(decided) > (0.99 if dtype == "float32" else 0.6)
    assert np.linalg.norm(np.subtract(got, expected)) < tolerance * np.linalg.norm(expected)


@pytest.mark.parametrize("delays", DELAYS.values(), ids=DELAYS)
def test_tokens_are_guided_and_drawn_by_the_definition(delays: list[int]) -> None:
    layers, arrays = random_stage(delays)
    seed, count = 11, len(delays)
    slow, stage = Slow(layers, arrays), DecodeStage(arrays, 1, WINDOW, "float32", stage=3)
    conditions = random_conditions(60)
    for step in range(60):
        logits = slow.logits(conditions[0, :, step])
        u = uniform_array(seed, 3, step * count + np.arange(count))
        guided = logits[:, 1] + 2.5 * (logits[:, 0] - logits[:, 1])
        slow.tokens.append([chosen(guided[k], 0.8, 9, float(u[k])) if slow.begun(k) else -1 for k in range(count)])
    stage.reset(0, seed)
    tokens = stage.generate_frames([0], conditions, guidance=2.5, temperature=0.8, top_k=9)
    assert tokens.dtype == np.int32
    np.testing.assert_array_equal(tokens[0], slow.tokens)


@pytest.mark.parametrize("branches", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@settings(deadline=None, max_examples=10)
@given(cuts=st.lists(st.integers(0, 45), min_size=1, max_size=5))
def test_cutting_the_steps_into_calls_changes_nothing(
    dtype: Literal["float32", "bfloat16"], branches: Literal[1, 2], cuts: list[int]
) -> None:
    _, arrays = random_stage(DELAYS["any"])
    stage = DecodeStage(arrays, 2, WINDOW, dtype, branches=branches)
    conditions = random_conditions(sum(cuts), branches)
    for row in range(2):
        stage.reset(row, seed=4)
    whole = stage.generate_frames([0], conditions, top_k=20)
    pieces = np.split(conditions, np.cumsum(cuts), axis=2)
    cut = np.concatenate([stage.generate_frames([1], piece, top_k=20) for piece in pieces], axis=1)
    np.testing.assert_array_equal(whole, cut)
    np.testing.assert_array_equal(stage.snapshot(0).keys, stage.snapshot(1).keys)


@pytest.mark.parametrize("branches", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_shares_the_call_changes_no_bit(dtype: Literal["float32", "bfloat16"], branches: Literal[1, 2]) -> None:
    _, arrays = random_stage(DELAYS["any"])
    guidance = [3.0, 1.0, 7.0] if branches == 2 else [1.0, 1.0, 1.0]
    alone = DecodeStage(arrays, 1, WINDOW, dtype, branches=branches)
    company = DecodeStage(arrays, 3, WINDOW, dtype, branches=branches)
    own = random_conditions(80, branches)
    alone.reset(0, seed=1)
    expected = alone.generate_frames([0], own, guidance=guidance[0], temperature=0.9, top_k=20)[0]
    for row, seed in enumerate([2, 3, 1]):
        company.reset(row, seed)
    others = random_conditions(80, branches, seed=6)
    first = company.generate_frames(
        [0, 2, 1],
        np.concatenate([others, own, others])[:, :, :30],
        steps=[17, 30, 0],
        guidance=[guidance[2], guidance[0], guidance[1]],
        temperature=[0.5, 0.9, 2.0],
        top_k=[0, 20, 3],
    )
    assert (first[0, 17:] == -1).all()
    assert (first[2] == -1).all()
    assert [company.position(row) for row in range(3)] == [17, 0, 30]
    conditions = np.concatenate([own, others])[:, :, 30:]
    rest = company.generate_frames([2, 1], conditions, guidance=guidance[:2], temperature=0.9, top_k=20)
    np.testing.assert_array_equal(np.concatenate([first[1], rest[0]]), expected)
    np.testing.assert_array_equal(alone.snapshot(0).keys, company.snapshot(2).keys)
    np.testing.assert_array_equal(alone.snapshot(0).values, company.snapshot(2).values)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_without_guidance_one_branch_is_as_good_as_two(dtype: Literal["float32", "bfloat16"]) -> None:
    _, arrays = random_stage(DELAYS["any"])
    one, two = (DecodeStage(arrays, 1, WINDOW, dtype, branches=branches) for branches in (1, 2))
    conditions = random_conditions(WRAPS)
    tokens = one.generate_frames([0], conditions[:, :1], guidance=1.0, top_k=30)
    np.testing.assert_array_equal(tokens, two.generate_frames([0], conditions, guidance=1.0, top_k=30))
    assert 2 * one.snapshot(0).keys.nbytes == two.snapshot(0).keys.nbytes


def test_one_branch_also_prefills_steps_and_predicts_token_after_token() -> None:
    _, arrays = random_stage([0, 0])
    arrays = replace(arrays, delays=None, begin=arrays.begin[0])
    one, two = (DecodeStage(arrays, 2, WINDOW, "float32", branches=branches) for branches in (1, 2))
    x = random_conditions(20)
    one.prefill([1], x[:, :1])
    two.prefill([1], x)
    tokens = one.generate([0, 1], 30, temperature=0.0)
    np.testing.assert_array_equal(tokens, two.generate([0, 1], 30, temperature=0.0))
    both = np.concatenate([x[:, :, 0], x[:, :, 1]])
    logits = one.step([0, 1], both[:, :1], quantizer=1)
    np.testing.assert_array_equal(logits, two.step([0, 1], both, quantizer=1)[:, :1])


def test_a_prefilled_row_predicts_after_what_it_was_given() -> None:
    layers, arrays = random_stage(DELAYS["any"])
    slow, stage = Slow(layers, arrays), DecodeStage(arrays, 1, WINDOW, "float32")
    x, conditions = random_conditions(20, seed=3), random_conditions(1)
    with torch.inference_mode():
        layers.step_(torch.from_numpy(x[0]), slow.cache)
    stage.prefill([0], x)
    token = stage.generate_frames([0], conditions, temperature=0.0)[0, 0, 1]
    assert token == slow.logits(conditions[0, :, 0])[1, 0].argmax()


def test_tokens_follow_the_seed() -> None:
    stage = DecodeStage(random_stage(DELAYS["any"])[1], 3, WINDOW, branches=1)
    for row, seed in enumerate([9, 9, 10]):
        stage.reset(row, seed)
    tokens = stage.generate_frames([0, 1, 2], np.repeat(random_conditions(40, 1), 3, axis=0))
    np.testing.assert_array_equal(tokens[0], tokens[1])
    assert (tokens[0] != tokens[2]).any()


@pytest.mark.parametrize("played", [0, 2, 5, 50])  # before, within and after the beginning of the codebooks
def test_a_restored_row_goes_on_as_the_saved_one(played: int) -> None:
    stage = DecodeStage(random_stage(DELAYS["any"])[1], 2, WINDOW)
    stage.reset(0, seed=9)
    stage.generate_frames([0], random_conditions(played))
    saved = stage.snapshot(0)
    expected = stage.generate_frames([0], random_conditions(50, seed=2))
    stage.reset(1, seed=4)
    stage.generate_frames([1], random_conditions(20))
    stage.restore(1, saved)
    np.testing.assert_array_equal(stage.generate_frames([1], random_conditions(50, seed=2)), expected)


def test_a_reset_row_remembers_nothing() -> None:
    stage = DecodeStage(random_stage(DELAYS["any"])[1], 1, WINDOW)
    stage.reset(0, seed=9)
    expected = stage.generate_frames([0], random_conditions(60))
    stage.reset(0, seed=9)
    np.testing.assert_array_equal(stage.generate_frames([0], random_conditions(60)), expected)


def test_any_kind_of_array_is_taken_without_compiling_again() -> None:
    stage = DecodeStage(random_stage(DELAYS["any"])[1], 2, WINDOW)
    conditions = random_conditions(6)
    expected = stage.generate_frames([0], conditions)
    before = len(decode_step.generate_frames.overloads)
    frozen: Any = np.asfortranarray(conditions.astype(np.float64))
    frozen.setflags(write=False)
    np.testing.assert_array_equal(stage.generate_frames([1], frozen, guidance=[1]), expected)
    assert len(decode_step.generate_frames.overloads) == before


def test_wrong_calls_are_told_what_to_do() -> None:
    _, arrays = random_stage(DELAYS["any"])
    stage = DecodeStage(arrays, 2, WINDOW, branches=1)
    with pytest.raises(ValueError, match=r"use \[1, 1, 3, 40\]"):
        stage.generate_frames([0], random_conditions(3))
    with pytest.raises(ValueError, match=r"guidance is \[3.0\] .* use 1, or branches=2"):
        stage.generate_frames([0], random_conditions(3, 1), guidance=3.0)
    with pytest.raises(ValueError, match=r"steps are \[4\]: use 0 to 3"):
        stage.generate_frames([0], random_conditions(3, 1), steps=4)
    with pytest.raises(ValueError, match="use generate_frames"):
        stage.generate([0], 4)
    with pytest.raises(ValueError, match="3 branches: use 2, or 1"):
        DecodeStage(arrays, 2, WINDOW, branches=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="use 0 or more for each of 4 heads"):
        DecodeStage(replace(arrays, delays=np.array([0, -1, 0, 0])), 2, WINDOW)
    with pytest.raises(ValueError, match=r"begin has shape \[40\]: use \[4, 40\]"):
        DecodeStage(replace(arrays, begin=arrays.begin[0]), 2, WINDOW)
    flat = replace(arrays, delays=None, begin=arrays.begin[0])
    with pytest.raises(ValueError, match="use generate, or give its arrays delays"):
        DecodeStage(flat, 2, WINDOW).generate_frames([0], random_conditions(3))
