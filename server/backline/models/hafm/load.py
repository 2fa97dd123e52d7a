"""A HAFM pack made resident: its tables read, every tensor checked, the parts put together.

[network]    layout = "interleaved" (if not given) or "aligned"
[network.semantic] [network.coarse] [network.fine]   interleaved: fields of StageConfig
[network.semantic] [network.acoustic]                aligned: fields of AlignedStageConfig
[codec]      kind = "convnext" or "encodec", and its sizes
[semantics]  kind = "harmony"; vocal_noise
[sampling]   guidance, temperature, top_k: the parameters' defaults
[stream]     default_chunk_seconds ("4/5"), default_visibility_seconds, cache = "evict" or "recompute"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction
from typing import Any, TypeVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backline.codecs.base import Codec, SemanticEncoder
from backline.codecs.convnext import ConvNeXtCodec, ConvNeXtCodecConfig, convnext_codec
from backline.codecs.encodec import EncodecStream
from backline.codecs.harmony import HarmonyEncoder, HarmonyTables
from backline.codecs.hubert import HubertConfig, HubertEncoder
from backline.kernels.chroma import FEATURES
from backline.models.errors import PackError
from backline.models.hafm.aligned import (
    BAND,
    BEAT,
    CHORD,
    LAG,
    LOOKAHEAD,
    VOICE,
    AlignedConfig,
    AlignedNetwork,
    AlignedStageConfig,
)
from backline.models.hafm.aligned import TINY as ALIGNED_TINY
from backline.models.hafm.band import Sampling
from backline.models.hafm.beats import KINDS, POSITIONS
from backline.models.hafm.config import TINY, VOCAL, HafmConfig, StageConfig
from backline.models.hafm.hints import ChordHints
from backline.models.hafm.interleaved import PREDICTED
from backline.models.hafm.network import StageNetwork
from backline.models.hafm.player import Backend, Cache
from backline.models.hafm.score import VOICE_VOCABULARY
from backline.models.hafm.stream import HafmParts, HafmStream, make_spec
from backline.models.stream import StreamSpec

CODECS = ("convnext", "encodec")
SEMANTICS = ("harmony", "hubert")
CODEC_RATE = 24_000  # Hz, of both codecs
VOCAL_NOISE = 0.01  # the paper's
LAYOUTS = {"interleaved": HafmConfig, "aligned": AlignedConfig}
KNOWN_SOURCES = {  # stage -> sources that exist when it runs
    "semantic": {"vocal", "transport"},
    "coarse": {"vocal", "transport", "instrumental"},
    "fine": {"vocal", "transport", "instrumental", "coarse"},
}
KNOWN_ALIGNED_SOURCES = {"semantic": (VOICE, BEAT, LAG, CHORD), "acoustic": (BEAT, BAND)}
TINY_CODEC = ConvNeXtCodecConfig(latent=16, encoder_width=16, encoder_blocks=1, decoder_width=16, decoder_blocks=1)

Part = TypeVar("Part")


@dataclass(frozen=True)
class PackTables:
    """The tables of pack.toml, checked."""

    network: HafmConfig | AlignedConfig
    codec: Mapping[str, Any]
    semantics: Mapping[str, Any]
    vocal_noise: float
    sampling: Sampling
    default_chunk_seconds: Fraction
    default_visibility_seconds: float
    cache: Cache


def load(config: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str) -> HafmStream:
    """The stream of a pack: on the CPU through the fused step, on a GPU through torch.

    Raises:
        PackError: names everything that is missing or does not fit.
    """
    return build(config, tensors, device, "torch" if torch.device(device).type == "cuda" else "bfloat16")


def describe(config: Mapping[str, Any]) -> StreamSpec:
    """What `load` would serve.

    Raises:
        PackError: names everything in the tables that does not fit.
    """
    return _spec(read_tables(config))


def build(config: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str, backend: Backend) -> HafmStream:
    """`load` with a choice of what decodes."""
    name = str(config.get("name", ""))
    tables = read_tables(config)
    problems: list[str] = []

    def attempt(make: Callable[[], Part]) -> Part | None:
        try:
            return make()
        except ValueError as error:
            problems.append(str(error))
            return None

    networks = {
        stage: attempt(lambda stage=stage, sizes=sizes: read_network(stage, sizes, tensors))  # type: ignore[misc]
        for stage, sizes in tables.network.stages().items()
    }
    codec = attempt(lambda: _codec(tables.codec, tensors, device))
    encoder = attempt(lambda: _encoder(tables.semantics, tensors, device))
    profile = attempt(lambda: _key_profile(tables, tensors))
    beats = attempt(lambda: _beat_table(tensors))
    hints = attempt(lambda: ChordHints.from_tensors(tensors)) if isinstance(tables.network, AlignedConfig) else None
    if problems or codec is None or encoder is None:
        raise PackError(problems, name)
    parts = HafmParts(
        config=tables.network,
        networks={stage: network.to(device) for stage, network in networks.items() if network is not None},
        encoder=encoder,
        codec=codec,
        spec=_spec(tables),
        vocal_noise=tables.vocal_noise,
        device=device,
        key_profile=profile,
        hints=hints,
        beat_table=beats,
        other_bytes=sum(4 * t.numel() for n, t in tensors.items() if n.startswith(("codec.", "semantics."))),
    )
    return HafmStream(parts, backend, tables.cache)


def read_tables(config: Mapping[str, Any]) -> PackTables:
    """The tables of a pack.toml.

    Raises:
        PackError: names everything that is missing or impossible.
    """
    problems: list[str] = []
    network: HafmConfig | AlignedConfig | None = None
    try:
        network = _network(config.get("network", {}))
        check = _aligned_mismatches if isinstance(network, AlignedConfig) else _mismatches
        problems += check(network, config.get("codec", {}), config.get("semantics", {}))  # type: ignore[arg-type]
    except ValueError as error:
        problems.append(str(error))
    codec = config.get("codec", {})
    if codec.get("kind") not in CODECS:
        problems.append(f"[codec] kind is {codec.get('kind')!r}: use one of {', '.join(CODECS)}")
    semantics = config.get("semantics", {})
    if semantics.get("kind") not in SEMANTICS:
        problems.append(f"[semantics] kind is {semantics.get('kind')!r}: use one of {', '.join(SEMANTICS)}")
    stream = config.get("stream", {})
    cache = stream.get("cache", "evict")
    if cache not in get_args(Cache):
        problems.append(f"[stream] cache is {cache!r}: use one of {', '.join(get_args(Cache))}")
    try:
        sampling = Sampling(**config.get("sampling", {}))
        chunk = Fraction(stream.get("default_chunk_seconds", "4/5"))
        visibility = float(stream.get("default_visibility_seconds", chunk))
        noise = float(semantics.get("vocal_noise", VOCAL_NOISE))
    except (TypeError, ValueError) as error:
        problems.append(f"[sampling], [stream] or [semantics]: {error}")
    if problems or network is None:
        raise PackError(problems, str(config.get("name", "")))
    return PackTables(network, codec, semantics, noise, sampling, chunk, visibility, cache)


def read_network(
    stage: str, config: StageConfig | AlignedStageConfig, tensors: Mapping[str, Tensor]
) -> StageNetwork | AlignedNetwork:
    """A stage with the tensors named `stage.`…, in float32.

    Raises:
        ValueError: names every tensor that is missing, unknown or of another shape.
    """
    with torch.device("meta"):
        network = _empty_network(config)
    given = {name.removeprefix(f"{stage}."): t for name, t in tensors.items() if name.startswith(f"{stage}.")}
    wanted = {name: list(t.shape) for name, t in network.state_dict().items()}
    wrong = [f"{stage}.{name} {wanted[name]} is missing" for name in sorted(wanted.keys() - given.keys())]
    wrong += [f"{stage}.{name} is not part of this stage" for name in sorted(given.keys() - wanted.keys())]
    wrong += [
        f"{stage}.{name} is {list(given[name].shape)}, must be {wanted[name]}"
        for name in sorted(wanted.keys() & given.keys())
        if list(given[name].shape) != wanted[name]
    ]
    if wrong:
        raise ValueError("; ".join(wrong))
    network.load_state_dict({name: t.detach().to(torch.float32) for name, t in given.items()}, assign=True)
    return network


def tiny_random(seed: int = 0, layout: str = "interleaved") -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Tables and tensors of a HAFM of random weights, as small as it gets: it opens at once and plays noise."""
    aligned = layout == "aligned"
    network: HafmConfig | AlignedConfig = ALIGNED_TINY if aligned else TINY
    codec = replace(TINY_CODEC, codebooks=ALIGNED_TINY.acoustic.codebooks) if aligned else TINY_CODEC
    vocabulary = VOICE_VOCABULARY if aligned else HarmonyEncoder.vocabulary
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tensors = {f"codec.{name}": t for name, t in ConvNeXtCodec(codec).state_dict().items()}
        for stage, sizes in network.stages().items():
            tensors |= {f"{stage}.{name}": t for name, t in _empty_network(sizes).state_dict().items()}
        for side in ("vocal",) if aligned else ("vocal", "instrumental"):
            tables = HarmonyTables(
                mean=torch.zeros(FEATURES), gain=torch.ones(FEATURES), centroids=torch.rand(vocabulary, FEATURES)
            )
            tensors |= tables.tensors(f"semantics.{side}.")
        if aligned:
            tensors["semantics.key"] = torch.randn(vocabulary).log_softmax(0)
            shapes = ChordHints.shapes(hidden=8)
            tensors |= {f"semantics.hints.{name}": torch.randn(shape) for name, shape in shapes.items()}
    config = {
        "format": 1,
        "name": "tiny",
        "version": "0.1.0",
        "family": "hafm",
        "description": "A HAFM of random weights, for tests",
        "license": "Apache-2.0",
        "network": network.to_dict(),
        "codec": {"kind": "convnext", **vars(codec)},
        "semantics": {"kind": "harmony", "vocabulary": vocabulary},
        "stream": {"default_chunk_seconds": "2/5", "default_visibility_seconds": 0.4},
    }
    return config, {name: t.detach().contiguous() for name, t in tensors.items()}


def _empty_network(config: StageConfig | AlignedStageConfig) -> StageNetwork | AlignedNetwork:
    return StageNetwork(config) if isinstance(config, StageConfig) else AlignedNetwork(config)


def _codec(table: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str) -> Codec:
    if table["kind"] == "convnext":
        return convnext_codec(table, tensors).requires_grad_(False).to(device)
    given = {name.removeprefix("codec."): t for name, t in tensors.items() if name.startswith("codec.")}
    return EncodecStream(given, codebooks=table.get("codebooks", 8), device=device)


def _encoder(table: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str) -> SemanticEncoder:
    if table["kind"] == "harmony":
        encoder = HarmonyEncoder(HarmonyTables.from_tensors(tensors, "semantics.vocal."))
        vocabulary = table.get("vocabulary", HarmonyEncoder.vocabulary)
        if encoder.vocabulary != vocabulary:
            raise ValueError(
                f"semantics.vocal.centroids has {encoder.vocabulary} entries, [semantics] vocabulary is {vocabulary}"
            )
        return encoder
    prefix = "semantics.hubert."
    given = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    if "centroids" not in given:
        raise ValueError(f"{prefix}centroids is missing")
    sizes = {field.name: table[field.name] for field in fields(HubertConfig) if field.name in table}
    return HubertEncoder(given, given["centroids"], HubertConfig(**sizes), device)


def _key_profile(tables: PackTables, tensors: Mapping[str, Tensor]) -> NDArray[np.float32] | None:
    if not isinstance(tables.network, AlignedConfig):
        return None
    profile = tensors.get("semantics.key")
    if profile is None or profile.shape != (VOICE_VOCABULARY,):
        found = "missing" if profile is None else str(list(profile.shape))
        raise ValueError(f"semantics.key is {found}, must be {[VOICE_VOCABULARY]}")
    return profile.float().cpu().numpy()


def _beat_table(tensors: Mapping[str, Tensor]) -> NDArray[np.float32] | None:
    """Packs made before beats were heard have none."""
    table = tensors.get("semantics.beats")
    if table is not None and table.shape != (KINDS, POSITIONS):
        raise ValueError(f"semantics.beats is {list(table.shape)}, must be {[KINDS, POSITIONS]}")
    return None if table is None else table.float().cpu().numpy()


def _network(table: Mapping[str, Any]) -> HafmConfig | AlignedConfig:
    layout = table.get("layout", "interleaved")
    if layout not in LAYOUTS:
        raise ValueError(f"[network] layout is {layout!r}: use one of {', '.join(LAYOUTS)}")
    stages = {name: value for name, value in table.items() if name != "layout"}
    return AlignedConfig.from_dict(stages) if layout == "aligned" else HafmConfig.from_dict(stages)


def _spec(tables: PackTables) -> StreamSpec:
    network = tables.network
    codes = network.acoustic if isinstance(network, AlignedConfig) else network.coarse
    return make_spec(
        input_rate=(HubertEncoder if tables.semantics["kind"] == "hubert" else HarmonyEncoder).sample_rate,
        output_rate=CODEC_RATE,
        frame_rate=Fraction(codes.rate),
        sampling=tables.sampling,
        codebook_size=codes.vocabulary,
        default_chunk_seconds=tables.default_chunk_seconds,
        default_visibility_seconds=tables.default_visibility_seconds,
        takes_key=isinstance(network, AlignedConfig),
        lookahead_seconds=float(LOOKAHEAD) if isinstance(network, AlignedConfig) else 0.0,
    )


def _aligned_mismatches(network: AlignedConfig, codec: Mapping[str, Any], semantics: Mapping[str, Any]) -> list[str]:
    """What keeps the two stages, the codec and the semantic encoder from working together."""
    semantic, acoustic = network.semantic, network.acoustic
    predicted = (acoustic.codebooks, acoustic.vocabulary, acoustic.rate)
    has = (
        codec.get("codebooks", ConvNeXtCodecConfig.codebooks),
        codec.get("codebook_size", ConvNeXtCodecConfig.codebook_size),
        CODEC_RATE // codec.get("hop", ConvNeXtCodecConfig.hop),
    )
    vocabulary = semantics.get("vocabulary", HarmonyEncoder.vocabulary)
    score = (semantic.codebooks, semantic.vocabulary, semantic.rate)
    problems = []
    if predicted != has:
        problems.append(f"the acoustic stage predicts {_codes(*predicted)}, the codec has {_codes(*has)}")
    if score != (BAND.codebooks, BAND.vocabulary, BAND.rate):
        problems.append(
            f"the semantic stage predicts {_codes(*score)}, "
            f"a score has {_codes(BAND.codebooks, BAND.vocabulary, BAND.rate)}"
        )
    if any(semantic.delays):
        problems.append(f"[network.semantic] has delays {list(semantic.delays)}: it can have none")
    if vocabulary != VOICE_VOCABULARY:
        problems.append(f"aligned stages know {VOICE_VOCABULARY} vocal tokens, the semantic encoder has {vocabulary}")
    for name, stage in network.stages().items():
        known = {source.name: source for source in KNOWN_ALIGNED_SOURCES[name]}
        unknown = sorted({source.name for source in stage.sources} - known.keys())
        if unknown:
            problems.append(f"[network.{name}] is conditioned on {', '.join(unknown)}, which is not there when it runs")
        problems += [
            f"[network.{name}] takes {source.name} as {asdict(source)}: it is made as {asdict(known[source.name])}"
            for source in stage.sources
            if source.name in known and source != known[source.name]
        ]
    return problems


def _codes(codebooks: int, entries: int, rate: int) -> str:
    return f"{codebooks} codebooks of {entries} at {rate} frames a second"


def _mismatches(network: HafmConfig, codec: Mapping[str, Any], semantics: Mapping[str, Any]) -> list[str]:
    """What keeps the three stages, the codec and the semantic encoder from working together."""
    problems = []
    codebooks = codec.get("codebooks", ConvNeXtCodecConfig.codebooks)
    vocabulary = semantics.get("vocabulary", HarmonyEncoder.vocabulary)
    predicted = network.coarse.quantizers + network.fine.quantizers
    if predicted != codebooks:
        problems.append(f"coarse and fine stage predict {predicted} codebooks, the codec has {codebooks}")
    if network.coarse.rate != network.fine.rate:
        problems.append(f"coarse and fine stage run at {network.coarse.rate} and {network.fine.rate} frames a second")
    for name, stage in network.stages().items():
        unknown = sorted({source.name for source in stage.sources} - KNOWN_SOURCES[name])
        problems += [
            f"[network.{name}] knows {source.vocabulary} vocal tokens, the semantic encoder has {vocabulary}"
            for source in stage.sources
            if source.name == VOCAL.name and source.vocabulary != vocabulary
        ]
        if unknown:
            problems.append(f"[network.{name}] is conditioned on {', '.join(unknown)}, which is not there when it runs")
    for name, becomes in PREDICTED.items():
        made = network.stages()[name]
        for other, stage in network.stages().items():
            for source in stage.sources:
                fits = (source.rate, source.codebooks, source.vocabulary) == (
                    made.rate,
                    made.quantizers,
                    made.vocabulary,
                )
                if source.name == becomes and not fits:
                    problems.append(f"[network.{other}] takes {becomes} in another form than [network.{name}] makes it")
    return problems
