"""The tables of a HAFM's pack.toml, read and checked, and what a pack of them will serve.

[network]    layout = "interleaved" (if not given) or "aligned"
[network.semantic] [network.coarse] [network.fine]   interleaved: fields of StageConfig
[network.semantic] [network.acoustic]                aligned: fields of AlignedStageConfig
[codec]      kind = "convnext" or "encodec", and its sizes
[semantics]  kind = "harmony", or "hubert", "whisper" or "duotok" and the sizes of these; vocal_noise
[sampling]   guidance, temperature, top_k: the parameters' defaults
[stream]     default_chunk_seconds ("4/5"), default_visibility_seconds, cache = "evict" or "recompute"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Annotated, Any, Literal, TypeVar

from msgspec import Meta

from backline.codecs.clustered import ClusteredEncoder
from backline.codecs.convnext import ConvNeXtCodecConfig
from backline.codecs.duotok.config import DuoTokConfig
from backline.codecs.harmony import HarmonyEncoder
from backline.codecs.hcodec.network import HCodecConfig
from backline.codecs.hubert import HubertConfig
from backline.codecs.tables import EncodecConfig, Kind, read_codec_table
from backline.codecs.whisper_semantics import WhisperSemanticsConfig
from backline.models.errors import PackError
from backline.models.hafm.aligned.config import LOOKAHEAD, AlignedConfig
from backline.models.hafm.aligned.fit import problems as aligned_problems
from backline.models.hafm.band import CODEC_RATE, MOST_GUIDANCE, MOST_TEMPERATURE, Sampling
from backline.models.hafm.gate import GATE
from backline.models.hafm.grid import CHUNK_QUANTUM
from backline.models.hafm.held import CHORD_SOURCE
from backline.models.hafm.interleaved.config import InterleavedConfig
from backline.models.hafm.interleaved.fit import problems as interleaved_problems
from backline.models.hafm.interleaved.player import Cache
from backline.models.hafm.sources import VOCAL
from backline.models.hafm.transport import BAND_BAR
from backline.models.stream import Parameter, Port, StreamSpec
from backline.nn.tables import Entries, Seconds, TableError, read_table, shortened

CODECS: tuple[Kind, ...] = ("convnext", "encodec")
SEMANTIC_ENTRIES = ("kind", "vocabulary", "vocal_noise")  # of [semantics], of any kind
VOCAL_NOISE = 0.01  # the paper's
BRANCHES = 2  # of a row, where there is guidance
MOST_RING_BYTES = 1 << 31  # of one session and stage; the paper's largest has 100 MB
LAYOUTS: dict[str, type[InterleavedConfig | AlignedConfig]] = {
    "interleaved": InterleavedConfig,
    "aligned": AlignedConfig,
}

# Kinds of semantics that are a network's features and k-means, and the sizes of the network. A tokenizer's may be its
# own tokens instead: then there are no centroids.
Listener = HubertConfig | WhisperSemanticsConfig | DuoTokConfig
CLUSTERED: dict[str, type[Listener]] = {
    "hubert": HubertConfig,
    "whisper": WhisperSemanticsConfig,
    "duotok": DuoTokConfig,
}

Part = TypeVar("Part")


@dataclass(frozen=True)
class SemanticsTable:
    """The [semantics] table, but for the sizes of a network."""

    kind: Literal["harmony", "hubert", "whisper", "duotok"]
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

    network: InterleavedConfig | AlignedConfig
    codec: ConvNeXtCodecConfig | EncodecConfig
    semantics: SemanticsTable
    listener: Listener | None  # where a network is what listens

    @property
    def input_rate(self) -> int:
        """Hz, of the voice."""
        if self.listener is None:
            return HarmonyEncoder.sample_rate
        return self.listener.sample_rate if isinstance(self.listener, DuoTokConfig) else ClusteredEncoder.sample_rate

    @property
    def semantic_rate(self) -> Fraction:
        """Tokens of the voice in a second."""
        if self.listener is None:
            return HarmonyEncoder.frame_rate
        return self.listener.frame_rate if isinstance(self.listener, DuoTokConfig) else ClusteredEncoder.frame_rate

    sampling: Sampling
    stream: StreamTable


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
    heard = attempt(lambda: read_semantics(config.get("semantics", {})))
    sampling = attempt(lambda: read_table(Sampling, config.get("sampling", {}), "sampling"))
    stream = attempt(lambda: read_table(StreamTable, config.get("stream", {}), "stream"))
    if network is not None and codec is not None and heard is not None:
        semantics, listener = heard
        assert not isinstance(codec, HCodecConfig), "of CODECS"
        problems += _rate_problems(codec) + _memory_problems(network)
        if isinstance(network, AlignedConfig):
            problems += aligned_problems(network, codec, semantics.vocabulary)
        else:
            problems += interleaved_problems(network, codec, semantics.vocabulary)
        if not problems and sampling is not None and stream is not None:
            tables = PackTables(network, codec, semantics, listener, sampling, stream)
            problems += _semantic_rate_problems(tables)
            if not problems:
                return tables
    raise PackError(problems, str(config.get("name", "")))


def read_semantics(said: Any) -> tuple[SemanticsTable, Listener | None]:
    """A [semantics] table: what every kind says, and the sizes of the network, where one listens.

    Raises:
        TableError: names everything that is missing or impossible.
    """
    sizes = CLUSTERED.get(str(said.get("kind"))) if isinstance(said, Mapping) else None
    if sizes is None:
        return read_table(SemanticsTable, said, "semantics"), None
    problems: list[str] = []
    found: list[Any] = []
    others = tuple(entry.name for entry in fields(sizes))
    for kind, elsewhere in ((SemanticsTable, others), (sizes, SEMANTIC_ENTRIES)):
        try:
            found.append(read_table(kind, said, "semantics", known_elsewhere=elsewhere))
        except TableError as error:
            problems += error.problems
    if problems:
        raise TableError(problems)
    return found[0], found[1]


def spec_of(tables: PackTables) -> StreamSpec:
    """What a pack with such tables takes and gives."""
    network, sampling, chunk = tables.network, tables.sampling, tables.stream.default_chunk_seconds
    visibility = tables.stream.default_visibility_seconds
    aligned = isinstance(network, AlignedConfig)
    codes = network.acoustic if isinstance(network, AlignedConfig) else network.coarse
    key = Parameter(
        "key", 0, 0, 24, "", "0: heard from the voice; 1 to 12: C to B major; 13 to 24: C to B minor", integer=True
    )
    return StreamSpec(
        takes_notes=aligned,
        input_rate=tables.input_rate,
        output_rate=CODEC_RATE,
        input_channels=1,
        ports=(Port("accompaniment", 1, "the band that plays along"),),
        parameters=(
            Parameter("guidance", sampling.guidance, 0.0, MOST_GUIDANCE, "x", "how closely the band follows the voice"),
            Parameter(
                "temperature",
                sampling.temperature,
                0.0,
                MOST_TEMPERATURE,
                "",
                "how freely tokens are drawn; 0: not at all",
            ),
            Parameter(
                "top_k", sampling.top_k, 1, codes.vocabulary, "tokens", "likeliest tokens to draw from", integer=True
            ),
            *((key, CHORD_SOURCE) if aligned else ()),
            GATE,
        ),
        frame_rate=Fraction(codes.rate),
        default_chunk_seconds=chunk,
        default_visibility_seconds=float(chunk) if visibility is None else visibility,
        lookahead_seconds=float(LOOKAHEAD) if aligned else 0.0,
        metres=((round(BAND_BAR), 4),),
    )


def _network(table: Any) -> InterleavedConfig | AlignedConfig:
    layout = table.get("layout", "interleaved") if isinstance(table, Mapping) else "interleaved"
    if not isinstance(layout, str) or layout not in LAYOUTS:
        raise TableError([f"[network] layout is {shortened(layout)}: use one of {', '.join(LAYOUTS)}"])
    return LAYOUTS[layout].from_dict(table)


def _rate_problems(codec: ConvNeXtCodecConfig | EncodecConfig) -> list[str]:
    if codec.sample_rate == CODEC_RATE and codec.sample_rate % codec.hop == 0:
        return []
    return [
        f"[codec] has frames of {codec.hop} samples at {codec.sample_rate} Hz: use a whole number of them a second at "
        f"{CODEC_RATE} Hz"
    ]


def _semantic_rate_problems(tables: PackTables) -> list[str]:
    """Where stages and what listens count the voice's tokens at different rates."""
    rate = tables.semantic_rate
    return [
        f"[network.{name}] hears {source.rate} vocal tokens a second, the semantic encoder gives {float(rate):g}"
        for name, stage in tables.network.stages().items()
        for source in stage.sources
        if source.name == VOCAL.name and source.rate != rate
    ]


def _memory_problems(network: InterleavedConfig | AlignedConfig) -> list[str]:
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
