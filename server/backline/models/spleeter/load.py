"""A Spleeter pack made resident: its tables read, every tensor checked.

[spleeter]   fields of SpleeterConfig; tensors `spleeter.0.`… of the first track's U-Net, and so on
[stream]     fields of WindowedSettings; seconds as fractions ("1024/11025"), in frames of 1024 samples at 44.1 kHz
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from backline.models.errors import PackError
from backline.models.spleeter.config import SAMPLE_RATE, STEP, SpleeterConfig
from backline.models.spleeter.network import Spleeter
from backline.models.spleeter.separator import SpleeterSeparator
from backline.models.stream import StreamSpec
from backline.models.windowed.settings import WindowedSettings, make_spec, read_settings
from backline.models.windowed.stream import WindowedStream
from backline.nn.tables import TableError, read_table
from backline.nn.weights import mismatches, part

FRAME = Fraction(STEP, SAMPLE_RATE)
LIVE_FRAMES = 256  # of a window that is played live, of which one core separates enough of them in time
LIVE = {"chunk_seconds": 64 * FRAME, "guard_seconds": 16 * FRAME, "fade_seconds": FRAME}


def load(config: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str) -> WindowedStream:
    """The stream of a pack.

    Raises:
        PackError: names everything that is missing or does not fit.
    """
    sizes, settings = read_tables(config)
    with torch.device("meta"):
        network = Spleeter(sizes)
    given = part(tensors, "spleeter.")
    if wrong := mismatches(network.state_dict(), given, "spleeter."):
        raise PackError(wrong, str(config.get("name", "")))
    network.load_state_dict({name: tensor.detach().float() for name, tensor in given.items()}, assign=True)
    separator = SpleeterSeparator(network.requires_grad_(False), device)
    return WindowedStream(separator, settings, separator.resident_bytes())


def describe(config: Mapping[str, Any]) -> StreamSpec:
    """What `load` would serve. Raises PackError."""
    sizes, settings = read_tables(config)
    return make_spec(settings, SAMPLE_RATE, STEP, sizes.window_frames, sizes.tracks)


def read_tables(config: Mapping[str, Any]) -> tuple[SpleeterConfig, WindowedSettings]:
    """The tables of a pack.toml. Raises PackError with everything that is missing or impossible."""
    try:
        sizes = read_table(SpleeterConfig, config.get("spleeter", {}), "spleeter")
        return sizes, read_settings(config, FRAME, sizes.window_frames)
    except TableError as error:
        raise PackError(error.problems, str(config.get("name", ""))) from error


def pack_config(name: str, description: str, sizes: SpleeterConfig) -> dict[str, Any]:
    """The pack.toml of a Spleeter that is played live."""
    return {
        "name": name,
        "version": "1.0.0",
        "family": "spleeter",
        "description": description,
        "license": "MIT; see https://github.com/deezer/spleeter",
        "spleeter": asdict(sizes),
        "stream": {key: str(seconds) for key, seconds in LIVE.items()},
    }


def tiny_random(
    tracks: tuple[str, ...] = SpleeterConfig.tracks, seed: int = 0, **changes: Any
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Tables and tensors of a pack of random weights, as small as it gets."""
    sizes = SpleeterConfig(tracks, (2,) * 6, **{"window_frames": 128, **changes})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tensors = {f"spleeter.{name}": t.detach() for name, t in Spleeter(sizes).state_dict().items()}
    config = pack_config("tiny-spleeter", "A Spleeter of random weights, for tests", sizes)
    return {"format": 1, **config}, tensors
