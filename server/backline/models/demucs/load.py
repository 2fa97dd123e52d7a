"""A Demucs pack made resident: its tables read, every tensor checked. The network itself is the package `demucs`'s.

[demucs]             fields of DemucsConfig; tensors `demucs.`… by the package's names
[demucs.arguments]   what the package's class is made with
[stream]             fields of WindowedSettings; seconds as fractions ("256/11025"), in frames of 1024 samples
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from fractions import Fraction
from typing import Any

from torch import Tensor

from backline.models.demucs.network import STEP, DemucsConfig, make_network
from backline.models.demucs.separator import DemucsSeparator
from backline.models.errors import PackError
from backline.models.stream import StreamSpec
from backline.models.windowed.settings import WindowedSettings, make_spec, read_settings
from backline.models.windowed.stream import WindowedStream
from backline.nn.tables import TableError, read_table
from backline.nn.weights import mismatches, part

# Of a window: what is played of it, and what follows that. It is a large network: a GPU plays it live.
CHUNK_SHARE, GUARD_SHARE = Fraction(1, 4), Fraction(1, 10)


def load(config: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str) -> WindowedStream:
    """The stream of a pack.

    Raises:
        PackError: the package is not installed; or names everything that is missing or does not fit.
    """
    sizes, settings = read_tables(config)
    name = str(config.get("name", ""))
    try:
        network = make_network(sizes.kind, config["demucs"].get("arguments", {}))
    except ValueError as error:
        raise PackError([str(error)], name) from error
    given = part(tensors, "demucs.")
    if wrong := mismatches(network.state_dict(), given, "demucs.") + _differences(sizes, network):
        raise PackError(wrong, name)
    network.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in given.items()}, assign=True)
    separator = DemucsSeparator(network.requires_grad_(False), sizes, device)
    return WindowedStream(separator, settings, separator.resident_bytes())


def describe(config: Mapping[str, Any]) -> StreamSpec:
    """What `load` would serve; needs no package. Raises PackError."""
    sizes, settings = read_tables(config)
    return make_spec(settings, sizes.sample_rate, STEP, sizes.window_frames, sizes.tracks)


def read_tables(config: Mapping[str, Any]) -> tuple[DemucsConfig, WindowedSettings]:
    """The tables of a pack.toml. Raises PackError with everything that is missing or impossible."""
    try:
        sizes = read_table(DemucsConfig, config.get("demucs", {}), "demucs", known_elsewhere=("arguments",))
        return sizes, read_settings(config, Fraction(STEP, sizes.sample_rate), sizes.window_frames)
    except TableError as error:
        raise PackError(error.problems, str(config.get("name", ""))) from error


def pack_config(name: str, description: str, sizes: DemucsConfig, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The pack.toml of a Demucs."""
    frame = Fraction(STEP, sizes.sample_rate)
    chunk, guard = (max(1, int(share * sizes.window_frames)) * frame for share in (CHUNK_SHARE, GUARD_SHARE))
    return {
        "name": name,
        "version": "1.0.0",
        "family": "demucs",
        "description": description,
        "license": "MIT; see https://github.com/facebookresearch/demucs",
        "demucs": {**asdict(sizes), "arguments": arguments},
        "stream": {"chunk_seconds": str(chunk), "guard_seconds": str(guard), "fade_seconds": str(frame)},
    }


def _differences(sizes: DemucsConfig, network: Any) -> list[str]:
    """Where the table does not say what the network is."""
    found = []
    if sorted(sizes.tracks) != sorted(network.sources):
        found.append(f"[demucs] tracks are {', '.join(sizes.tracks)}, its arguments say {', '.join(network.sources)}")
    for name, said, made in (
        ("sample_rate", sizes.sample_rate, network.samplerate),
        ("channels", sizes.channels, network.audio_channels),
    ):
        if said != made:
            found.append(f"[demucs] {name} is {said}, its arguments say {made}: import the checkpoint again")
    most = int(network.segment * network.samplerate) // STEP
    if sizes.kind == "HTDemucs" and sizes.window_frames > most:
        found.append(
            f"[demucs] window_frames is {sizes.window_frames}: use up to {most}, the segment it was trained on"
        )
    return found
