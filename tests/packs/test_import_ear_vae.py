"""Ear-VAE's published file becomes a VAE that computes what the published code does; what is none is refused."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from backline.codecs.duotok.renderer import PAPER
from backline.codecs.vae.config import OobleckConfig, read_vae_table
from backline.codecs.vae.load import load
from backline.codecs.vae.oobleck import Oobleck
from backline.models.errors import PackError
from backline.packs.importers.ear_vae import import_ear_vae
from backline.packs.parts import read_part
from tests.support import mge_checkpoint as published
from tests.support.hcodec_checkpoint import noise

MULTIPLES, STRIDES = (1, 2, 4, 8, 16), (2, 2, 4, 6, 10)
# What the authors' code (EAR_VAE, model/autoencoders.py) made of the same checkpoint and input, at a few places.
LATENTS = [
    [0.05953123, 0.15354593, 0.12123714, 0.20548767],
    [-0.12863988, -0.51346797, -0.57651144, -0.67767936],
]  # channels 0 and 3
LATENTS_RMS = 0.48979333
AUDIO_AT = [0, 1, 959, 960, 2000, 3839]
AUDIO = [
    [-1.59802234, -1.1253531, -0.9914763, -1.30088544, -1.36998606, 0.00261365],
    [-1.15340471, -1.19833946, -0.43085620, -0.14885408, -0.13397111, -0.05176471],
]
AUDIO_RMS = 0.88941783


def checkpoint(strides: tuple[int, ...] = STRIDES, channels: int = 2) -> dict[str, Tensor]:
    """In the published layout, with few channels. A unit's two activations are one, which the file has twice."""
    tensors = published.valued(published.autoencoder_shapes(channels, 4, MULTIPLES, strides, 8), 9)
    for name in tensors:
        for second in (".layers.2.alpha", ".layers.2.beta"):
            if name.endswith(second):
                tensors[name] = tensors[name.removesuffix(second) + second.replace("2", "0")]
    return tensors


def written(path: Path, tensors: dict[str, Tensor]) -> Path:
    torch.save(tensors, path)
    return path


def test_latents_and_stereo_sound_are_those_of_the_published_code(tmp_path: Path) -> None:
    out = tmp_path / "ear-vae.safetensors"
    import_ear_vae(written(tmp_path / "ear_vae_v2_48k.pyt", checkpoint()), out)
    part = read_part(out)
    assert "Ear-VAE 48 kHz, imported from ear_vae_v2_48k.pyt" in part.origin
    assert "as the imported checkpoint" in part.license
    vae = load(part.table, part.tensors)
    assert (vae.sample_rate, vae.hop, vae.channels) == (48_000, 960, 2)
    latents = vae.encode(noise(77, 0.3, 1, 2, 4 * 960))
    assert torch.allclose(latents[0, [0, 3]], torch.tensor(LATENTS), atol=1e-5)
    assert float(latents.square().mean().sqrt()) == pytest.approx(LATENTS_RMS, rel=1e-5)
    sound = vae.sound(latents)
    assert torch.allclose(sound[0][:, AUDIO_AT], torch.tensor(AUDIO), atol=1e-5)
    assert float(sound.square().mean().sqrt()) == pytest.approx(AUDIO_RMS, rel=1e-5)


def test_the_published_sizes_are_what_the_papers_renderers_play_in() -> None:
    with torch.device("meta"):
        vae = Oobleck(OobleckConfig(48_000, 2, 128, MULTIPLES, STRIDES, 64))
    assert PAPER.fitted(vae, PAPER.code_dim) == PAPER
    shapes = published.autoencoder_shapes(2, 128, MULTIPLES, STRIDES, 64)
    assert vae.state_dict().keys() == {name.replace("_v", "") for name in shapes if not name.endswith("_g")}


def test_other_files_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    out = tmp_path / "ear-vae.safetensors"
    older = {**checkpoint(), "transformers.project_in.weight": torch.zeros(4, 4)}
    lacking = {name: tensor for name, tensor in checkpoint().items() if name != "decoder.layers.0.bias"}
    for tensors, told in (
        (older, "a transformer before its decoder, as the 44.1 kHz model has"),
        (checkpoint((2, 4, 4, 4, 8)), "1024 samples a latent frame, Ear-VAE at 48 kHz has 2 and 960"),
        (checkpoint(channels=1), "it has 1 channels"),
        (lacking, r"decoder\.layers\.0\.bias \[64\] is missing"),
        ({"weight": torch.zeros(3)}, "no autoencoder"),
    ):
        with pytest.raises(PackError, match=told) as error:
            import_ear_vae(written(tmp_path / "other.pyt", tensors), out)
        assert "give pretrained_weight/ear_vae_v2_48k.pyt" in str(error.value)
    assert not out.exists()


def test_its_table_is_one_of_a_pack(tmp_path: Path) -> None:
    out = tmp_path / "ear-vae.safetensors"
    component = import_ear_vae(written(tmp_path / "file.pyt", checkpoint()), out)
    config = read_vae_table(component.table)
    assert isinstance(config, OobleckConfig)
    assert config.strides == STRIDES
