"""Causal convolutions that stream: plain, depthwise, strided, dilated, transposed, with optional look-ahead.

Signals are [row, channel, time], padded with zeros. Output step j of a strided convolution sees input up to the end of
its own stride, (j + 1) * stride, plus the look-ahead.

Every layer of this floor also says which input an output needs (`reach`), from which composites compute their
receptive field, and takes a `lead`: that many first steps of the stream lie before the signal's start, because a layer
in front of this one is late. They count as the zeros that `forward` sees there.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backline.nn.streaming import keep_rows


@dataclass
class ConvState:
    """What a convolution remembers."""

    past: Tensor  # [row, channel, time] newest input, or for a transposed convolution the open end of the output
    wait: Tensor | None  # [row] input steps that are still before the signal's start; None: none ever were


def initial_wait(batch: int, lead: int, device: torch.device) -> Tensor | None:
    """The counter [row] for a stream that begins `lead` steps early."""
    return torch.full((batch,), lead, dtype=torch.int64, device=device) if lead else None


def silence_lead(x: Tensor, wait: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """`x` [row, channel, time] with zeros where the signal has not begun, and the counter after it."""
    if wait is None:
        return x, None
    index = torch.arange(x.shape[-1], device=x.device)
    begun = index >= wait[:, None]  # [row, time]
    return x * begun[:, None].to(x.dtype), keep_rows((wait - x.shape[-1]).clamp(min=0), wait, mask)


def check_block(steps: int, multiple: int, layer: nn.Module) -> None:
    """Raises ValueError where a block is no whole number of strides."""
    if steps % multiple:
        raise ValueError(
            f"{type(layer).__name__}: a block of {steps} steps is not a multiple of {multiple}: pad it with zeros"
        )


class CausalConv1d(nn.Module):
    """Convolution [row, in, time] -> [row, out, time / stride]."""

    time_axis = -1

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        lookahead: int = 0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.span = (kernel - 1) * dilation + 1
        if self.span < stride:
            raise ValueError(f"kernel spans {self.span} steps, stride is {stride}: some input would never be seen")
        if lookahead % stride or lookahead > self.span - stride:
            raise ValueError(
                f"look-ahead of {lookahead} steps: use a multiple of the stride {stride}, at most {self.span - stride}"
            )
        self.conv = nn.Conv1d(
            in_channels, out_channels, kernel, stride=stride, dilation=dilation, groups=groups, bias=bias
        )
        self.stride = stride
        self.memory = self.span - stride  # input steps before the newest stride
        self.input_latency = lookahead
        self.output_ratio = Fraction(1, stride)
        self.receptive_field = self.span
        self.min_block = stride

    def reach(self, first: int, last: int) -> tuple[int, int]:
        """First and last input step that the outputs `first` to `last` depend on."""
        begin = self.input_latency - self.memory
        return first * self.stride + begin, last * self.stride + begin + self.span - 1

    def init_state(self, batch: int, lead: int = 0) -> ConvState:
        weight = self.conv.weight
        past = weight.new_zeros(batch, self.conv.in_channels, self.memory)
        return ConvState(past, initial_wait(batch, lead, weight.device))

    def step(self, x: Tensor, state: ConvState, mask: Tensor | None = None) -> tuple[Tensor, ConvState]:
        check_block(x.shape[-1], self.stride, self)
        x, wait = silence_lead(x, state.wait, mask)
        joined = torch.cat([state.past, x], dim=-1)
        past = joined[..., joined.shape[-1] - self.memory :]
        return self.conv(joined), ConvState(keep_rows(past, state.past, mask), wait)

    def forward(self, x: Tensor) -> Tensor:
        check_block(x.shape[-1], self.stride, self)
        return self.conv(F.pad(x, (self.memory - self.input_latency, self.input_latency)))


class CausalConvTranspose1d(nn.Module):
    """Transposed convolution [row, in, time] -> [row, out, time * stride]; what rings past the end is cut off."""

    time_axis = -1

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if kernel < stride:
            raise ValueError(f"kernel {kernel} is shorter than stride {stride}: some output would never be written")
        self.conv = nn.ConvTranspose1d(in_channels, out_channels, kernel, stride=stride, groups=groups, bias=bias)
        self.kernel = kernel
        self.stride = stride
        self.input_latency = 0
        self.output_ratio = Fraction(stride)
        self.receptive_field = -(-kernel // stride)
        self.min_block = 1

    def reach(self, first: int, last: int) -> tuple[int, int]:
        """First and last input step that the outputs `first` to `last` depend on."""
        return -((self.kernel - 1 - first) // self.stride), last // self.stride

    def init_state(self, batch: int, lead: int = 0) -> ConvState:
        weight = self.conv.weight
        ringing = weight.new_zeros(batch, self.conv.out_channels, self.kernel - self.stride)
        return ConvState(ringing, initial_wait(batch, lead, weight.device))

    def step(self, x: Tensor, state: ConvState, mask: Tensor | None = None) -> tuple[Tensor, ConvState]:
        x, wait = silence_lead(x, state.wait, mask)
        full = F.conv_transpose1d(x, self.conv.weight, None, self.stride, groups=self.conv.groups)
        ringing = state.past.shape[-1]
        full = torch.cat([full[..., :ringing] + state.past, full[..., ringing:]], dim=-1)
        done = x.shape[-1] * self.stride
        out = full[..., :done]
        if self.conv.bias is not None:
            out = out + self.conv.bias[:, None]
        return out, ConvState(keep_rows(full[..., done:], state.past, mask), wait)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)[..., : x.shape[-1] * self.stride]
