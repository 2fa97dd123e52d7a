"""An MGE-LDM pack made resident: its tables read, every tensor checked, the parts put together.

[mge]        fields of MgeConfig; tensors `mge.`…
[vae]        kind, and fields of its sizes; tensors `vae.`…
[towers]     fields of TowersConfig; tensors `towers.`…: what hears texts; or
[clap]       fields of ClapConfig; tensors `clap.`…, as in packs of the published checkpoints
[stream]     fields of MgeSettings; seconds as fractions ("12/25")
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from backline.codecs.hcodec.network import HCodecConfig
from backline.codecs.vae.config import Config as VaeConfig
from backline.codecs.vae.config import OobleckConfig, SpectralConfig, read_vae_table
from backline.codecs.vae.load import load as load_vae
from backline.codecs.vae.load import packed as packed_vae
from backline.codecs.vae.oobleck import Oobleck
from backline.codecs.vae.spectral import SpectralVae
from backline.models.errors import PackError
from backline.models.mge.answers import Answerer, Precision
from backline.models.mge.clap import Clap, ClapConfig, load_clap
from backline.models.mge.config import TINY, MgeConfig
from backline.models.mge.network import PREFIX, MgeNetwork, read_network
from backline.models.mge.stream import CAPACITY, MgeSettings, MgeStream, make_spec
from backline.models.mge.towers import PREFIX as TOWERS_PREFIX
from backline.models.mge.towers import Towers, TowersConfig, TowersNetwork, load_towers
from backline.models.rows import rows_of
from backline.models.stream import StreamSpec
from backline.models.windowed.settings import problems
from backline.nn.tables import TableError, read_table

TINY_VAE = SpectralConfig(
    HCodecConfig(
        width=32, feed_forward=32, encoder_blocks=1, decoder_blocks=1, transformer_layers=0, latent=8, codebooks=2,
        codebook_size=16, features="mel", feature_width=20, semantic_width=8,
    ),
    latent_channels=TINY.network.channels,
)  # fmt: skip
TINY_TOWERS = TowersConfig(
    width=TINY.network.condition, bands=8, window=2048, hop=1920, channels=(4, 8), buckets=64, gram_width=4
)
READERS: dict[str, type[TowersConfig | ClapConfig]] = {"towers": TowersConfig, "clap": ClapConfig}


@dataclass(frozen=True)
class PackTables:
    """The tables of pack.toml, checked."""

    network: MgeConfig
    vae: VaeConfig
    reader: TowersConfig | ClapConfig
    settings: MgeSettings


@dataclass(frozen=True)
class Parts:
    """What a pack is made of, on the CPU, in float32."""

    network: MgeNetwork
    vae: Oobleck | SpectralVae
    reader: Towers | Clap


def load(config: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str) -> MgeStream:
    """The stream of a pack.

    Raises:
        PackError: names everything that is missing or does not fit.
    """
    return build(config, tensors, device)


def build(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str, precision: Precision = "auto"
) -> MgeStream:
    """As `load`, with the network's products in a precision of one's own."""
    tables, parts = read_tables(config), read_parts(config, tensors)
    answerer = Answerer(parts.network, parts.vae, device, precision)
    return MgeStream(answerer, parts.reader, tables.settings, rows_of(config, CAPACITY))


def describe(config: Mapping[str, Any]) -> StreamSpec:
    """What `load` would serve. Raises PackError."""
    tables = read_tables(config)
    return make_spec(tables.settings, tables.vae.sample_rate, tables.vae.hop, tables.network.window_frames)


def read_parts(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Parts:
    """Network, VAE and reader of a pack, which offline.py plays as well. Raises PackError."""
    tables = read_tables(config)
    wrong: list[str] = []
    network, vae, reader = None, None, None
    try:
        network = read_network(tables.network, tensors).requires_grad_(False)
    except ValueError as error:
        wrong.append(str(error))
    try:
        vae = load_vae(config["vae"], tensors)
    except ValueError as error:
        wrong.append(str(error))
    try:
        sizes = tables.reader
        reader = load_towers(tensors, sizes) if isinstance(sizes, TowersConfig) else load_clap(tensors, sizes)
    except PackError as error:
        wrong += error.problems
    if network is None or vae is None or reader is None:
        raise PackError(wrong, str(config.get("name", "")))
    return Parts(network, vae, reader)


def read_tables(config: Mapping[str, Any]) -> PackTables:
    """The tables of a pack.toml.

    Raises:
        PackError: names everything that is missing or impossible.
    """
    wrong: list[str] = []
    network, settings = MgeConfig(), MgeSettings()
    vae: VaeConfig = OobleckConfig()
    reader: TowersConfig | ClapConfig = ClapConfig()
    try:
        network = read_table(MgeConfig, config.get("mge", {}), "mge")
    except TableError as error:
        wrong += error.problems
    try:
        vae = read_vae_table(config.get("vae", {}))
    except TableError as error:
        wrong += error.problems
    readers = [name for name in READERS if name in config]
    if len(readers) != 1:
        wrong.append(f"it has {' and '.join(readers) or 'nothing'} to hear texts: give one of [towers] and [clap]")
    else:
        try:
            reader = read_table(READERS[readers[0]], config[readers[0]], readers[0])
        except TableError as error:
            wrong += error.problems
    try:
        settings = read_table(MgeSettings, config.get("stream", {}), "stream")
    except TableError as error:
        wrong += error.problems
    if not wrong:
        frame = Fraction(vae.hop, vae.sample_rate)
        wrong = problems(settings, frame, network.window_frames) + mismatched(network, vae, reader)
    if wrong:
        raise PackError(wrong, str(config.get("name", "")))
    return PackTables(network, vae, reader, settings)


def mismatched(network: MgeConfig, vae: VaeConfig, reader: TowersConfig | ClapConfig) -> list[str]:
    """What keeps the parts from working together, a sentence each; mostly nothing."""
    found = []
    if network.network.channels != vae.latent_channels:
        found.append(f"[mge] hears {network.network.channels} channels, the VAE's latents have {vae.latent_channels}")
    told = reader.width if isinstance(reader, TowersConfig) else reader.dimension
    if network.network.condition != told:
        found.append(f"[mge] is told {network.network.condition} dimensions of a text, its reader says {told}")
    return found


def tiny_random(seed: int = 0, **changes: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Tables and tensors of a pack of random weights, as small as it gets.

    Args:
        changes: fields of its DiTConfig that are to be other than TINY's.
    """
    tiny = MgeConfig(replace(TINY.network, **changes), TINY.window_frames)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = MgeNetwork(tiny)
        for weight in network.parameters():  # some begin at zero, and then nothing that is asked would matter
            torch.nn.init.normal_(weight, std=0.3)
        vae_table, tensors = packed_vae(SpectralVae(TINY_VAE), torch.float32)
        tensors |= {f"{PREFIX}{name}": t for name, t in network.state_dict().items()}
        tensors |= {f"{TOWERS_PREFIX}{name}": t for name, t in TowersNetwork(TINY_TOWERS).state_dict().items()}
    config = {
        "format": 1,
        "name": "tiny-mge",
        "version": "0.1.0",
        "family": "mge",
        "description": "An MGE-LDM of random weights, for tests",
        "license": "Apache-2.0",
        "mge": asdict(tiny),
        "vae": vae_table,
        "towers": asdict(TINY_TOWERS),
        "stream": {"chunk_seconds": "4/25", "guard_seconds": "2/25", "fade_seconds": "1/25"},
    }
    return config, {name: t.detach().contiguous() for name, t in tensors.items()}
