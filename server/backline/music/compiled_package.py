"""Compiled modules of packages that cannot be imported whole: their `__init__` wants pkg_resources, to no use."""

from __future__ import annotations

from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import ModuleType


def compiled_package(name: str, module: str) -> tuple[ModuleType, Path] | None:
    """The module `name.module`, loaded alone, and the package's folder; None if it is not installed."""
    package = find_spec(name)
    places = package and package.submodule_search_locations
    spec = places and PathFinder.find_spec(f"{name}.{module}", places)
    if not spec or spec.loader is None or not places:
        return None
    loaded = module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded, Path(places[0])
