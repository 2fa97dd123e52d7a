"""MGE-LDM as its authors publish it: autoencoder, diffusion transformer, and the CLAP that reads prompts.

    import_mge(Path("unwrapped_DiT.ckpt"), Path("music_audioset_epoch_15_esc_90.14.pt"), Path("roberta-base"))

Sizes are those of the tensors; what fits no MGE-LDM is reported at once, by the names in the file. Serving takes the
mean of the autoencoder's posterior, where the authors' code draws from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backline.models.errors import PackError
from backline.models.mge.config import MgeConfig
from backline.models.mge.network import PREFIX, MgeNetwork
from backline.models.mge.tasks import TRACKS
from backline.models.windowed.settings import WindowedSettings
from backline.nn.dit import DiTConfig
from backline.nn.tables import TableError, read_table
from backline.nn.weights import misfits, part
from backline.packs.importers.checkpoint import Component, Imported, read_checkpoint
from backline.packs.importers.clap import read_clap
from backline.packs.importers.oobleck import read_oobleck
from backline.packs.pack import write_pack
from backline.packs.places import user_packs

OFFICIAL = "unwrapped_DiT.ckpt of yoongi43/MGE-LDM"
OFFICIAL_AUTOENCODER = "unwrapped_AE.ckpt of yoongi43/MGE-LDM"
SAMPLE_RATE = 16_000  # Hz
CHUNK_FRAMES, GUARD_FRAMES = 16, 18  # of 128 ms
NETWORK, AUTOENCODER = "model_dit.", "pretransform.model."  # what they are called in the former
HEAD = 32  # dimensions of an attention head: 48 heads in the paper's 1536, and rotary positions turn all of one
ROTARY = "transformer.rotary_pos_emb.inv_freq"

# From our names to the published ones, which are without "model_dit." here.
RENAMED = (
    (r"^dit\.", ""),
    (r"^time_features$", "timestep_features.weight"),
    (r"^time_in\.", "to_timestep_embed.1."),
    (r"^time_out\.", "to_timestep_embed.3."),
    (r"^condition_in\.", "to_global_embed.1."),
    (r"^condition_out\.", "to_global_embed.3."),
    (r"^before\.", "preprocess_conv."),
    (r"^after\.", "postprocess_conv."),
    (r"^embed\.", "transformer.project_in."),
    (r"^out\.", "transformer.project_out."),
    (r"^blocks\.(\d+)\.norm1\.scale$", r"transformer.layers.\1.pre_norm.gamma"),
    (r"^blocks\.(\d+)\.norm2\.scale$", r"transformer.layers.\1.ff_norm.gamma"),
    (r"^blocks\.(\d+)\.modulation\.", r"transformer.layers.\1.to_scale_shift_gate.2."),
    (r"^blocks\.(\d+)\.qkv\.", r"transformer.layers.\1.self_attn.to_qkv."),
    (r"^blocks\.(\d+)\.out\.", r"transformer.layers.\1.self_attn.to_out."),
    (r"^blocks\.(\d+)\.up_gate\.", r"transformer.layers.\1.ff.ff.0.proj."),
    (r"^blocks\.(\d+)\.down\.", r"transformer.layers.\1.ff.ff.2."),
)
OURS = ("mean", "deviation")  # of latents, which the published network takes as the autoencoder makes them


def import_mge(
    dit: Path,
    clap: Path,
    tokenizer: Path,
    autoencoder: Path | None = None,
    folder: Path | None = None,
    window_frames: int | None = None,
) -> Imported:
    """Writes the pack `folder`; without one, "mge-ldm" among the user's own packs.

    Args:
        dit: `unwrapped_DiT.ckpt`.
        clap: `music_audioset_epoch_15_esc_90.14.pt`.
        tokenizer: RoBERTa's files, see clap.py.
        autoencoder: `unwrapped_AE.ckpt`; without it, that which the DiT's file holds.
        window_frames: see `read_network`.

    Raises:
        PackError: a file cannot be read or is something else; names everything that does not fit.
    """
    tensors = read_checkpoint(dit)
    if autoencoder is None:
        vae = read_oobleck(part(tensors, AUTOENCODER), SAMPLE_RATE, f"{dit.name}, {AUTOENCODER}*")
    else:
        vae = read_autoencoder(autoencoder)
    network = read_network(tensors, dit.name, window_frames)
    text = read_clap(clap, tokenizer)
    problems = []
    channels, condition = (network.table["network"][name] for name in ("channels", "condition"))
    if vae.table["latent_channels"] != channels:
        problems.append(f"the autoencoder has {vae.table['latent_channels']} channels, {dit.name} hears {channels}")
    if text.table["dimension"] != condition:
        problems.append(f"{clap.name} says {text.table['dimension']} dimensions, {dit.name} hears {condition}")
    if problems:
        raise PackError([*problems, "give files that belong together"], dit.name)
    config = {
        "name": "mge-ldm",
        "version": "1.0.0",
        "family": "mge",
        "description": f"MGE-LDM, {SAMPLE_RATE // 1000} kHz, imported from {dit.name}",
        "license": "as the imported checkpoints; see https://github.com/yoongi43/MGE-LDM and LAION-AI/CLAP",
        "mge": network.table,
        "vae": vae.table,
        "clap": text.table,
        "stream": stream_table(Fraction(prod(vae.table["strides"]), SAMPLE_RATE), network.table["window_frames"]),
    }
    parts = vae.tensors | network.tensors | text.tensors
    return Imported(write_pack(folder or user_packs() / "mge-ldm", config, parts), [])


def stream_table(frame: Fraction, window_frames: int) -> dict[str, Any]:
    """How the published network is played: 250 steps and guidance in every task, as in the paper (MODELS.md D).

    A chunk of 2 s, and after it what encoder and decoder reach (MODELS.md F(d)), or what a shorter window has room for.

    Args:
        frame: seconds of a latent frame.
    """
    guard = min(GUARD_FRAMES, (window_frames - 1) // 2)
    chunk = min(CHUNK_FRAMES, window_frames - 2 * guard)
    fade = min(frame, WindowedSettings.fade_seconds)
    lengths = {"chunk_seconds": chunk * frame, "guard_seconds": guard * frame, "fade_seconds": fade}
    return {
        **{name: str(seconds) for name, seconds in lengths.items()},
        "extract_steps": 250, "extract_guidance": 2.0, "steps": 250, "guidance": 2.0,
    }  # fmt: skip


def read_autoencoder(file: Path) -> Component:
    """The [vae] table and the tensors "vae.*" out of `unwrapped_AE.ckpt`. Raises PackError."""
    try:
        return read_oobleck(read_checkpoint(file), SAMPLE_RATE, file.name)
    except PackError as error:
        raise PackError([*error.problems, f"give {OFFICIAL_AUTOENCODER}"], file.name) from error


def read_network(tensors: Mapping[str, Tensor], where: str, window_frames: int | None = None) -> Component:
    """The [mge] table and the tensors "mge.*" of a pack.

    Args:
        tensors: of `unwrapped_DiT.ckpt`, of which those of the transformer are meant.
        where: the file, for messages.
        window_frames: that the network was trained on, which no tensor tells: norms pool over all of them. The paper's
            80 if not given; the authors' released configuration has 100.

    Raises:
        PackError: with everything that does not fit.
    """
    given = part(tensors, NETWORK)
    config = MgeConfig(_sizes(given, where), window_frames or MgeConfig.window_frames)
    with torch.device("meta"):
        wanted = MgeNetwork(config).state_dict()
    kept, problems, used = {}, [], {ROTARY}
    for name, like in wanted.items():
        if name in OURS:
            kept[name] = torch.zeros(like.shape) if name == "mean" else torch.ones(like.shape)
            continue
        published = published_name(name)
        used.add(published)
        if published not in given:
            problems.append(f"{NETWORK}{published} {list(like.shape)} is missing")
            continue
        tensor = given[published]
        if tensor.dim() == like.dim() + 1 and tensor.shape[-1] == 1:  # a convolution of one step is a matrix
            tensor = tensor[..., 0]
        problems += misfits(NETWORK + published, tensor, like.shape)
        kept[name] = tensor
    for name in sorted(given.keys() - used):
        if not name.endswith("norm.beta"):
            problems.append(f"{NETWORK}{name} is not part of MGE-LDM")
        elif given[name].any():
            problems.append(f"{NETWORK}{name} is not zero, MGE-LDM's norms have no shift of their own")
    speeds = given.get(ROTARY)
    if speeds is not None and not (
        speeds.shape == (HEAD // 2,) and torch.allclose(speeds.float(), _speeds(), rtol=1e-2)
    ):
        problems.append(f"{NETWORK}{ROTARY} are not the speeds of rotary positions in heads of {HEAD}")
    if problems:
        raise PackError([*problems, f"give {OFFICIAL}"], where)
    return Component(asdict(config), {PREFIX + name: tensor for name, tensor in kept.items()})


def published_name(name: str) -> str:
    """Where the published file has a tensor of our network."""
    for pattern, replacement in RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def _sizes(given: Mapping[str, Tensor], where: str) -> DiTConfig:
    """As the tensors' shapes tell; as published where one that would tell is missing."""
    usual = MgeConfig().network

    def size(name: str, axis: int, default: int) -> int:
        found = given.get(name)
        return default if found is None or found.dim() <= axis else found.shape[axis]

    layers = [int(found[1]) for name in given if (found := re.match(r"transformer\.layers\.(\d{1,6})\.", name))]
    wide = size("transformer.project_in.weight", 0, len(TRACKS) * usual.width)
    sizes = {
        "channels": size("preprocess_conv.weight", 0, len(TRACKS) * usual.channels) // len(TRACKS),
        "condition": size("to_global_embed.1.weight", 1, usual.condition),
        "width": wide // len(TRACKS),
        "layers": max(layers, default=usual.layers - 1) + 1,
        "heads": wide // HEAD,
        "expansion": size("transformer.layers.0.ff.ff.2.weight", 1, wide * usual.expansion) // max(1, wide),
        "time_features": 2 * size("timestep_features.weight", 0, usual.time_features // 2),
    }
    try:
        return read_table(DiTConfig, sizes, "mge.network")
    except TableError as error:
        raise PackError([*error.problems, f"give {OFFICIAL}"], where) from error


def _speeds() -> Tensor:
    return 10_000 ** (-torch.arange(HEAD // 2) / (HEAD // 2))
