"""The streaming contract: what every streaming layer declares and how it is stepped.

A layer maps [.., time] to [.., time * output_ratio]. `forward` sees a whole signal, with zeros before its start and,
where the layer looks ahead, zeros after its end. `step` sees the same signal block by block and gives the same numbers,
later by the declared latency: concatenated step outputs, without their first `delay(layer)` steps, equal `forward`.
"""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

StateT = TypeVar("StateT")


class Streaming(Protocol[StateT]):
    """A layer that can be stepped. State is a dataclass of tensors whose first axis is the row."""

    time_axis: int  # of input and output: -1 for [row, channel, time], 1 for [row, time, channel]
    input_latency: int  # input steps by which `step` lags behind `forward`
    output_ratio: Fraction  # output steps per input step
    receptive_field: int  # input steps that one output step depends on, latency included; 0: unbounded
    min_block: int  # blocks are multiples of this many input steps

    def init_state(self, batch: int) -> StateT:
        """Fresh state for `batch` rows."""
        ...

    def step(self, x: Tensor, state: StateT, mask: Tensor | None = None) -> tuple[Tensor, StateT]:
        """The next block of every row; where `mask` [row] is false the row's state does not move."""
        ...

    def __call__(self, x: Tensor) -> Tensor:
        """The whole signal at once."""
        ...


def delay(layer: Streaming[Any]) -> int:
    """Output steps by which `step` lags behind `forward`.

    Raises:
        ValueError: the layer's latency is not a whole number of output steps.
    """
    steps = layer.input_latency * layer.output_ratio
    if steps.denominator != 1:
        name = type(layer).__name__
        raise ValueError(f"{name}: latency {layer.input_latency} x ratio {layer.output_ratio} is not whole")
    return int(steps)


def state_bytes(state: Any) -> int:
    """Memory of all tensors and arrays of a state, whatever it is built of."""
    if hasattr(state, "nbytes"):
        return int(state.nbytes)
    if dataclasses.is_dataclass(state):
        return sum(state_bytes(getattr(state, field.name)) for field in dataclasses.fields(state))
    if isinstance(state, dict):
        return sum(map(state_bytes, state.values()))
    return sum(map(state_bytes, state)) if isinstance(state, list | tuple) else 0


def keep_rows(new: Tensor, old: Tensor, mask: Tensor | None) -> Tensor:
    """`new` where `mask` [row] is true, `old` elsewhere; both [row, ..]."""
    if mask is None:
        return new
    return torch.where(mask.view(-1, *([1] * (new.dim() - 1))), new, old)
