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
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import torch
from msgspec import Meta
from numpy.typing import NDArray
from torch import Tensor

from backline.codecs.base import Codec, SemanticEncoder
from backline.codecs.convnext import ConvNeXtCodec, ConvNeXtCodecConfig, convnext_codec
from backline.codecs.encodec import EncodecStream
from backline.codecs.harmony import HarmonyEncoder, HarmonyTables
from backline.codecs.hcodec.network import HCodecConfig
from backline.codecs.hubert import HubertConfig, HubertEncoder
from backline.codecs.tables import EncodecConfig, Kind, read_codec_table
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
from backline.models.hafm.layout import CHUNK_QUANTUM
from backline.models.hafm.network import StageNetwork
from backline.models.hafm.player import Backend, Cache
from backline.models.hafm.score import VOICE_VOCABULARY
from backline.models.hafm.stream import HafmParts, HafmStream, make_spec
from backline.models.stream import StreamSpec
from backline.nn.tables import Entries, Seconds, TableError, read_table, shortened
from backline.nn.weights import misfits, mismatches, part

CODECS: tuple[Kind, ...] = ("convnext", "encodec")
SEMANTIC_ENTRIES = ("kind", "vocabulary", "vocal_noise")  # of [semantics], of either kind
CODEC_RATE = 24_000  # Hz, of both codecs
VOCAL_NOISE = 0.01  # the paper's
BRANCHES = 2  # of a row, where there is guidance
MOST_RING_BYTES = 1 << 31  # of one session and stage; the paper's largest has 100 MB
LAYOUTS: dict[str, type[HafmConfig | AlignedConfig]] = {"interleaved": HafmConfig, "aligned": AlignedConfig}
KNOWN_SOURCES = {  # stage -> sources that exist when it runs
    "semantic": {"vocal", "transport"},
    "coarse": {"vocal", "transport", "instrumental"},
    "fine": {"vocal", "transport", "instrumental", "coarse"},
}
KNOWN_ALIGNED_SOURCES = {"semantic": (VOICE, BEAT, LAG, CHORD), "acoustic": (BEAT, BAND)}
TINY_CODEC = ConvNeXtCodecConfig(latent=16, encoder_width=16, encoder_blocks=1, decoder_width=16, decoder_blocks=1)

Part = TypeVar("Part")


@dataclass(frozen=True)
class SemanticsTable:
    """The [semantics] table, but for the sizes of HuBERT."""

    kind: Literal["harmony", "hubert"]
    vocabulary: Entries = HarmonyEncoder.vocabulary
    vocal_noise: Annotated[float, Meta(ge=0, le=1)] = VOCAL_NOISE


@dataclass(frozen=True)
class StreamTable:
    """The [stream] table. A visibility that is not given is the chunk."""

    default_chunk_seconds: Seconds = Fraction(4, 5)
    default_visibility_seconds: Annotated[float, Meta(ge=-2, le=60)] | None = None
    cache: Cache = "evict"

    def __post_init__(self) -> None:
        longest = StreamSpec.maximum_chunk_seconds
        if not 0 < self.default_chunk_seconds <= longest or self.default_chunk_seconds % CHUNK_QUANTUM:
            raise ValueError(
                f"default_chunk_seconds is {float(self.default_chunk_seconds):g}: use a multiple of "
                f"{float(CHUNK_QUANTUM):g}, up to {float(longest):g}"
            )


@dataclass(frozen=True)
class PackTables:
    """The tables of pack.toml, checked."""

    network: HafmConfig | AlignedConfig
    codec: ConvNeXtCodecConfig | EncodecConfig
    semantics: SemanticsTable
    hubert: HubertConfig | None  # where it is what listens
    sampling: Sampling
    stream: StreamTable


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
    encoder = attempt(lambda: _encoder(tables, tensors, device))
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
        vocal_noise=tables.semantics.vocal_noise,
        device=device,
        key_profile=profile,
        hints=hints,
        beat_table=beats,
        other_bytes=sum(4 * t.numel() for n, t in tensors.items() if n.startswith(("codec.", "semantics."))),
    )
    return HafmStream(parts, backend, tables.stream.cache)


def read_tables(config: Mapping[str, Any]) -> PackTables:
    """The tables of a pack.toml.

    Raises:
        PackError: names everything that is missing or impossible.
    """
    problems: list[str] = []

    def attempt(read: Callable[[], Part]) -> Part | None:
        try:
            return read()
        except TableError as error:
            problems.extend(error.problems)
            return None

    network = attempt(lambda: _network(config.get("network", {})))
    codec = attempt(lambda: read_codec_table(config.get("codec", {}), CODECS))
    others = tuple(entry.name for entry in fields(HubertConfig))
    said = config.get("semantics", {})
    semantics = attempt(lambda: read_table(SemanticsTable, said, "semantics", known_elsewhere=others))
    hubert = None
    if semantics is not None and semantics.kind == "hubert":
        hubert = attempt(lambda: read_table(HubertConfig, said, "semantics", known_elsewhere=SEMANTIC_ENTRIES))
    sampling = attempt(lambda: read_table(Sampling, config.get("sampling", {}), "sampling"))
    stream = attempt(lambda: read_table(StreamTable, config.get("stream", {}), "stream"))
    if network is not None and codec is not None and semantics is not None:
        assert not isinstance(codec, HCodecConfig), "of CODECS"
        if isinstance(network, AlignedConfig):
            problems += _aligned_mismatches(network, codec, semantics)
        else:
            problems += _mismatches(network, codec, semantics)
        if not problems and sampling is not None and stream is not None:
            return PackTables(network, codec, semantics, hubert, sampling, stream)
    raise PackError(problems, str(config.get("name", "")))


def read_network(
    stage: str, config: StageConfig | AlignedStageConfig, tensors: Mapping[str, Tensor]
) -> StageNetwork | AlignedNetwork:
    """A stage with the tensors named `stage.`…, in float32.

    Raises:
        ValueError: names every tensor that is missing, unknown, of another shape or type, or not finite.
    """
    with torch.device("meta"):
        network = _empty_network(config)
    given = part(tensors, f"{stage}.")
    if wrong := mismatches(network.state_dict(), given, f"{stage}."):
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


def _codec(sizes: ConvNeXtCodecConfig | EncodecConfig, tensors: Mapping[str, Tensor], device: str) -> Codec:
    if isinstance(sizes, ConvNeXtCodecConfig):
        return convnext_codec(asdict(sizes), tensors).requires_grad_(False).to(device)
    return EncodecStream(part(tensors, "codec."), codebooks=sizes.codebooks, device=device)


def _encoder(tables: PackTables, tensors: Mapping[str, Tensor], device: str) -> SemanticEncoder:
    vocabulary = tables.semantics.vocabulary
    if tables.hubert is None:
        encoder = HarmonyEncoder(HarmonyTables.from_tensors(tensors, "semantics.vocal."))
        if encoder.vocabulary != vocabulary:
            raise ValueError(
                f"semantics.vocal.centroids has {encoder.vocabulary} entries, [semantics] vocabulary is {vocabulary}"
            )
        return encoder
    prefix = "semantics.hubert."
    given = part(tensors, prefix)
    if "centroids" not in given:
        raise ValueError(f"{prefix}centroids is missing")
    centroids = given["centroids"]
    if wrong := misfits(f"{prefix}centroids", centroids, (vocabulary, tables.hubert.dimension)):
        raise ValueError(wrong[0])
    return HubertEncoder(given, centroids, tables.hubert, device)


def _key_profile(tables: PackTables, tensors: Mapping[str, Tensor]) -> NDArray[np.float32] | None:
    if not isinstance(tables.network, AlignedConfig):
        return None
    profile = tensors.get("semantics.key")
    if profile is None:
        raise ValueError(f"semantics.key {[VOICE_VOCABULARY]} is missing")
    if wrong := misfits("semantics.key", profile, (VOICE_VOCABULARY,)):
        raise ValueError(wrong[0])
    return profile.float().cpu().numpy()


def _beat_table(tensors: Mapping[str, Tensor]) -> NDArray[np.float32] | None:
    """Packs made before beats were heard have none."""
    table = tensors.get("semantics.beats")
    if table is not None and (wrong := misfits("semantics.beats", table, (KINDS, POSITIONS))):
        raise ValueError(wrong[0])
    return None if table is None else table.float().cpu().numpy()


def _network(table: Any) -> HafmConfig | AlignedConfig:
    layout = table.get("layout", "interleaved") if isinstance(table, Mapping) else "interleaved"
    if not isinstance(layout, str) or layout not in LAYOUTS:
        raise TableError([f"[network] layout is {shortened(layout)}: use one of {', '.join(LAYOUTS)}"])
    return LAYOUTS[layout].from_dict(table)


def _spec(tables: PackTables) -> StreamSpec:
    network, chunk = tables.network, tables.stream.default_chunk_seconds
    visibility = tables.stream.default_visibility_seconds
    codes = network.acoustic if isinstance(network, AlignedConfig) else network.coarse
    return make_spec(
        input_rate=(HarmonyEncoder if tables.hubert is None else HubertEncoder).sample_rate,
        output_rate=CODEC_RATE,
        frame_rate=Fraction(codes.rate),
        sampling=tables.sampling,
        codebook_size=codes.vocabulary,
        default_chunk_seconds=chunk,
        default_visibility_seconds=float(chunk) if visibility is None else visibility,
        takes_key=isinstance(network, AlignedConfig),
        lookahead_seconds=float(LOOKAHEAD) if isinstance(network, AlignedConfig) else 0.0,
    )


def _aligned_mismatches(
    network: AlignedConfig, codec: ConvNeXtCodecConfig | EncodecConfig, semantics: SemanticsTable
) -> list[str]:
    """What keeps the two stages, the codec and the semantic encoder from working together."""
    semantic, acoustic = network.semantic, network.acoustic
    predicted = (acoustic.codebooks, acoustic.vocabulary, acoustic.rate)
    has = (codec.codebooks, codec.codebook_size, CODEC_RATE // codec.hop)
    vocabulary = semantics.vocabulary
    score = (semantic.codebooks, semantic.vocabulary, semantic.rate)
    problems = _rate_mismatches(codec) + _memory_problems(network)
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


def _rate_mismatches(codec: ConvNeXtCodecConfig | EncodecConfig) -> list[str]:
    if codec.sample_rate == CODEC_RATE and codec.sample_rate % codec.hop == 0:
        return []
    return [
        f"[codec] has frames of {codec.hop} samples at {codec.sample_rate} Hz: use a whole number of them a second at "
        f"{CODEC_RATE} Hz"
    ]


def _memory_problems(network: HafmConfig | AlignedConfig) -> list[str]:
    """No tensor is as long as a window, so no file tells how much a session will hold."""
    problems = []
    for name, stage in network.stages().items():
        each = BRANCHES * 2 * 2 * stage.layers * stage.heads * stage.head_width  # bytes of keys and values, bfloat16
        if each * stage.window > MOST_RING_BYTES:
            problems.append(
                f"[network.{name}] window is {stage.window}, of which a session would hold "
                f"{each * stage.window / 1e9:.1f} GB: use up to {MOST_RING_BYTES // each}"
            )
    return problems


def _mismatches(
    network: HafmConfig, codec: ConvNeXtCodecConfig | EncodecConfig, semantics: SemanticsTable
) -> list[str]:
    """What keeps the three stages, the codec and the semantic encoder from working together."""
    problems = _rate_mismatches(codec)
    codebooks, vocabulary = codec.codebooks, semantics.vocabulary
    predicted = network.coarse.quantizers + network.fine.quantizers
    if predicted != codebooks:
        problems.append(f"coarse and fine stage predict {predicted} codebooks, the codec has {codebooks}")
    entries = {network.coarse.vocabulary, network.fine.vocabulary, codec.codebook_size}
    if len(entries) > 1:
        problems.append(
            f"coarse and fine stage predict {network.coarse.vocabulary} and {network.fine.vocabulary} entries, a "
            f"codebook of the codec has {codec.codebook_size}"
        )
    if network.coarse.rate != CODEC_RATE // codec.hop:
        problems.append(
            f"[network.coarse] predicts {network.coarse.rate} frames a second, the codec has {CODEC_RATE // codec.hop}"
        )
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
    problems += _memory_problems(network)
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
