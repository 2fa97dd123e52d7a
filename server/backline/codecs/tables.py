"""The [codec] table of a pack: its kind, and that codec's sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from msgspec import Meta

from backline.codecs.convnext import ConvNeXtCodecConfig
from backline.codecs.encodec import CODEBOOKS_IN_CHECKPOINT
from backline.codecs.hcodec.network import HCodecConfig
from backline.nn.tables import TableError, read_table, shortened

Kind = Literal["convnext", "encodec", "hcodec"]


@dataclass(frozen=True)
class EncodecConfig:
    """The official EnCodec has one size; how many of its codebooks are used is all there is to choose."""

    sample_rate: Literal[24_000] = 24_000
    hop: Literal[320] = 320
    codebooks: Annotated[int, Meta(ge=1, le=CODEBOOKS_IN_CHECKPOINT)] = 8
    codebook_size: Literal[1024] = 1024


CONFIGS: Mapping[Kind, type[ConvNeXtCodecConfig | EncodecConfig | HCodecConfig]] = {
    "convnext": ConvNeXtCodecConfig,
    "encodec": EncodecConfig,
    "hcodec": HCodecConfig,
}


def read_codec_table(table: Any, kinds: tuple[Kind, ...]) -> ConvNeXtCodecConfig | EncodecConfig | HCodecConfig:
    """The sizes of a codec that is one of `kinds`. Raises TableError with everything that does not fit."""
    if not isinstance(table, Mapping):
        raise TableError([f"[codec] is {shortened(table)}: make it a table"])
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        choice = kinds[0] if len(kinds) == 1 else f"one of {', '.join(kinds)}"
        raise TableError([f"[codec] kind is {shortened(kind)}: use {choice}"])
    return read_table(CONFIGS[kind], table, "codec", known_elsewhere=("kind",))
