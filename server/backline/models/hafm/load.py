"""A HAFM pack made resident: every tensor checked, the parts put together. tables.py says what its pack.toml has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backline.codecs.base import Codec, SemanticEncoder
from backline.codecs.convnext import ConvNeXtCodec, ConvNeXtCodecConfig, convnext_codec
from backline.codecs.duotok.codec import clustered_semantics, track_semantics
from backline.codecs.duotok.config import DuoTokConfig, Role
from backline.codecs.duotok.load import PREFIX as TOKENIZER
from backline.codecs.duotok.load import load as load_tokenizer
from backline.codecs.encodec import EncodecStream
from backline.codecs.harmony import HarmonyEncoder, HarmonyTables
from backline.codecs.hubert import HubertConfig, HubertEncoder
from backline.codecs.tables import EncodecConfig
from backline.codecs.whisper_semantics import WhisperSemantics
from backline.kernels.chroma import FEATURES
from backline.models.errors import PackError
from backline.models.hafm.aligned.band import AlignedBand
from backline.models.hafm.aligned.config import TINY as ALIGNED_TINY
from backline.models.hafm.aligned.config import AlignedConfig, AlignedStageConfig
from backline.models.hafm.aligned.network import AlignedNetwork
from backline.models.hafm.band import Backend
from backline.models.hafm.interleaved.band import InterleavedBand
from backline.models.hafm.interleaved.config import TINY, InterleavedConfig, StageConfig
from backline.models.hafm.interleaved.network import StageNetwork
from backline.models.hafm.listening.beats import KINDS, POSITIONS
from backline.models.hafm.listening.hints import ChordHints
from backline.models.hafm.score import VOICE_VOCABULARY
from backline.models.hafm.stream import CAPACITY, HafmParts, HafmStream
from backline.models.hafm.tables import PackTables, read_semantics, read_tables, spec_of
from backline.models.rows import rows_of
from backline.models.stream import StreamSpec
from backline.nn.weights import filled, misfits, part

TINY_CODEC = ConvNeXtCodecConfig(latent=16, encoder_width=16, encoder_blocks=1, decoder_width=16, decoder_blocks=1)

Part = TypeVar("Part")


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
    return spec_of(read_tables(config))


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
    encoder = attempt(lambda: load_encoder(config.get("semantics", {}), tensors, device))
    profile = attempt(lambda: _key_profile(tables, tensors))
    beats = attempt(lambda: _beat_table(tensors))
    hints = attempt(lambda: ChordHints.from_tensors(tensors)) if isinstance(tables.network, AlignedConfig) else None
    if problems or codec is None or encoder is None:
        raise PackError(problems, name)
    parts = HafmParts(
        encoder=encoder,
        codec=codec,
        spec=spec_of(tables),
        vocal_noise=tables.semantics.vocal_noise,
        device=device,
        other_bytes=sum(4 * t.numel() for n, t in tensors.items() if n.startswith(("codec.", "semantics."))),
    )
    capacity = rows_of(config, CAPACITY)
    rows = capacity + 1
    stages: dict[str, Any] = {stage: network.to(device) for stage, network in networks.items() if network is not None}
    if isinstance(tables.network, AlignedConfig):
        assert profile is not None, "aligned stages come with a key profile"
        assert hints is not None, "aligned stages come with hints"
        return HafmStream(parts, AlignedBand(tables.network, stages, profile, hints, rows, backend, beats), capacity)
    return HafmStream(parts, InterleavedBand(tables.network, stages, rows, backend, tables.stream.cache), capacity)


def read_network(
    stage: str, config: StageConfig | AlignedStageConfig, tensors: Mapping[str, Tensor]
) -> StageNetwork | AlignedNetwork:
    """A stage with the tensors named `stage.`…, in float32.

    Raises:
        ValueError: names every tensor that is missing, unknown, of another shape or type, or not finite.
    """
    return filled(lambda: _empty_network(config), part(tensors, f"{stage}."), f"{stage}.")


def tiny_random(seed: int = 0, layout: str = "interleaved") -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Tables and tensors of a HAFM of random weights, as small as it gets: it opens at once and plays noise."""
    aligned = layout == "aligned"
    network: InterleavedConfig | AlignedConfig = ALIGNED_TINY if aligned else TINY
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


def load_encoder(table: Any, tensors: Mapping[str, Tensor], device: str, role: Role = "vocals") -> SemanticEncoder:
    """What listens, by a pack's [semantics] table and its tensors "semantics.*".

    Args:
        role: whose tokens are wanted; only a tokenizer's own are others for a band than for a voice.

    Raises:
        ValueError: names everything that is missing or does not fit.
    """
    semantics, sizes = read_semantics(table)
    vocabulary = semantics.vocabulary
    if sizes is None:
        encoder = HarmonyEncoder(HarmonyTables.from_tensors(tensors, "semantics.vocal."))
        if encoder.vocabulary != vocabulary:
            raise ValueError(
                f"semantics.vocal.centroids has {encoder.vocabulary} entries, [semantics] vocabulary is {vocabulary}"
            )
        return encoder
    prefix = f"semantics.{semantics.kind}."
    given = dict(part(tensors, prefix))
    centroids = given.pop("centroids", None)
    if isinstance(sizes, DuoTokConfig):
        return _tokens_as_semantics(sizes, given, centroids, vocabulary, device, role)
    if centroids is None:
        raise ValueError(f"{prefix}centroids is missing")
    dimension = sizes.dimension if isinstance(sizes, HubertConfig) else sizes.width
    if wrong := misfits(f"{prefix}centroids", centroids, (vocabulary, dimension)):
        raise ValueError(wrong[0])
    if isinstance(sizes, HubertConfig):
        return HubertEncoder(given, centroids, sizes, device)
    return WhisperSemantics(given, centroids, sizes, device)


def _tokens_as_semantics(
    sizes: DuoTokConfig,
    given: Mapping[str, Tensor],
    centroids: Tensor | None,
    vocabulary: int,
    device: str,
    role: Role,
) -> SemanticEncoder:
    """Raises ValueError: names everything that is missing or does not fit."""
    found = {f"{TOKENIZER}{name}": tensor for name, tensor in given.items()}
    tokenizer = load_tokenizer({"kind": "duotok", **sizes.to_table()}, found).to(device)
    if centroids is None:
        if vocabulary != sizes.entries:
            raise ValueError(f"[semantics] vocabulary is {vocabulary}, and the tokenizer has {sizes.entries} tokens")
        return track_semantics(tokenizer, role)
    if wrong := misfits("semantics.duotok.centroids", centroids, (vocabulary, sizes.width)):
        raise ValueError(wrong[0])
    return clustered_semantics(tokenizer.encoder, centroids.to(device, torch.float32))


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
