"""The transformer: bias and window by distance, and stepping over the ring equal to the whole sequence at once."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backline.nn.ring import RingCache
from backline.nn.transformer import Transformer, TransformerConfig, relative_bucket
from tests.support.contract import verify_streaming_contract

CONFIG = TransformerConfig(
    layers=3,
    width=24,
    heads=3,
    head_width=8,
    feed_forward=40,
    buckets=32,
    max_distance=60,
    window=16,
    norm_epsilon=1e-6,
)


@pytest.fixture(scope="module")
def transformer() -> Transformer:
    return make(CONFIG)


def make(config: TransformerConfig) -> Transformer:
    """A transformer whose bias matters."""
    torch.manual_seed(0)
    network = Transformer(config).eval().requires_grad_(False)
    network.bias.normal_()
    return network


def stepped(network: Transformer, x: torch.Tensor, blocks: list[int], state: RingCache) -> torch.Tensor:
    """Output of `x` stepped in blocks of the given lengths, then one by one."""
    outputs, position = [], 0
    while position < x.shape[1]:
        length = blocks.pop(0) if blocks else 1
        y, state = network.step(x[:, position : position + length], state)
        outputs.append(y)
        position += length
    return torch.cat(outputs, dim=1)


def test_buckets_are_those_of_the_specification() -> None:
    def oracle(n: int, max_distance: int) -> int:
        return n if n < 16 else min(31, 16 + math.floor(16 * math.log(n / 16) / math.log(max_distance / 16)))

    for max_distance in (500, 900, 1000, 1500):
        expected = [oracle(n, max_distance) for n in range(2000)]
        assert relative_bucket(torch.arange(2000), 32, max_distance).tolist() == expected


def test_the_bias_is_the_table_by_distance_within_the_window(transformer: Transformer) -> None:
    block = 5
    strip = transformer.strip_bias(CONFIG.window, block)
    assert strip.shape == (CONFIG.heads, block, CONFIG.window + block)
    for query in range(block):
        for key in range(CONFIG.window + block):
            distance = CONFIG.window + query - key
            if 0 <= distance < CONFIG.window:
                bucket = relative_bucket(torch.tensor(distance), CONFIG.buckets, CONFIG.max_distance)
                assert torch.equal(strip[:, query, key], transformer.bias[bucket])
            else:
                assert (strip[:, query, key] == -math.inf).all()


def test_one_block_is_the_formula() -> None:
    network = make(replace(CONFIG, layers=1, window=100))
    block = network.blocks[0]
    x = torch.randn(1, 12, CONFIG.width)

    def norm(values: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
        return values / (values.square().mean(-1, keepdim=True) + CONFIG.norm_epsilon).sqrt() * gain

    q, k, v = (norm(x, block.norm1.weight) @ block.qkv.weight.T).split(CONFIG.width, dim=-1)
    heads = []
    for head in range(CONFIG.heads):
        part = slice(head * 8, head * 8 + 8)
        scores = norm(q[0, :, part], block.q_norm.weight) @ norm(k[0, :, part], block.k_norm.weight).T / math.sqrt(8)
        heads.append((scores + network.strip_bias(12, 12)[head, :, 12:]).softmax(-1) @ v[0, :, part])
    y = x + torch.cat(heads, -1) @ block.out.weight.T
    z = norm(y, block.norm2.weight)
    gelu = torch.nn.functional.gelu(z @ block.gate.weight.T)
    y = y + (gelu * (z @ block.up.weight.T)) @ block.down.weight.T
    torch.testing.assert_close(network(x), norm(y, network.norm.weight), atol=1e-5, rtol=0)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(1, 40), max_size=6))
def test_stepping_equals_the_windowed_whole_over_three_wraps(blocks: list[int]) -> None:
    network = make(CONFIG)
    x = torch.randn(2, 4 * CONFIG.window + 3, CONFIG.width)
    y = stepped(network, x, blocks, network.init_state(2))
    torch.testing.assert_close(y, network(x), atol=1e-5, rtol=0)


def test_an_idle_row_does_not_move(transformer: Transformer) -> None:
    x = torch.randn(2, 30, CONFIG.width)
    _, state = transformer.step(x, transformer.init_state(2))
    _, moved = transformer.step(torch.randn(2, 20, CONFIG.width), state, mask=torch.tensor([True, False]))
    assert torch.equal(moved.keys[1], state.keys[1])
    assert torch.equal(moved.values[1], state.values[1])
    assert moved.offset.tolist() == [50, 30]
    assert not torch.equal(moved.keys[0], state.keys[0])


def test_rows_out_of_step_do_not_know_each_other(transformer: Transformer) -> None:
    x = torch.randn(2, 50, CONFIG.width)
    state = transformer.init_state(2)
    _, state = transformer.step(x[:, :7], state, mask=torch.tensor([True, False]))
    late = torch.stack([x[0, 7:27], x[1, :20]])
    y, state = transformer.step(late, state)
    whole = transformer(x)
    torch.testing.assert_close(y[0], whole[0, 7:27], atol=1e-5, rtol=0)
    torch.testing.assert_close(y[1], whole[1, :20], atol=1e-5, rtol=0)


def test_the_ring_says_which_position_each_slot_holds() -> None:
    ring = RingCache.empty(rows=2, layers=1, heads=1, capacity=4, head_width=1)
    for position in range(6):
        value = torch.full((2, 1, 1, 1), float(position))
        mask = torch.tensor([True, position < 3])
        ring.write_(0, value, value, mask)
        ring.advance_(1, mask)
    assert ring.positions()[0].tolist() == [4, 5, 2, 3]
    assert ring.keys[0, 0, 0, :, 0].tolist() == [4, 5, 2, 3]
    assert ring.positions()[1].tolist() == [0, 1, 2, -1]


def test_a_reset_row_starts_over(transformer: Transformer) -> None:
    x = torch.randn(2, 30, CONFIG.width)
    _, state = transformer.step(x, transformer.init_state(2))
    state.reset_(1)
    y, _ = transformer.step(x[:, :5], state)
    fresh, _ = transformer.step(x[:, :5], transformer.init_state(2))
    assert torch.equal(y[1], fresh[1])


def test_it_keeps_the_streaming_contract() -> None:
    network = make(replace(CONFIG, layers=2, window=6))
    verify_streaming_contract(network, lambda rows, steps: torch.randn(rows, steps, CONFIG.width), blocks=30)
