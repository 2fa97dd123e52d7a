"""The one verifier of the streaming contract: what every layer, codec and model that streams must hold."""

from __future__ import annotations

import copy
import dataclasses
import io
import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from backline.codecs.base import Codec, SemanticEncoder
from backline.nn.streaming import Streaming, delay

MakeInput = Callable[[int, int], Tensor]  # (rows, steps) -> a random signal with that many steps on the time axis


def verify_streaming_contract(
    layer: Streaming[Any],
    make_input: MakeInput,
    *,
    blocks: int = 12,
    tolerance: float = 1e-5,
    seed: int = 0,
) -> None:
    """Checks everything that `Streaming` promises.

    Args:
        layer: in eval mode, with random weights (zeros would hide what an output depends on).
        make_input: gives signals; called with whole numbers of `layer.min_block` steps.
        blocks: length of the test signals in smallest blocks; more than the latency, or nothing would be compared.
        tolerance: largest difference of floating outputs; integers must be equal.
        seed: of the block splits and of torch.
    """
    torch.manual_seed(seed)
    choose = random.Random(seed)
    with torch.no_grad():
        verify_step_equals_forward(layer, make_input, blocks, tolerance, choose)
        verify_later_input_is_not_heard(layer, make_input, blocks, tolerance, choose)
        verify_rows_are_independent(layer, make_input, blocks, tolerance, choose)
        verify_idle_rows_stand_still(layer, make_input, blocks, tolerance, choose)
        verify_state_saves_and_restores(layer, make_input, blocks, choose)
    if layer.receptive_field:
        verify_receptive_field(layer, make_input, tolerance)


def verify_step_equals_forward(
    layer: Streaming[Any], make_input: MakeInput, blocks: int, tolerance: float, choose: random.Random
) -> None:
    x = make_input(2, blocks * layer.min_block)
    expected = layer(x)
    axis = layer.time_axis
    assert expected.shape[axis] == x.shape[axis] * layer.output_ratio, (
        f"{x.shape[axis]} input steps gave {expected.shape[axis]} output steps, declared ratio {layer.output_ratio}"
    )
    compared = expected.shape[axis] - delay(layer)
    assert compared > 0, f"latency of {delay(layer)} steps leaves nothing to compare: test with more blocks"
    for split in [[blocks], [1] * blocks, *(random_split(blocks, choose) for _ in range(3))]:
        stepped, _ = run(layer, x, layer.init_state(2), split)
        assert stepped.shape[axis] == expected.shape[axis], f"split {split}: {stepped.shape[axis]} output steps"
        stepped = stepped.narrow(axis, delay(layer), compared)
        assert_same(stepped, expected.narrow(axis, 0, compared), tolerance, f"step differs from forward, split {split}")


def verify_later_input_is_not_heard(
    layer: Streaming[Any], make_input: MakeInput, blocks: int, tolerance: float, choose: random.Random
) -> None:
    x = make_input(1, blocks * layer.min_block)
    other = make_input(1, blocks * layer.min_block)
    expected = layer(x)
    axis = layer.time_axis
    for _ in range(3):
        cut = choose.randrange(1, blocks) * layer.min_block
        settled = int(cut * layer.output_ratio) - delay(layer)
        if settled <= 0:
            continue
        changed = torch.cat([x.narrow(axis, 0, cut), other.narrow(axis, cut, x.shape[axis] - cut)], dim=axis)
        assert_same(
            layer(changed).narrow(axis, 0, settled),
            expected.narrow(axis, 0, settled),
            tolerance,
            f"input after step {cut} changes output before step {settled}",
        )


def verify_rows_are_independent(
    layer: Streaming[Any], make_input: MakeInput, blocks: int, tolerance: float, choose: random.Random
) -> None:
    x = make_input(3, blocks * layer.min_block)
    split = random_split(blocks, choose)
    together, _ = run(layer, x, layer.init_state(3), split)
    for row in range(3):
        alone, _ = run(layer, x[row : row + 1], layer.init_state(1), split)
        assert_same(together[row : row + 1], alone, tolerance, f"row {row} depends on the other rows")


def verify_idle_rows_stand_still(
    layer: Streaming[Any], make_input: MakeInput, blocks: int, tolerance: float, choose: random.Random
) -> None:
    """Rows that pause at random must give what they give without a pause, and an idle state must not change a bit."""
    rows, axis = 3, layer.time_axis
    x = make_input(rows, blocks * layer.min_block)
    expected, _ = run(layer, x, layer.init_state(rows), [1] * blocks)
    state = layer.init_state(rows)
    position = [0] * rows  # in blocks
    pieces: list[list[Tensor]] = [[] for _ in range(rows)]
    while min(position) < blocks:
        active = [at < blocks and choose.random() < 0.6 for at in position]
        block = torch.cat(
            [
                x[row : row + 1].narrow(axis, min(position[row], blocks - 1) * layer.min_block, layer.min_block)
                for row in range(rows)
            ]
        )
        before = copy.deepcopy(state)
        y, state = layer.step(block, state, torch.tensor(active, device=x.device))
        for row in range(rows):
            if active[row]:
                pieces[row].append(y[row : row + 1])
                position[row] += 1
            else:
                for old, new in zip(state_tensors(before), state_tensors(state), strict=True):
                    assert torch.equal(old[row], new[row]), f"row {row} was idle and its state changed"
    for row in range(rows):
        found = torch.cat(pieces[row], dim=axis)
        assert_same(found, expected[row : row + 1], tolerance, f"row {row} paused and came out different")


def verify_state_saves_and_restores(
    layer: Streaming[Any], make_input: MakeInput, blocks: int, choose: random.Random
) -> None:
    x = make_input(2, blocks * layer.min_block)
    axis, half = layer.time_axis, blocks // 2
    first = x.narrow(axis, 0, half * layer.min_block)
    second = x.narrow(axis, half * layer.min_block, (blocks - half) * layer.min_block)
    _, state = run(layer, first, layer.init_state(2), [half])
    fresh = layer.init_state(2)
    for new, old in zip(state_tensors(fresh), state_tensors(state), strict=True):
        assert (new.shape, new.dtype) == (old.shape, old.dtype), "the state changes its shape or type as it runs"
        assert old.shape[0] == 2, f"a state tensor of shape {tuple(old.shape)} has no row for each session"
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    restored = torch.load(file, weights_only=False)
    split = random_split(blocks - half, choose)
    expected, _ = run(layer, second, state, split)
    found, _ = run(layer, second, restored, split)
    assert torch.equal(expected, found), "a restored state does not go on bit by bit"


def verify_receptive_field(layer: Streaming[Any], make_input: MakeInput, tolerance: float) -> None:
    """By gradient, in float64; where input or output are integers, by changing what must not be heard."""
    axis, block = layer.time_axis, layer.min_block
    before = -(-layer.receptive_field // block) + 1  # blocks
    steps = (2 * before + 1) * block
    period = int(block * layer.output_ratio)
    phases = {0, period // 3, period // 2, period - 1, *range(min(period, 4))}
    outputs = [before * period + phase for phase in sorted(phases)]
    exact = copy.deepcopy(layer).double() if isinstance(layer, nn.Module) else layer
    x = make_input(1, steps)
    x = x.double() if x.is_floating_point() and isinstance(layer, nn.Module) else x
    if x.is_floating_point():
        x.requires_grad_(True)
    y = exact(x)
    if not (x.is_floating_point() and y.is_floating_point() and y.requires_grad):
        verify_older_input_is_forgotten(layer, make_input, steps, tolerance)
        return
    spans = []
    for step in outputs:
        (gradient,) = torch.autograd.grad(y.select(axis, step).sum(), x, retain_graph=True)
        other_axes = [dim for dim in range(x.dim()) if dim != axis % x.dim()]
        heard = gradient.abs().sum(dim=other_axes).nonzero()
        spans.append(int(heard.max() - heard.min()) + 1)
    assert max(spans) == layer.receptive_field, (
        f"an output step depends on {max(spans)} input steps by gradient, declared are {layer.receptive_field}"
    )


def verify_older_input_is_forgotten(layer: Streaming[Any], make_input: MakeInput, steps: int, tolerance: float) -> None:
    axis, block = layer.time_axis, layer.min_block
    x, other = make_input(1, steps), make_input(1, steps)
    changed = torch.cat([other.narrow(axis, 0, block), x.narrow(axis, block, steps - block)], dim=axis)
    forgotten = -(-(block + layer.receptive_field) // block) * int(block * layer.output_ratio)
    length = int(steps * layer.output_ratio) - forgotten
    assert length > 0
    with torch.no_grad():
        assert_same(
            layer(changed).narrow(axis, forgotten, length),
            layer(x).narrow(axis, forgotten, length),
            tolerance,
            f"output {forgotten} steps later still hears input beyond the declared {layer.receptive_field} steps",
        )


def run(layer: Streaming[Any], x: Tensor, state: Any, split: list[int]) -> tuple[Tensor, Any]:
    """Steps through `x` in blocks of `split` times `layer.min_block` steps; the given state stays as it is."""
    state = copy.deepcopy(state)
    pieces = []
    start = 0
    for count in split:
        steps = count * layer.min_block
        y, state = layer.step(x.narrow(layer.time_axis, start, steps), state)
        pieces.append(y.clone())  # a layer may own its output buffer
        start += steps
    return torch.cat(pieces, dim=layer.time_axis), state


def random_split(total: int, choose: random.Random) -> list[int]:
    """Whole numbers of at least 1 that add up to `total`."""
    parts: list[int] = []
    while (left := total - sum(parts)) > 0:
        parts.append(choose.randint(1, min(left, 1 + total // 3)))
    return parts


def state_tensors(state: Any) -> Iterator[Tensor]:
    """All tensors of a state, through dataclasses and sequences of them."""
    if isinstance(state, Tensor):
        yield state
    elif dataclasses.is_dataclass(state):
        for field in dataclasses.fields(state):
            yield from state_tensors(getattr(state, field.name))
    elif isinstance(state, tuple | list):
        for part in state:
            yield from state_tensors(part)
    else:
        assert state is None, f"a state holds a {type(state).__name__}: use tensors whose first axis is the row"


def assert_same(found: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    assert found.shape == expected.shape, f"{what}: shape {tuple(found.shape)}, expected {tuple(expected.shape)}"
    if found.is_floating_point():
        assert torch.isfinite(found).all(), f"{what}: not finite"
        error = float((found - expected).abs().max()) if found.numel() else 0.0
        assert error <= tolerance, f"{what}: largest difference {error:.2e}, allowed {tolerance:.0e}"
    else:
        wrong = int((found != expected).sum())
        assert wrong == 0, f"{what}: {wrong} of {found.numel()} values differ"


class Encoding:
    """A codec's encoder as a streaming layer: [row, 1, sample] -> [row, codebook, frame]."""

    time_axis = -1
    receptive_field = 0

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.input_latency = codec.encode_latency
        self.output_ratio = Fraction(1, codec.hop)
        self.min_block = codec.hop

    def init_state(self, batch: int) -> Any:
        return self.codec.init_encode_state(batch)

    def step(self, x: Tensor, state: Any, mask: Tensor | None = None) -> tuple[Tensor, Any]:
        return self.codec.encode_step(x, state, mask)

    def __call__(self, x: Tensor) -> Tensor:
        return self.codec.encode(x)


class Decoding:
    """A codec's decoder as a streaming layer: [row, codebook, frame] -> [row, 1, sample].

    Its latency is a whole number of frames, or there would be no whole number of input steps.
    """

    time_axis = -1
    receptive_field = 0
    min_block = 1

    def __init__(self, codec: Codec) -> None:
        assert codec.decode_latency % codec.hop == 0, codec.decode_latency
        self.codec = codec
        self.input_latency = codec.decode_latency // codec.hop
        self.output_ratio = Fraction(codec.hop)

    def init_state(self, batch: int) -> Any:
        return self.codec.init_decode_state(batch)

    def step(self, x: Tensor, state: Any, mask: Tensor | None = None) -> tuple[Tensor, Any]:
        return self.codec.decode_step(x, state, mask)

    def __call__(self, x: Tensor) -> Tensor:
        return self.codec.decode(x)


class Semantics:
    """A semantic encoder as a streaming layer: [row, 1, sample] -> [row, frame]."""

    time_axis = -1
    receptive_field = 0

    def __init__(self, encoder: SemanticEncoder) -> None:
        self.encoder = encoder
        self.input_latency = -(-encoder.lookahead // encoder.hop) * encoder.hop
        self.output_ratio = Fraction(1, encoder.hop)
        self.min_block = encoder.hop

    def init_state(self, batch: int) -> Any:
        return self.encoder.init_state(batch)

    def step(self, x: Tensor, state: Any, mask: Tensor | None = None) -> tuple[Tensor, Any]:
        return self.encoder.step(x, state, mask)

    def __call__(self, x: Tensor) -> Tensor:
        return self.encoder.encode(x)
