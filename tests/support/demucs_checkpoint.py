"""A tiny Hybrid Transformer Demucs with random weights, stored as its authors do."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch

from backline.codecs.torchaudio_import import import_torchaudio

SIZES = {"sources": ["drums", "bass", "other", "vocals"], "channels": 16, "depth": 4, "t_layers": 1, "nfft": 1024}
SEGMENT = 2  # seconds


def make_demucs(**changes: object) -> tuple[Any, dict[str, Any]]:
    """The model, and what it is made with; skips where the package is not installed."""
    try:
        import_torchaudio()
    except ImportError as error:
        pytest.skip(str(error))
    htdemucs = pytest.importorskip("demucs.htdemucs")
    torch.manual_seed(0)
    kwargs = {**SIZES, "segment": Fraction(SEGMENT), "bottom_channels": 16, "t_heads": 2, **changes}
    return htdemucs.HTDemucs(**kwargs).eval(), kwargs


def write_demucs(path: Path, **changes: object) -> Path:
    model, kwargs = make_demucs(**changes)
    state = {name: tensor.half() for name, tensor in model.state_dict().items()}
    content = {"klass": type(model), "args": (), "kwargs": kwargs, "state": state, "training_args": {"seed": 42}}
    torch.save(content, path)
    return path
