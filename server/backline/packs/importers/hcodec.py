"""The published HCodec 2.0 as a pack, or as the codec of one.

    import_hcodec(Path("large_12.5hz_weights.pt"), user_packs() / "hcodec", hubert=Path("hubert_base.safetensors"))

Sizes are those of the tensors; what fits no HCodec 2.0 is reported at once, by the names in the file. Versions 1.0 and
1.5 are other networks at 16 kHz and are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from backline.codecs.hcodec.load import LISTENING, TRAINING
from backline.codecs.hcodec.network import PATHS, HCodec, HCodecConfig
from backline.codecs.hcodec.semantics import HUBERT_BASE, HubertFeatures, base_config
from backline.codecs.hubert import hubert_layout, hubert_names
from backline.models.errors import PackError
from backline.packs.importers.checkpoint import Component, Imported, read_checkpoint
from backline.packs.pack import write_pack

OFFICIAL = "large_12.5hz_weights.pt of QuarkAudio/H-Codec-2.0"
ADAPTIVE = ("semantic_aggregator.", "acoustic_aggregator.", "bottleneck_transformer.")  # only version 1.5 has these
SEANET = "encoder.model."  # the encoder of 1.0 and 1.5
QUANTIZERS = dict(zip(PATHS, ("quantizer", "semantic_quantizer"), strict=True))
STATISTICS = ("initted", "cluster_size", "embed_avg")  # that the codebooks were trained with
WINDOWS = ("encoder.stft.window", "decoder.head.istft.window")

# From our names to the published ones, applied in this order.
RENAMED = (
    (r"^acoustic\.transformer\.", "encoder.post_net.1."),
    (r"^acoustic\.blocks\.", "encoder.prior_net."),
    (r"^acoustic\.", "encoder."),
    (r"^decoder\.context\.before\.", "decoder.prior_net."),
    (r"^decoder\.context\.transformer\.", "decoder.prior_net.3."),
    (r"^decoder\.context\.after\.0\.", "decoder.prior_net.5."),
    (r"^decoder\.context\.after\.1\.", "decoder.prior_net.6."),
    (r"^decoder\.context\.norm\.", "decoder.prior_net.7."),
    (r"^decoder\.blocks\.", "decoder.post_net."),
    (r"^decoder\.head\.", "decoder.head.out."),
    (r"^(encoder|decoder)\.(embed|out)\.", r"\1.\2.conv."),
    (r"\.final_norm\.", ".final_layer_norm."),
    (r"^decoder\.prior_net\.(\d)\.conv(\d)\.", r"decoder.prior_net.\1.conv\2.conv."),
    (r"_net\.(\d+)\.depthwise\.", r"_net.\1.dwconv.conv."),
    (r"_net\.(\d+)\.up\.", r"_net.\1.pwconv1.linear."),
    (r"_net\.(\d+)\.down\.", r"_net.\1.pwconv2.linear."),
    (r"_net\.(\d+)\.scale$", r"_net.\1.gamma"),
    (r"\.layers\.(\d+)\.lstm\.", r".layers.\1.self_attn.rnn."),
    (r"\.layers\.(\d+)\.query\.", r".layers.\1.self_attn.q_proj."),
    (r"\.layers\.(\d+)\.key\.", r".layers.\1.self_attn.k_proj."),
    (r"\.layers\.(\d+)\.value\.", r".layers.\1.self_attn.v_proj."),
    (r"\.layers\.(\d+)\.out\.", r".layers.\1.self_attn.o_proj."),
    (r"\.layers\.(\d+)\.gate\.", r".layers.\1.mlp.w1."),
    (r"\.layers\.(\d+)\.down\.", r".layers.\1.mlp.w2."),
    (r"\.layers\.(\d+)\.up\.", r".layers.\1.mlp.w3."),
    (r"\.layers\.(\d+)\.norm1\.", r".layers.\1.input_layernorm."),
    (r"\.layers\.(\d+)\.norm2\.", r".layers.\1.post_attention_layernorm."),
    (r"^semantic\.first\.", "semantic_encoder.conv.conv."),
    (r"^semantic\.blocks\.(\d)\.2\.", r"semantic_encoder.conv_blocks.\1.conv.conv."),
    (r"^semantic\.blocks\.(\d)\.(\d)\.", r"semantic_encoder.conv_blocks.\1.res_units.\2."),
    (r"^semantic\.last\.", "semantic_encoder.conv2.conv."),
    (r"^feature_decoder\.first\.", "semantic_decoder.conv1.conv."),
    (r"^feature_decoder\.blocks\.1\.0\.", "semantic_decoder.conv_blocks.1.conv.conv."),
    (r"^feature_decoder\.blocks\.(\d)\.0\.", r"semantic_decoder.conv_blocks.\1.conv.deconv."),
    (r"^feature_decoder\.blocks\.(\d)\.1\.", r"semantic_decoder.conv_blocks.\1.res_units.0."),
    (r"^feature_decoder\.blocks\.(\d)\.2\.", r"semantic_decoder.conv_blocks.\1.res_units.1."),
    (r"^feature_decoder\.last\.", "semantic_decoder.conv2.conv."),
    (r"\.res_units\.(\d)\.conv1\.", r".res_units.\1.conv1.conv."),
)


def import_hcodec(file: Path, folder: Path, hubert: Path) -> Imported:
    """Writes the pack `folder` from the published HCodec 2.0 and HuBERT base; its family plays the codec by itself.

    Args:
        file: `large_12.5hz_weights.pt`, or another file of the same layout.
        folder: the pack's own folder, e.g. user_packs() / "hcodec".
        hubert: the weights of `bosonai/hubert_base`, whose features the codec hears.

    Raises:
        PackError: a file cannot be read or is something else; names everything that does not fit.
    """
    component = read_hcodec(file, hubert)
    config = {
        "name": "hcodec",
        "version": "2.0.0",
        "family": "codec",
        "description": f"HCodec 2.0, 48 kHz at {_kilobits(component.table):g} kbit/s, imported from {file.name}",
        "license": "as the imported checkpoints; see https://github.com/alibaba/unified-audio",
        "codec": component.table,
    }
    return Imported(write_pack(folder, config, component.tensors), component.warnings)


def read_hcodec(file: Path, hubert: Path | None = None, decoder_only: bool = False) -> Component:
    """The [codec] table and the tensors "codec.*" of a pack whose codes are HCodec's.

    Args:
        file: `large_12.5hz_weights.pt`.
        hubert: HuBERT base by torchaudio's or Hugging Face's names; without it the codec encodes only with features
            that it is given.
        decoder_only: leaves out what encoding and training need; a separator writes codes and hears none.

    Raises:
        PackError: with everything that does not fit.
    """
    tensors = read_checkpoint(file)
    _refuse_older(tensors, file)
    config = _sizes(tensors)
    with torch.device("meta"):
        wanted = HCodec(config).state_dict()
    published = {name: published_names(name, config) for name in wanted}
    problems = []
    for name, parts in published.items():
        shape = list(wanted[name].shape)
        if len(parts) > 1:
            shape = [1, *shape[1:]]
        for part in parts:
            if part not in tensors:
                problems.append(f"{part} {shape} is missing")
            elif list(tensors[part].shape) != shape:
                problems.append(f"{part} is {list(tensors[part].shape)}, must be {shape}")
    used = {part for parts in published.values() for part in parts} | set(WINDOWS)
    problems += [
        f"{name} is not part of HCodec 2.0"
        for name in tensors
        if name not in used and name.rpartition(".")[2] not in STATISTICS
    ]
    for name in WINDOWS:
        found = tensors.get(name)
        if found is not None and (len(found) != config.window or not torch.allclose(found, _window(found), atol=1e-5)):
            problems.append(f"{name} is no Hann window of {config.window} samples")
    if problems:
        raise PackError([*problems, f"give {OFFICIAL}"], file.name)
    left_out = (*LISTENING, *TRAINING) if decoder_only else ()
    kept = {
        f"codec.{name}": tensors[parts[0]] if len(parts) == 1 else torch.cat([tensors[part] for part in parts])
        for name, parts in published.items()
        if name.split(".")[0] not in left_out
    }
    if hubert is not None:
        features = read_hubert_base(hubert, config.feature_width)
        kept |= {f"codec.hubert.{name}": tensor for name, tensor in features.items()}
    return Component({"kind": "hcodec", **asdict(config)}, kept)


def published_names(name: str, config: HCodecConfig) -> list[str]:
    """Where the published file has a tensor of ours; all codebooks of a path are one of ours."""
    path = re.match(r"quantizers\.(\w+)\.codebooks$", name)
    if path:
        return [f"{QUANTIZERS[path[1]]}.layers.{index}._codebook.embed" for index in range(config.codebooks)]
    for pattern, replacement in RENAMED:
        name = re.sub(pattern, replacement, name)
    return [name]


def _refuse_older(tensors: Mapping[str, Tensor], file: Path) -> None:
    names = [name.removeprefix("generator.") for name in tensors]  # as training checkpoints of 1.0 and 1.5 have them
    version = ""
    if any(name.startswith(ADAPTIVE) for name in names):
        version = "1.5 (16 kHz, adaptive frame rate)"
    elif any(name.startswith(SEANET) for name in names):
        version = "1.0 (16 kHz)"
    if version:
        raise PackError([f"it is HCodec {version}, another network: give {OFFICIAL}"], file.name)


def _sizes(tensors: Mapping[str, Tensor]) -> HCodecConfig:
    """As the tensors' shapes tell; as published where one that would tell is missing."""
    usual = HCodecConfig()

    def size(name: str, axis: int, default: int) -> int:
        found = tensors.get(name)
        return default if found is None or found.dim() <= axis else found.shape[axis]

    def count(prefix: str, default: int) -> int:
        pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
        numbers = [int(found[1]) for found in map(pattern.match, tensors) if found]
        return max(numbers) + 1 if numbers else default

    window = size("decoder.head.out.weight", 0, usual.window + 2) - 2
    return HCodecConfig(
        hop=window // 2,  # as in every published configuration
        window=window,
        frames_per_code=size("decoder.embed.conv.weight", 2, usual.frames_per_code + 1) - 1,
        width=size("decoder.embed.conv.weight", 0, usual.width),
        feed_forward=size("decoder.post_net.0.pwconv1.linear.weight", 0, usual.feed_forward),
        encoder_blocks=count("encoder.prior_net", usual.encoder_blocks),
        decoder_blocks=count("decoder.post_net", usual.decoder_blocks),
        transformer_layers=count("decoder.prior_net.3.layers", usual.transformer_layers),
        latent=size("quantizer.layers.0._codebook.embed", 2, usual.latent),
        codebooks=count("quantizer.layers", usual.codebooks),
        codebook_size=size("quantizer.layers.0._codebook.embed", 1, usual.codebook_size),
        feature_width=size("semantic_encoder.conv.conv.weight", 1, usual.feature_width),
        semantic_width=size("semantic_encoder.conv.conv.weight", 0, usual.semantic_width),
    )


def read_hubert_base(file: Path, width: int | None = None) -> dict[str, Tensor]:
    """HuBERT base, with states of that width if one is given, by torchaudio's names. Raises PackError."""
    tensors = hubert_names(read_checkpoint(file), HUBERT_BASE)
    try:
        HubertFeatures(tensors, width or base_config(tensors).dimension, 48_000, 960)
    except ValueError as error:
        raise PackError([f"{error}; give the weights of bosonai/hubert_base"], file.name) from error
    return {name: tensors[name] for name in hubert_layout(base_config(tensors))}


def _window(like: Tensor) -> Tensor:
    return torch.hann_window(len(like))


def _kilobits(table: Mapping[str, int]) -> float:
    bits = len(PATHS) * table["codebooks"] * (table["codebook_size"] - 1).bit_length()
    return bits * table["sample_rate"] / (table["hop"] * table["frames_per_code"]) / 1000
