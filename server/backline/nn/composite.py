"""Layers made of streaming layers: they compute latency, ratio and receptive field from their parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from backline.nn.conv import CausalConv1d
from backline.nn.streaming import Streaming, delay, keep_rows


class Part(Streaming[Any], Protocol):
    """A streaming layer that composites can be made of: it knows its reach and can start before the signal does."""

    def reach(self, first: int, last: int) -> tuple[int, int]:
        """First and last input step that the outputs `first` to `last` depend on."""
        ...

    def init_state(self, batch: int, lead: int = 0) -> Any:
        """Fresh state for `batch` rows whose first `lead` steps lie before the signal."""
        ...


def whole(value: Fraction, what: str) -> int:
    """`value` as an int.

    Raises:
        ValueError: it is not whole.
    """
    if value.denominator != 1:
        raise ValueError(f"{what} is {value} steps, not a whole number: move the layer to a lower rate")
    return int(value)


def widest_reach(part: Part) -> int:
    """The receptive field: the largest number of input steps that one output step spans."""
    period = whole(part.min_block * part.output_ratio, "output of a smallest block")
    spans = (part.reach(step, step) for step in range(period))
    return max(last - first + 1 for first, last in spans)


@dataclass
class NoState:
    """Of a layer that remembers nothing."""


class Pointwise(nn.Module):
    """A function or module that treats every time step alone: [row, channel, time] -> [row, channel', time].

    With time_axis=1 it is [row, time, channel] -> [row, time, channel'].
    """

    input_latency = 0
    output_ratio = Fraction(1)
    receptive_field = 1
    min_block = 1

    def __init__(self, function: Callable[[Tensor], Tensor], time_axis: int = -1) -> None:
        super().__init__()
        self.function = function
        self.time_axis = time_axis

    def reach(self, first: int, last: int) -> tuple[int, int]:
        return first, last

    def init_state(self, batch: int, lead: int = 0) -> NoState:
        return NoState()

    def step(self, x: Tensor, state: NoState, mask: Tensor | None = None) -> tuple[Tensor, NoState]:
        return self.function(x), state

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Swapped(nn.Module):
    """A part over [row, time, channel] as one over [row, channel, time], or the other way round."""

    def __init__(self, part: Part) -> None:
        super().__init__()
        self.part: Any = part  # a Part that is an nn.Module, which no type can say
        self.time_axis = 1 if part.time_axis == -1 else -1
        self.input_latency, self.output_ratio = part.input_latency, part.output_ratio
        self.receptive_field, self.min_block = part.receptive_field, part.min_block

    def reach(self, first: int, last: int) -> tuple[int, int]:
        reached: tuple[int, int] = self.part.reach(first, last)
        return reached

    def init_state(self, batch: int, lead: int = 0) -> Any:
        return self.part.init_state(batch, lead)

    def step(self, x: Tensor, state: Any, mask: Tensor | None = None) -> tuple[Tensor, Any]:
        y, state = self.part.step(x.transpose(1, 2), state, mask)
        return y.transpose(1, 2), state

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.part(x.transpose(1, 2))
        return y.transpose(1, 2)


@dataclass
class SequentialState:
    """The parts' states."""

    parts: tuple[Any, ...]


class Sequential(nn.Module):
    """Parts one after the other. A part behind a late one starts with a lead, so that `step` still equals `forward`."""

    def __init__(self, *parts: Part) -> None:
        super().__init__()
        if not parts:
            raise ValueError("Sequential has no parts")
        if len({part.time_axis for part in parts}) > 1:
            raise ValueError(f"parts have different time axes: {[part.time_axis for part in parts]}")
        self.parts = nn.ModuleList([cast(nn.Module, part) for part in parts])
        self.time_axis = parts[0].time_axis
        ratio, latency, block = Fraction(1), Fraction(0), 1
        for part in parts:
            latency += part.input_latency / ratio
            needed = part.min_block / ratio  # input steps; may be a fraction behind an upsampling part
            block = math.lcm(block, needed.numerator)
            ratio *= part.output_ratio
        self.input_latency = whole(latency, "latency of Sequential")
        self.output_ratio = ratio
        self.min_block = block
        self.receptive_field = widest_reach(self)

    def __iter__(self) -> Iterator[Part]:
        return iter(cast(Iterable[Part], self.parts))

    def reach(self, first: int, last: int) -> tuple[int, int]:
        for part in reversed(list(self)):
            first, last = part.reach(first, last)
        return first, last

    def init_state(self, batch: int, lead: int = 0) -> SequentialState:
        states = []
        for part in self:
            states.append(part.init_state(batch, lead))
            lead = whole((lead + part.input_latency) * part.output_ratio, "lead of a part of Sequential")
        return SequentialState(tuple(states))

    def step(self, x: Tensor, state: SequentialState, mask: Tensor | None = None) -> tuple[Tensor, SequentialState]:
        states = []
        for part, part_state in zip(self, state.parts, strict=True):
            x, part_state = part.step(x, part_state, mask)
            states.append(part_state)
        return x, SequentialState(tuple(states))

    def forward(self, x: Tensor) -> Tensor:
        for part in self:
            x = part(x)
        return x


@dataclass
class ResidualState:
    """The branch's state, and the input held back until the branch has caught up."""

    branch: Any
    held: Tensor  # [row, channel, latency], or [row, latency, channel] as the branch has its axes


class Residual(nn.Module):
    """x + branch(x) for a branch of ratio 1; x waits for a late branch."""

    output_ratio = Fraction(1)

    def __init__(self, branch: Part, channels: int) -> None:
        super().__init__()
        if branch.output_ratio != 1:
            raise ValueError(f"a residual branch keeps the rate, this one multiplies it by {branch.output_ratio}")
        self.branch: Any = branch  # a Part that is an nn.Module, which no type can say
        self.channels = channels
        self.time_axis = branch.time_axis
        self.input_latency = delay(branch)
        self.min_block = branch.min_block
        self.receptive_field = widest_reach(self)

    def reach(self, first: int, last: int) -> tuple[int, int]:
        branch_first, branch_last = self.branch.reach(first, last)
        return min(first, branch_first), max(last, branch_last)

    def init_state(self, batch: int, lead: int = 0) -> ResidualState:
        shape = (self.input_latency, self.channels) if self.time_axis == 1 else (self.channels, self.input_latency)
        example = next(self.branch.parameters())
        return ResidualState(self.branch.init_state(batch, lead), example.new_zeros(batch, *shape))

    def step(self, x: Tensor, state: ResidualState, mask: Tensor | None = None) -> tuple[Tensor, ResidualState]:
        y, branch = self.branch.step(x, state.branch, mask)
        if not self.input_latency:
            return x + y, ResidualState(branch, state.held)
        time = x.shape[self.time_axis]
        joined = torch.cat([state.held, x], dim=self.time_axis)
        held = keep_rows(joined.narrow(self.time_axis, time, self.input_latency), state.held, mask)
        return joined.narrow(self.time_axis, 0, time) + y, ResidualState(branch, held)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class Mixer(nn.Module):
    """The channel mixing of a ConvNeXt block: layer norm, two linear maps around a GELU, a learned scale."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.up = nn.Linear(channels, hidden)
        self.down = nn.Linear(hidden, channels)
        self.scale = nn.Parameter(torch.full((channels,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        """[row, channel, time] -> [row, channel, time]."""
        hidden = nn.functional.gelu(self.up(self.norm(x.transpose(1, 2))), approximate="tanh")
        return (self.down(hidden) * self.scale).transpose(1, 2)


def convnext_block(channels: int, hidden: int, kernel: int = 7, dilation: int = 1) -> Residual:
    """A causal ConvNeXt block: depthwise convolution, then channel mixing, around a residual."""
    depthwise = CausalConv1d(channels, channels, kernel, dilation=dilation, groups=channels)
    return Residual(Sequential(depthwise, Pointwise(Mixer(channels, hidden))), channels)
