"""Ear-VAE at 48 kHz, what DuoTok's renderers play in, as its authors publish it: a VAE for `backline train`.

    import_ear_vae(Path("ear_vae_v2_48k.pyt"), Path("ear-vae.safetensors"))

It is Stable Audio's autoencoder with other strides and in stereo: 50 frames of 64 channels a second. The authors' 44.1
kHz model has a transformer before its decoder, and is another.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path

from backline.models.errors import PackError
from backline.packs.importers.checkpoint import Component, read_checkpoint
from backline.packs.importers.oobleck import read_oobleck
from backline.packs.parts import save_part

OFFICIAL = "pretrained_weight/ear_vae_v2_48k.pyt of earlab/EAR_VAE"
SAMPLE_RATE, HOP = 48_000, 960  # Hz, which no tensor tells, and samples of a latent frame
LICENSE = "as the imported checkpoint; its code is Apache-2.0, see https://huggingface.co/earlab/EAR_VAE"


def import_ear_vae(file: Path, out: Path) -> Component:
    """Writes the file `out`, as `train vae` writes one.

    Raises:
        PackError: `file` cannot be read or is something else; names everything that does not fit.
    """
    component = replace(read_ear_vae(file), license=LICENSE, origin=f"Ear-VAE 48 kHz, imported from {file.name}")
    save_part(component, out)
    return component


def read_ear_vae(file: Path) -> Component:
    """The [vae] table and the tensors "vae.*". Raises PackError."""
    try:
        tensors = read_checkpoint(file)
        if any(name.startswith("transformers.") for name in tensors):
            raise PackError(["it has a transformer before its decoder, as the 44.1 kHz model has"], file.name)
        component = read_oobleck(tensors, SAMPLE_RATE, file.name)
        hop, channels = prod(component.table["strides"]), component.table["audio_channels"]
        if (hop, channels) != (HOP, 2):
            told = f"it has {channels} channels and {hop} samples a latent frame, Ear-VAE at 48 kHz has 2 and {HOP}"
            raise PackError([told], file.name)
    except PackError as error:
        raise PackError([*error.problems, f"give {OFFICIAL}"], file.name) from error
    return component
