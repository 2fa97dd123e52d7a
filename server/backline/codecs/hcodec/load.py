"""An HCodec from a pack: whole, or only what decodes, which is all that serving a separator needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from backline.codecs.hcodec.network import HCodec, HCodecConfig
from backline.codecs.hcodec.semantics import HubertFeatures
from backline.codecs.weights import mismatches

LISTENING = ("acoustic", "semantic")  # parts of the network that only encoding needs
TRAINING = ("feature_decoder",)  # and those that only training does
HUBERT = "hubert."


def hcodec(table: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> HCodec:
    """The codec of a pack, in float32 and evaluation mode; tensors that are float32 already are not copied.

    Args:
        table: the pack's [codec] table; "kind" is "hcodec", the rest are fields of the configuration.
        tensors: named `codec.…`, of any floating type; others are left alone. Without any of `codec.acoustic.…` and
            `codec.semantic.…` the codec decodes only. `codec.hubert.…` is the network whose features it hears.

    Raises:
        ValueError: table or tensors do not fit; every mismatch is named.
    """
    sizes = {name: value for name, value in table.items() if name != "kind"}
    known = {field.name for field in fields(HCodecConfig)}
    if unknown := sorted(sizes.keys() - known):
        raise ValueError(f"[codec] has unknown entries {unknown}: known are {sorted(known)}")
    with torch.device("meta"):
        codec = HCodec(HCodecConfig(**sizes))
    given = {name.removeprefix("codec."): value for name, value in tensors.items() if name.startswith("codec.")}
    hubert = {name.removeprefix(HUBERT): given.pop(name) for name in list(given) if name.startswith(HUBERT)}
    listens = any(name.split(".")[0] in LISTENING for name in given)
    if not listens:
        codec.drop(LISTENING)
    if not any(name.split(".")[0] in TRAINING for name in given):
        codec.drop(TRAINING)
    wrong = mismatches(codec.state_dict(), given)
    features = None
    if hubert:
        try:
            features = HubertFeatures(hubert, codec.config)
        except ValueError as error:
            wrong.append(str(error))
    if wrong:
        raise ValueError("; ".join(sorted(wrong)))
    codec.load_state_dict({name: value.float() for name, value in given.items()}, assign=True)
    codec.hubert = features
    return codec.eval()
