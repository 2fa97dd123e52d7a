"""A tokenizer from its [tokenizer] table and its tensors, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from backline.codecs.duotok.config import read_tokenizer_table
from backline.codecs.duotok.tokenizer import Tokenizer
from backline.nn.weights import filled, part

PREFIX = "tokenizer."
EXACT = (PREFIX + "tracks.",)  # what int8 would save nothing of, and tokens follow from: for `packs.quantized`


def load(table: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Tokenizer:
    """The tokenizer in float32 and evaluation mode, without gradients; tensors in float32 are not copied.

    Args:
        table: "kind" is "duotok", the rest are fields of `DuoTokConfig`.
        tensors: named `tokenizer.…`, of any floating type; others are left alone.

    Raises:
        ValueError: table or tensors do not fit; every mismatch is named.
    """
    config = read_tokenizer_table(table)
    tokenizer = filled(lambda: Tokenizer(config), part(tensors, PREFIX), PREFIX)
    if not bool((tokenizer.encoder.mel.deviation > 0).all()):
        raise ValueError(f"{PREFIX}encoder.mel.deviation must be more than 0 in every band")
    return tokenizer.eval().requires_grad_(False)


def packed(tokenizer: Tokenizer) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a pack carries: the [tokenizer] table, and tensors named `tokenizer.…`. Codebooks' tables are not stored."""
    values = tokenizer.state_dict().items()
    tensors = {PREFIX + name: value.detach().cpu().contiguous() for name, value in values}
    return {"kind": "duotok", **tokenizer.config.to_table()}, tensors
