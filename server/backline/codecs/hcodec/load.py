"""An HCodec from a pack: whole, or only what decodes, which is all that serving a separator needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from backline.codecs.hcodec.network import HCodec, HCodecConfig
from backline.codecs.hcodec.semantics import HubertFeatures
from backline.nn.tables import read_table
from backline.nn.weights import mismatches, part

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
    config = read_table(HCodecConfig, table, "codec", known_elsewhere=("kind",))
    with torch.device("meta"):
        codec = HCodec(config)
    given = part(tensors, "codec.")
    hubert = {name.removeprefix(HUBERT): given.pop(name) for name in list(given) if name.startswith(HUBERT)}
    listens = any(name.split(".")[0] in LISTENING for name in given)
    if not listens:
        codec.drop(LISTENING)
    if not any(name.split(".")[0] in TRAINING for name in given):
        codec.drop(TRAINING)
    wrong = mismatches(codec.state_dict(), given, "codec.")
    features = None
    if hubert:
        try:
            features = HubertFeatures(hubert, config.feature_width, config.sample_rate, config.hop)
        except ValueError as error:
            wrong.append(str(error))
    if wrong:
        raise ValueError("; ".join(sorted(wrong)))
    codec.load_state_dict({name: value.float() for name, value in given.items()}, assign=True)
    codec.hubert = features
    return codec.eval()
