"""The verifier of the streaming contract catches each way in which a layer can break it."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from backline.nn.conv import CausalConv1d, ConvState
from backline.nn.streaming import keep_rows
from tests.support.contract import verify_streaming_contract


class Honest(CausalConv1d):
    """A convolution that keeps the contract, for others to break."""

    def __init__(self) -> None:
        super().__init__(2, 2, 5, lookahead=1)


class UnderstatedLatency(Honest):
    def __init__(self) -> None:
        super().__init__()
        self.input_latency = 0

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(torch.nn.functional.pad(x, (3, 1)))


class UnderstatedField(Honest):
    def __init__(self) -> None:
        super().__init__()
        self.receptive_field = 4


class OverstatedField(Honest):
    def __init__(self) -> None:
        super().__init__()
        self.receptive_field = 6


class Restless(Honest):
    """Moves the state of idle rows."""

    def step(self, x: Tensor, state: ConvState, mask: Tensor | None = None) -> tuple[Tensor, ConvState]:
        return super().step(x, state, None)


class Leaky(Honest):
    """Lets rows hear each other."""

    def step(self, x: Tensor, state: ConvState, mask: Tensor | None = None) -> tuple[Tensor, ConvState]:
        y, state = super().step(x, state, mask)
        return y + 1e-3 * (y.mean(dim=0, keepdim=True) - y) * (len(y) > 2), state


class Forgetful(Honest):
    """Keeps what it heard outside of its state."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = torch.zeros(0)

    def init_state(self, batch: int, lead: int = 0) -> ConvState:
        state = super().init_state(batch, lead)
        self.hidden = state.past
        return state

    def step(self, x: Tensor, state: ConvState, mask: Tensor | None = None) -> tuple[Tensor, ConvState]:
        y, moved = super().step(x, replace(state, past=self.hidden), mask)
        self.hidden = keep_rows(moved.past, self.hidden, mask)
        return y, moved


class BlockBound(Honest):
    """Forgets the past at every block."""

    def step(self, x: Tensor, state: ConvState, mask: Tensor | None = None) -> tuple[Tensor, ConvState]:
        y, _ = super().step(x, replace(state, past=torch.zeros_like(state.past)), mask)
        return y, state


BROKEN = {
    UnderstatedLatency: "differs from forward",
    UnderstatedField: "declared are 4",
    OverstatedField: "declared are 6",
    Restless: "was idle and its state changed",
    Leaky: "depends on the other rows",
    Forgetful: "does not go on",
    BlockBound: "differs from forward",
}


def make_input(rows: int, steps: int) -> Tensor:
    return torch.randn(rows, 2, steps)


def test_a_layer_that_keeps_the_contract_passes() -> None:
    torch.manual_seed(0)
    verify_streaming_contract(Honest(), make_input)


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_layer_is_caught(kind: Any) -> None:
    torch.manual_seed(0)
    with pytest.raises(AssertionError, match=BROKEN[kind]):
        verify_streaming_contract(kind(), make_input)


class TimeFirst(torch.nn.Module):
    """The same convolution over [row, time, channel], as transformers have it."""

    time_axis = 1

    def __init__(self) -> None:
        super().__init__()
        self.inner = Honest()
        self.input_latency = self.inner.input_latency
        self.output_ratio = self.inner.output_ratio
        self.receptive_field = self.inner.receptive_field
        self.min_block = self.inner.min_block

    def init_state(self, batch: int) -> ConvState:
        return self.inner.init_state(batch)

    def step(self, x: Tensor, state: ConvState, mask: Tensor | None = None) -> tuple[Tensor, ConvState]:
        y, state = self.inner.step(x.transpose(1, 2), state, mask)
        return y.transpose(1, 2), state

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.transpose(1, 2)).transpose(1, 2)


def test_time_may_be_the_first_axis() -> None:
    torch.manual_seed(0)
    verify_streaming_contract(TimeFirst(), lambda rows, steps: torch.randn(rows, steps, 2))
