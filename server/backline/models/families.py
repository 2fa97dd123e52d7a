"""The model families and where each is built; a family is imported when its first pack is.

A family is a module with two functions that raise PackError with everything that does not fit:
`load(config, tensors, device) -> Stream` makes it resident, `describe(config) -> StreamSpec` says without any weights
what the stream will be. `config` is the parsed pack.toml, `tensors` are those of all its files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from backline.models.errors import PackError
from backline.models.stream import Stream, StreamSpec

if TYPE_CHECKING:
    from torch import Tensor

FAMILIES: dict[str, str] = {  # family -> module:function that loads it
    "codec": "backline.models.through_codec:load",
    "demucs": "backline.models.demucs.load:load",
    "duotok": "backline.models.duotok.load:load",
    "hafm": "backline.models.hafm.load:load",
    "mge": "backline.models.mge.load:load",
    "passthrough": "backline.models.passthrough:load",
    "spleeter": "backline.models.spleeter.load:load",
    "stems": "backline.models.stems.load:load",
}


def load(config: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str) -> Stream:
    """The resident model that `config` and `tensors` make on `device`."""
    module, function = _location(config)
    loader: Callable[..., Stream] = getattr(import_module(module), function)
    return loader(config, tensors, device)


def describe(config: Mapping[str, Any]) -> StreamSpec:
    """What `load` would serve, without weights."""
    module, _ = _location(config)
    spec: StreamSpec = import_module(module).describe(config)
    return spec


def _location(config: Mapping[str, Any]) -> tuple[str, str]:
    family = config.get("family")
    if family not in FAMILIES:
        raise PackError([f"family is {family!r}: this Backline serves {', '.join(sorted(FAMILIES))}"])
    module, _, function = FAMILIES[family].partition(":")
    return module, function
