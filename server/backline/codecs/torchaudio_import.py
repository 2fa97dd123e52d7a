"""The one place that imports torchaudio.

PyPI's wheel of torchaudio is built against CUDA: its native library needs libc10_cuda, which a CPU build of torch does
not bring, and the import fails. What we use of torchaudio is written in Python and needs no native part, so beside a
CPU build we register `torchaudio._extension`, the module that loads it, with everything switched off.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import torch


@cache
def import_torchaudio() -> ModuleType:
    """torchaudio, beside any build of torch.

    Raises:
        ImportError: it is not installed; the message says how to get it.
    """
    name = "torchaudio._extension"
    if torch.version.cuda is None and name not in sys.modules:
        extension: Any = ModuleType(name)
        extension._IS_TORCHAUDIO_EXT_AVAILABLE = False
        extension._IS_ALIGN_AVAILABLE = False
        extension.fail_if_no_align = _needs_native_part
        sys.modules[name] = extension
    try:
        return importlib.import_module("torchaudio")
    except ModuleNotFoundError as error:
        sys.modules.pop(name, None)
        raise ImportError("torchaudio is not installed: pip install 'backline[hubert]'") from error


def _needs_native_part(function: Callable[..., Any]) -> Callable[..., Any]:
    """In place of a function of torchaudio that cannot work without its native library."""

    def fail(*_arguments: Any, **_options: Any) -> Any:
        raise RuntimeError(f"torchaudio's {function.__name__} needs torchaudio's CUDA build, torch here is a CPU build")

    return fail
