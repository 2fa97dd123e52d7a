"""A stems pack made resident: its tables read, every tensor checked, the parts put together.

[stems]      fields of StemsConfig; tensors `stems.`…
[codec]      kind = "hcodec", and fields of HCodecConfig; tensors `codec.`…, of which serving needs what decodes
[stream]     fields of WindowedSettings; seconds as fractions ("12/25")
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from backline.codecs.hcodec.load import HUBERT, LISTENING, TRAINING, hcodec
from backline.codecs.hcodec.network import HCodec, HCodecConfig
from backline.codecs.hcodec.semantics import HubertFeatures
from backline.codecs.tables import Kind, read_codec_table
from backline.models.errors import PackError
from backline.models.rows import rows_of
from backline.models.stems.config import MelConfig, StemsConfig
from backline.models.stems.network import StemsNetwork
from backline.models.stems.separator import StemsSeparator, parameters_of
from backline.models.stream import StreamSpec
from backline.models.windowed.settings import WindowedSettings, make_spec, problems
from backline.models.windowed.stream import CAPACITY, WindowedStream
from backline.nn.conformer import ConformerConfig
from backline.nn.llama import LlamaConfig
from backline.nn.tables import TableError, read_table
from backline.nn.weights import mismatches, part

CODEC_KIND: Kind = "hcodec"
TINY_CODEC = HCodecConfig(
    width=32, feed_forward=32, encoder_blocks=1, decoder_blocks=1, transformer_layers=0, latent=8, codebooks=2,
    codebook_size=16, features="mel", feature_width=20, semantic_width=8,
)  # fmt: skip
TINY = StemsConfig(
    encoder=ConformerConfig(1, 16, 2, norm="layer"), decoder=LlamaConfig(1, 16, 2, 32), mel=MelConfig(bands=20),
    codebooks=2, codebook_size=16, tracks="parallel", condition="aligned",
)  # fmt: skip


@dataclass(frozen=True)
class PackTables:
    """The tables of pack.toml, checked."""

    network: StemsConfig
    codec: HCodecConfig
    settings: WindowedSettings


def load(config: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str) -> WindowedStream:
    """The stream of a pack.

    Raises:
        PackError: names everything that is missing or does not fit.
    """
    tables = read_tables(config)
    wrong: list[str] = []
    network, codec = None, None
    try:
        network = read_network(tables.network, tensors)
    except ValueError as error:
        wrong.append(str(error))
    try:
        codec = hcodec(config["codec"], decoding(tensors))
    except ValueError as error:
        wrong.append(str(error))
    if network is None or codec is None:
        raise PackError(wrong, str(config.get("name", "")))
    separator = StemsSeparator(network.requires_grad_(False), codec.requires_grad_(False), device)
    rows = rows_of(config, CAPACITY)
    return WindowedStream(separator, tables.settings, separator.resident_bytes(), separator.parameters, rows)


def describe(config: Mapping[str, Any]) -> StreamSpec:
    """What `load` would serve. Raises PackError."""
    tables = read_tables(config)
    codec, network = tables.codec, tables.network
    frame_samples = codec.hop * codec.frames_per_code
    parameters = parameters_of(network)
    return make_spec(
        tables.settings, codec.sample_rate, frame_samples, network.window_frames, network.stems, parameters
    )


def read_tables(config: Mapping[str, Any]) -> PackTables:
    """The tables of a pack.toml.

    Raises:
        PackError: names everything that is missing or impossible.
    """
    wrong: list[str] = []
    network, codec, settings = StemsConfig(), HCodecConfig(), WindowedSettings()
    try:
        network = read_table(StemsConfig, config.get("stems", {}), "stems")
    except TableError as error:
        wrong += error.problems
    try:
        read = read_codec_table(config.get("codec", {}), (CODEC_KIND,))
        assert isinstance(read, HCodecConfig)
        codec = read
    except TableError as error:
        wrong += error.problems
    try:
        settings = read_table(WindowedSettings, config.get("stream", {}), "stream")
    except TableError as error:
        wrong += error.problems
    if not wrong:
        frame = Fraction(codec.hop * codec.frames_per_code, codec.sample_rate)
        wrong = problems(settings, frame, network.window_frames) + mismatched(network, codec)
    if wrong:
        raise PackError(wrong, str(config.get("name", "")))
    return PackTables(network, codec, settings)


def read_network(config: StemsConfig, tensors: Mapping[str, Tensor]) -> StemsNetwork:
    """The network with the tensors named `stems.`…, in float32; `stems.hubert.`… are those of its listener, if any.

    Raises:
        ValueError: names every tensor that is missing, unknown, of another shape or type, or not finite.
    """
    with torch.device("meta"):
        network = StemsNetwork(config)
    given = part(tensors, "stems.")
    wrong = []
    if config.listener == "hubert":
        frozen = part(given, HUBERT)
        given = {name: tensor for name, tensor in given.items() if not name.startswith(HUBERT)}
        try:
            network.hubert = HubertFeatures(frozen, config.hubert_width, config.mel.sample_rate, config.mel.hop)
        except ValueError as error:
            wrong.append(str(error))
    if wrong := wrong + mismatches(network.state_dict(), given, "stems."):
        raise ValueError("; ".join(wrong))
    network.load_state_dict(
        {name: t.detach().float() if t.is_floating_point() else t.detach() for name, t in given.items()}, assign=True
    )
    return network


def decoding(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The codec's tensors that serving needs: a separator never encodes."""
    unused = tuple(f"codec.{part}." for part in (*LISTENING, *TRAINING, "hubert"))
    return {name: t for name, t in tensors.items() if name.startswith("codec.") and not name.startswith(unused)}


def tiny_random(seed: int = 0, **changes: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Tables and tensors of a pack of random weights, as small as it gets: its stems sum to the mixture like any's.

    Args:
        changes: fields of its StemsConfig that are to be other than TINY's.
    """
    tiny = replace(TINY, **changes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tensors = {f"stems.{name}": t for name, t in StemsNetwork(tiny).state_dict().items()}
        tensors |= decoding({f"codec.{name}": t for name, t in HCodec(TINY_CODEC).state_dict().items()})
    config = {
        "format": 1,
        "name": "tiny-stems",
        "version": "0.1.0",
        "family": "stems",
        "description": "Stems of random weights, for tests",
        "license": "Apache-2.0",
        "stems": asdict(tiny),
        "codec": {"kind": CODEC_KIND, **asdict(TINY_CODEC)},
    }
    return config, {name: t.detach().contiguous() for name, t in tensors.items()}


def mismatched(network: StemsConfig, codec: HCodecConfig) -> list[str]:
    """What keeps the network and the codec from working together, a sentence each; mostly nothing."""
    found = []
    tells, has = (network.codebooks, network.codebook_size), (codec.codebooks, codec.codebook_size)
    if tells != has:
        found.append(f"[stems] tells {tells[0]} codebooks of {tells[1]}, the codec has {has[0]} of {has[1]}")
    hears, frame = (
        (network.mel.sample_rate, network.mel.hop * network.hops_per_frame),
        codec.hop * codec.frames_per_code,
    )
    if hears != (codec.sample_rate, frame):
        found.append(
            f"[stems] hears frames of {hears[1]} samples at {hears[0]} Hz, the codec's have {frame} at "
            f"{codec.sample_rate} Hz"
        )
    return found
