"""How far a stack of convolutions looks."""

from __future__ import annotations

from torch import nn


def span(stack: nn.Module, first: int, last: int) -> tuple[int, int]:
    """First and last step of input that steps `first` to `last` of its output depend on.

    Args:
        stack: whose 1-d convolutions follow each other as they were registered, past what else works on single steps.
    """
    for layer in reversed(list(stack.modules())):
        if not isinstance(layer, nn.Conv1d | nn.ConvTranspose1d):
            continue
        kernel, stride, padding = layer.kernel_size[0], layer.stride[0], int(layer.padding[0])
        if isinstance(layer, nn.ConvTranspose1d):
            first, last = -(-(first + padding - kernel + 1) // stride), (last + padding) // stride
        else:
            first, last = first * stride - padding, last * stride - padding + layer.dilation[0] * (kernel - 1)
    return first, last
