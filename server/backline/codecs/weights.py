"""Whether the tensors of a pack are those of its codec."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def mismatches(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    """Everything that does not fit, a sentence each; names are those after `codec.`."""
    wrong = [f"codec.{name} is missing" for name in wanted.keys() - given.keys()]
    wrong += [f"codec.{name} is not part of this codec" for name in given.keys() - wanted.keys()]
    wrong += [
        f"codec.{name} has shape {list(given[name].shape)}, not {list(wanted[name].shape)}"
        for name in wanted.keys() & given.keys()
        if given[name].shape != wanted[name].shape
    ]
    return wrong
