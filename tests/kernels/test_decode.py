"""The fused decode step against an obvious float64 transformer, and that a row's numbers are its own."""

import math
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from backline.kernels import decode_step
from backline.kernels.decode import DecodeStage
from backline.kernels.decode_arrays import StageArrays, distance_buckets
from backline.kernels.packed import to_bfloat16
from backline.kernels.random import uniform_array
from backline.models.hafm.interleaved.config import SMALL
from backline.models.hafm.interleaved.decode import stage_arrays
from backline.models.hafm.interleaved.network import StageNetwork

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

WINDOW = 37  # no multiple of anything
SIZES = {  # dim, layers, heads, head dim, inner, vocabulary, quantizers
    "round": (64, 2, 2, 64, 96, 64, 4),
    "odd": (40, 3, 3, 20, 53, 37, 3),
    "one head, long": (16, 1, 1, 80, 16, 300, 1),
}


def random_arrays(size: str, seed: int = 0) -> StageArrays:
    """Weights that keep all parts of the network busy and logits far from equal."""
    dim, layers, heads, head_dim, inner, vocabulary, quantizers = SIZES[size]
    rng = np.random.default_rng(seed)

    def matrix(*shape: int) -> Floats:
        return (rng.normal(size=shape) / math.sqrt(shape[-1])).astype(np.float32)

    def scale(*shape: int) -> Floats:
        return rng.uniform(0.5, 1.5, size=shape).astype(np.float32)

    return StageArrays(
        norm1=scale(layers, dim),
        qkv=matrix(layers, 3 * heads * head_dim, dim),
        q_norm=scale(layers, head_dim),
        k_norm=scale(layers, head_dim),
        out=matrix(layers, dim, heads * head_dim),
        norm2=scale(layers, dim),
        gate=matrix(layers, inner, dim),
        up=matrix(layers, inner, dim),
        down=matrix(layers, dim, inner),
        norm=scale(dim),
        heads=3 * matrix(quantizers, vocabulary, dim),
        bias=rng.normal(size=(32, heads)).astype(np.float32),
        max_distance=64,
        tokens=rng.normal(size=(quantizers, vocabulary, dim)).astype(np.float32),
        begin=rng.normal(size=dim).astype(np.float32),
    )


def embeddings(size: str, positions: int, seed: int = 1) -> Floats:
    """[1, 2, position, dim]"""
    return np.random.default_rng(seed).normal(size=(1, 2, positions, SIZES[size][0])).astype(np.float32)


def as_bfloat16(values: Floats) -> Floats:
    """Rounded to bfloat16, in float32 again."""
    return (to_bfloat16(values).astype(np.uint32) << 16).view(np.float32)


@dataclass
class SlowBranch:
    """One branch of one row in float64, straight from the definition: all keys are kept, the last `window` are read."""

    arrays: StageArrays
    window: int
    keys: list[list[Doubles]] = field(default_factory=list)  # [layer][position] [head, head dim]
    values: list[list[Doubles]] = field(default_factory=list)

    def step(self, x: Floats, quantizer: int) -> Doubles:
        """Appends x [dim]; logits [vocabulary]."""
        a, h = self.arrays, x.astype(np.float64)
        heads, head_dim = a.bias.shape[1], a.q_norm.shape[1]
        for layer in range(len(a.norm1)):
            if layer == len(self.keys):
                self.keys.append([])
                self.values.append([])
            qkv = a.qkv[layer].astype(np.float64) @ self.norm(h, a.norm1[layer])
            q, k, v = qkv.reshape(3, heads, head_dim)
            self.keys[layer].append(self.norm(k, a.k_norm[layer]))
            self.values[layer].append(v)
            keys, values = (np.array(kept[layer][-self.window :]) for kept in (self.keys, self.values))
            scores = np.einsum("hd,shd->hs", self.norm(q, a.q_norm[layer]), keys) / math.sqrt(head_dim)
            distances = range(len(keys) - 1, -1, -1)
            scores += np.array([a.bias[slow_bucket(n, a.max_distance)] for n in distances]).T
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            weights /= weights.sum(axis=1, keepdims=True)
            h = h + a.out[layer] @ np.einsum("hs,shd->hd", weights, values).reshape(-1)
            y = self.norm(h, a.norm2[layer])
            gate = a.gate[layer] @ y
            phi = np.array([(1 + math.erf(g / math.sqrt(2))) / 2 for g in gate])
            h = h + a.down[layer] @ (gate * phi * (a.up[layer] @ y))
        return a.heads[quantizer] @ self.norm(h, a.norm)

    def norm(self, x: Doubles, scale: Floats) -> Doubles:
        return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + self.arrays.norm_epsilon) * scale


def slow_bucket(distance: int, max_distance: int) -> int:
    if distance < 16:
        return distance
    return min(31, 16 + math.floor(16 * math.log(distance / 16) / math.log(max_distance / 16)))


def slow_choice(logits: Doubles, temperature: float, top_k: int, u: float) -> int:
    """The token by sorting."""
    logits = logits / temperature
    if top_k:
        logits = np.where(logits >= np.sort(logits)[-top_k], logits, -np.inf)
    weights = np.exp(logits - logits.max())
    return int(np.argmax(np.cumsum(weights) > u * weights.sum()))


def run_both(arrays: StageArrays, reference: StageArrays, x: Floats, dtype: str) -> tuple[Floats, Doubles]:
    """Logits [position, 2, vocabulary] of the kernel with `arrays` and of the definition with `reference`."""
    stage = DecodeStage(arrays, 1, WINDOW, dtype)
    quantizers = len(arrays.heads)
    slow = [SlowBranch(reference, WINDOW) for _ in range(2)]
    got, expected = [], []
    for position in range(x.shape[2]):
        quantizer = position % quantizers
        got.append(stage.step([0], x[:, :, position], quantizer)[0])
        expected.append(np.stack([slow[branch].step(x[0, branch, position], quantizer) for branch in range(2)]))
    return np.stack(got), np.stack(expected)


@pytest.mark.parametrize("size", SIZES)
def test_float32_is_the_definition_over_three_wraps(size: str) -> None:
    arrays = random_arrays(size)
    got, expected = run_both(arrays, arrays, embeddings(size, 4 * WINDOW + 3), "float32")
    assert np.abs(got - expected).max() < 1e-5 * np.abs(expected).max()
    np.testing.assert_array_equal(got.argmax(-1), expected.argmax(-1))


@pytest.mark.parametrize("size", SIZES)
def test_bfloat16_is_the_definition_with_rounded_matrices_over_three_wraps(size: str) -> None:
    arrays = random_arrays(size)
    matrices = ("qkv", "out", "gate", "up", "down", "heads")
    rounded = StageArrays(**{**vars(arrays), **{name: as_bfloat16(getattr(arrays, name)) for name in matrices}})
    got, expected = run_both(arrays, rounded, embeddings(size, 4 * WINDOW + 3), "bfloat16")
    assert np.linalg.norm(got - expected) < 5e-3 * np.linalg.norm(expected)
    runner_up, best = np.sort(expected, axis=-1)[..., -2:].transpose(2, 0, 1)
    decided = best - runner_up > 1e-2 * np.abs(expected).max()  # the rounded cache may swap near equals
    assert decided.mean() > 0.7
    np.testing.assert_array_equal(got.argmax(-1)[decided], expected.argmax(-1)[decided])


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 5e-3)])
def test_a_stage_is_its_torch_network_over_three_wraps(dtype: str, tolerance: float) -> None:
    """At the small sizes but for the window. In bfloat16 both have the same, rounded, matrices."""
    torch.manual_seed(0)
    config = replace(SMALL.coarse, window=48, max_distance=48)
    network = StageNetwork(config).eval().requires_grad_(False)
    if dtype == "bfloat16":
        for matrix in network.parameters():
            matrix.data = torch.from_numpy(as_bfloat16(matrix.numpy())) if matrix.dim() > 1 else matrix
    x = network.embed_prediction(torch.randint(config.vocabulary, (2, 4 * 48 + 3)), first=1)
    expected = (network.transformer(x) @ network.heads[0].T).numpy()
    stage = DecodeStage(stage_arrays(network), 1, config.window, dtype)
    got = np.stack([stage.step([0], x[None, :, n].numpy())[0] for n in range(x.shape[1])], axis=1)
    assert np.abs(got - expected).max() < tolerance * np.abs(expected).max()
    runner_up, best = np.sort(expected, axis=-1)[..., -2:].transpose(2, 0, 1)
    decided = best - runner_up > 2 * np.abs(got - expected).max()  # nearer ones may swap
    assert decided.mean() > 0.9
    np.testing.assert_array_equal(got.argmax(-1)[decided], expected.argmax(-1)[decided])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@settings(deadline=None, max_examples=15)
@given(cuts=st.lists(st.integers(1, 45), min_size=1, max_size=5))
def test_prefill_is_one_step_after_the_other_to_the_bit(dtype: str, cuts: list[int]) -> None:
    arrays, x = random_arrays("odd"), embeddings("odd", sum(cuts))
    stage = DecodeStage(arrays, 2, WINDOW, dtype)
    for position in range(sum(cuts)):
        stage.step([0], x[:, :, position])
    for start, length in zip(np.cumsum([0, *cuts]), cuts, strict=False):
        stage.prefill([1], x[:, :, start : start + length])
    one_by_one, at_once = stage.snapshot(0), stage.snapshot(1)
    np.testing.assert_array_equal(one_by_one.keys, at_once.keys)
    np.testing.assert_array_equal(one_by_one.values, at_once.values)
    assert one_by_one.position == at_once.position == sum(cuts)


def test_generate_embeds_guides_and_samples_by_the_definition() -> None:
    size, seed, steps = "odd", 11, 60
    arrays = random_arrays(size)
    dim, quantizers = SIZES[size][0], len(arrays.heads)
    x = embeddings(size, 5)
    clock = np.random.default_rng(2).normal(size=(1, steps // quantizers + 1, dim)).astype(np.float32)
    slow = [SlowBranch(arrays, WINDOW) for _ in range(2)]
    for branch in range(2):
        for position in range(x.shape[2]):
            slow[branch].step(x[0, branch, position], 0)
    expected = []
    for n in range(steps):
        own = (n - 1) % quantizers
        inputs = (arrays.tokens[own, expected[-1]] if n else arrays.begin) + clock[0, n // quantizers]
        conditioned, unconditioned = (slow[branch].step(inputs, n % quantizers) for branch in range(2))
        guided = unconditioned + 2.5 * (conditioned - unconditioned)
        expected.append(slow_choice(guided, 0.8, 9, float(uniform_array(seed, 3, [n])[0])))

    stage = DecodeStage(arrays, 1, WINDOW, "float32", stage=3)
    stage.reset(0, seed)
    stage.prefill([0], x)
    options = {"guidance": 2.5, "temperature": 0.8, "top_k": 9}
    first = stage.generate([0], 22, clock=clock[:, :8], **options)  # ends within frame 7
    rest = stage.generate([0], steps - 22, clock=clock[:, 7:], **options)
    assert [*first[0], *rest[0]] == expected


def test_temperature_zero_takes_the_likeliest() -> None:
    arrays = random_arrays("round")
    stage = DecodeStage(arrays, 2, WINDOW, "float32")
    token = stage.generate([0], 1, guidance=1.0, temperature=0.0)[0, 0]
    logits = stage.step([1], np.stack([arrays.begin, arrays.begin])[None])
    assert token == logits[0, 0].argmax()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_shares_the_batch_changes_no_bit(dtype: str) -> None:
    arrays, x = random_arrays("round"), embeddings("round", 20)
    alone, company = DecodeStage(arrays, 1, WINDOW, dtype), DecodeStage(arrays, 3, WINDOW, dtype)
    alone.reset(0, seed=1)
    alone.prefill([0], x)
    expected = alone.generate([0], 80, guidance=3.0, temperature=0.9, top_k=20)
    company.reset(0, seed=2)
    company.reset(1, seed=3)
    company.reset(2, seed=1)
    company.prefill([2, 0], np.concatenate([x, embeddings("round", 20, seed=5)]))
    options = {"guidance": [1.0, 3.0, 7.0], "temperature": [0.5, 0.9, 2.0], "top_k": [0, 20, 3]}
    first = company.generate([0, 2, 1], [50, 30, 7], **options)[1, :30]
    rest = company.generate([1, 2, 0], [60, 50, 3], **{k: [v[2], v[1], v[0]] for k, v in options.items()})[1, :50]
    np.testing.assert_array_equal(np.concatenate([first, rest]), expected[0])
    saved, other = alone.snapshot(0), company.snapshot(2)
    np.testing.assert_array_equal(saved.keys, other.keys)
    np.testing.assert_array_equal(saved.values, other.values)


def test_a_row_that_is_through_or_absent_does_not_move() -> None:
    stage = DecodeStage(random_arrays("odd"), 3, WINDOW)
    for row in range(3):
        stage.reset(row, seed=row)
        stage.prefill([row], embeddings("odd", 4))
    absent = stage.snapshot(2)
    tokens = stage.generate([0, 1], [3, 8])
    assert (tokens[0, 3:] == -1).all()
    assert (tokens[1] >= 0).all()
    assert [stage.position(row) for row in range(3)] == [7, 12, 4]
    np.testing.assert_array_equal(stage.snapshot(2).keys, absent.keys)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_restored_row_goes_on_as_the_saved_one(dtype: str) -> None:
    stage = DecodeStage(random_arrays("odd"), 2, WINDOW, dtype)
    stage.reset(0, seed=9)
    stage.generate([0], 50)
    saved = stage.snapshot(0)
    expected = stage.generate([0], 50)
    stage.reset(1, seed=4)
    stage.generate([1], 20)
    stage.restore(1, saved)
    np.testing.assert_array_equal(stage.generate([1], 50), expected)


def test_a_reset_row_remembers_nothing() -> None:
    stage = DecodeStage(random_arrays("odd"), 1, WINDOW)
    stage.reset(0, seed=9)
    expected = stage.generate([0], 60)
    stage.reset(0, seed=9)
    np.testing.assert_array_equal(stage.generate([0], 60), expected)


def test_generation_leaves_the_interpreter_to_others() -> None:
    """A counting thread must get on while `generate` runs nearly as fast as while the machine does nothing."""
    stage = DecodeStage(random_arrays("round"), 1, WINDOW)
    stage.generate([0], 1)
    counted, done = [0], threading.Event()

    def count() -> None:
        while not done.is_set():
            counted[0] += 1

    def counts_per_second(work: Callable[[], object]) -> float:
        before, start = counted[0], time.perf_counter()
        work()
        return (counted[0] - before) / (time.perf_counter() - start)

    counter = threading.Thread(target=count)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-3)
    try:
        counter.start()
        undisturbed = counts_per_second(lambda: time.sleep(0.2))
        generating = counts_per_second(lambda: stage.generate([0], 8000))
    finally:
        done.set()
        counter.join()
        sys.setswitchinterval(interval)
    assert generating > 0.1 * undisturbed  # with the lock held it would be a hundredth at most


def test_buckets_are_exact_up_close_and_logarithmic_beyond() -> None:
    distances = np.arange(2000)
    for max_distance in (64, 512, 1000):
        expected = [slow_bucket(n, max_distance) for n in distances]
        np.testing.assert_array_equal(distance_buckets(distances, 32, max_distance), expected)


def test_any_kind_of_array_is_taken_without_compiling_again() -> None:
    stage = DecodeStage(random_arrays("odd"), 2, WINDOW)
    x = embeddings("odd", 6)
    stage.prefill([0], x)
    stage.generate([0], 3, clock=np.zeros((1, 2, 40), np.float32))
    before = [len(function.overloads) for function in (decode_step.prefill, decode_step.generate)]
    frozen = np.asfortranarray(x.astype(np.float64))
    frozen.setflags(write=False)
    stage.prefill([1], frozen)
    stage.generate([1], 3, clock=np.broadcast_to(np.zeros(40, np.float32), (1, 2, 40)))
    np.testing.assert_array_equal(stage.snapshot(0).keys, stage.snapshot(1).keys)
    assert before == [len(function.overloads) for function in (decode_step.prefill, decode_step.generate)]


def test_wrong_calls_are_told_what_to_do() -> None:
    arrays = random_arrays("odd")
    with pytest.raises(ValueError, match="use 'float32' or 'bfloat16'"):
        DecodeStage(arrays, 1, WINDOW, "float16")  # type: ignore[arg-type]
    stage = DecodeStage(arrays, 2, WINDOW)
    with pytest.raises(ValueError, match="at most once"):
        stage.generate([0, 0], 1)
    with pytest.raises(ValueError, match="use 0 to 1"):
        stage.reset(2)
    with pytest.raises(ValueError, match=r"use \[1, 2, 3, 40\]"):
        stage.prefill([0], np.zeros((1, 1, 3, 40), np.float32))
    with pytest.raises(ValueError, match="clock"):
        stage.generate([0], 4, clock=np.zeros((1, 1, 40), np.float32))
