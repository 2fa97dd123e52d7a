"""A network with the tensors of a pack, and whether they are its own, told before it takes any memory.

network = filled(lambda: Network(config), part(tensors, "codec."), "codec.")
wrong = mismatches(network.state_dict(), part(tensors, "codec."), "codec.")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def filled(make: Callable[[], Network], given: Mapping[str, Tensor], prefix: str) -> Network:
    """The network that `make` makes, with a pack's tensors in float32; those that are so already are not copied.

    Args:
        make: is called where its weights take no memory, and must not need their values.
        given: by the network's own names.
        prefix: of the names in the pack, for messages.

    Raises:
        ValueError: names every tensor that is missing, unknown, of another shape or type, or not finite.
    """
    with torch.device("meta"):
        network = make()
    if wrong := mismatches(network.state_dict(), given, prefix):
        raise ValueError("; ".join(wrong))
    values = {name: t.detach().float() if t.is_floating_point() else t.detach() for name, t in given.items()}
    network.load_state_dict(values, assign=True)
    return network


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def mismatches(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], prefix: str) -> list[str]:
    """Everything that does not fit, a sentence each: what is missing, unknown, of another shape or of another type.

    Args:
        wanted: a network's state, on any device, "meta" included.
        given: a pack's tensors, by the same names.
        prefix: of the names in the pack, for messages.
    """
    wrong = [f"{prefix}{name} {list(wanted[name].shape)} is missing" for name in sorted(wanted.keys() - given.keys())]
    wrong += [f"{prefix}{name} is not part of this network" for name in sorted(given.keys() - wanted.keys())]
    for name in sorted(wanted.keys() & given.keys()):
        wrong += misfits(prefix + name, given[name], wanted[name].shape, wanted[name].is_floating_point())
    return wrong


def misfits(name: str, tensor: Tensor, shape: torch.Size | tuple[int, ...], floating: bool = True) -> list[str]:
    """What is wrong with one tensor: its shape, its type, or numbers that no computation survives; mostly nothing."""
    if tuple(tensor.shape) != tuple(shape):
        return [f"{name} is {list(tensor.shape)}, must be {list(shape)}"]
    if tensor.is_floating_point() != floating or tensor.is_complex():
        kind = "floating-point" if floating else "whole"
        return [f"{name} holds {str(tensor.dtype).removeprefix('torch.')}, must hold {kind} numbers"]
    if floating and not _finite(tensor):
        return [f"{name} holds numbers that are not finite"]
    return []


def _finite(tensor: Tensor) -> bool:
    """Whether all are. The sum tells in one pass and without memory; only where it is too large must each be asked."""
    if tensor.numel() == 0 or tensor.device.type == "meta":
        return True
    if tensor.element_size() == 1:  # of 8-bit floats torch can do little
        tensor = tensor.float()
    total = tensor.sum(dtype=torch.float32 if tensor.dtype != torch.float64 else torch.float64)
    return bool(total.isfinite()) or bool(tensor.isfinite().all())
