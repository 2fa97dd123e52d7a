"""Weights in a quarter of their size: a matrix as int8, with one float32 scale for each of its rows.

    stored = quantize(tensors, keep=("codec.quantizer.",))   # "x" becomes "x.int8" and "x.scale"
    tensors = restore(stored)                                # float32 again; no element off by more than scale / 2

A row is what follows the leading axes that a scale has: one output's inputs, one token's embedding. Rows are symmetric
around zero and reach their largest element at 127.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

WHOLE, SCALE = ".int8", ".scale"  # what is added to a tensor's name
LARGE = 4096  # elements; in what is smaller there is nothing to save
SHORTEST_ROW = 32  # elements; below, the scales would weigh too much
LARGEST = 127


def quantize(tensors: Mapping[str, Tensor], keep: Collection[str] = ()) -> dict[str, Tensor]:
    """`tensors` as they are stored: large float matrices as int8, all others as they are.

    Args:
        tensors: by name.
        keep: beginnings of the names of tensors to leave alone.
    """
    stored: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        axes = scaled_axes(tensor)
        if axes and not name.startswith(tuple(keep)):
            stored[name + WHOLE], stored[name + SCALE] = to_int8(tensor, axes)
        else:
            stored[name] = tensor
    return stored


def restore(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that were quantised, in float32, and all others as they are.

    Raises:
        ValueError: an int8 tensor has no scale, or one that does not fit; names all of them.
    """
    import torch

    tensors: dict[str, Tensor] = {}
    problems = []
    wholes = {name.removesuffix(WHOLE) for name in stored if name.endswith(WHOLE)}
    for name in wholes:
        whole, scale = stored[name + WHOLE], stored.get(name + SCALE)
        if whole.dtype != torch.int8:
            problems.append(f"{name + WHOLE} is {whole.dtype}, must be int8")
        elif scale is None:
            problems.append(f"{name + SCALE} is missing, the scale of {name + WHOLE}")
        elif (
            scale.dtype != torch.float32
            or not 0 < scale.dim() < whole.dim()
            or (scale.shape != whole.shape[: scale.dim()])
        ):
            problems.append(
                f"{name + SCALE} is {scale.dtype} {list(scale.shape)}, must be float32 with the leading axes of "
                f"{name + WHOLE} {list(whole.shape)}, at least one and not all"
            )
        else:
            tensors[name] = whole.float() * scale[(...,) + (None,) * (whole.dim() - scale.dim())]
    if problems:
        raise ValueError("; ".join(sorted(problems)))
    spent = {name + ending for name in wholes for ending in (WHOLE, SCALE)}
    return tensors | {name: tensor for name, tensor in stored.items() if name not in spent}


def scaled_axes(tensor: Tensor) -> int:
    """How many leading axes the scales of `tensor` have, as many as leave long enough rows; 0: it stays float."""
    if not tensor.is_floating_point() or tensor.numel() < LARGE:
        return 0
    lengths = {axes: prod(tensor.shape[axes:]) for axes in range(1, tensor.dim())}
    return max((axes for axes, length in lengths.items() if length >= SHORTEST_ROW), default=0)


def to_int8(tensor: Tensor, axes: int) -> tuple[Tensor, Tensor]:
    """`tensor` [.., ..] as int8 of the same shape, and its float32 scales [..], of the first `axes` axes."""
    import torch

    exact = tensor.detach().double()  # in which rounding to the nearest step is exact
    peak = exact.abs().flatten(axes).amax(-1)
    scale = (peak / LARGEST).float().clamp(min=torch.finfo(torch.float32).tiny)  # a silent row has steps too
    steps = exact / scale.double()[(...,) + (None,) * (tensor.dim() - axes)]
    return steps.round().clamp(-LARGEST, LARGEST).to(torch.int8), scale
