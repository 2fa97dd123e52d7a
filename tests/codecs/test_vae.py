"""Both VAEs: the published sizes, what a latent hears and what sound is made of it, loading."""

from dataclasses import replace
from math import prod

import pytest
import torch
from torch import Tensor, nn

from backline.codecs.hcodec.network import HCodecConfig
from backline.codecs.vae.config import OobleckConfig, SpectralConfig, Vae
from backline.codecs.vae.load import load, make, packed
from backline.codecs.vae.oobleck import Oobleck
from backline.codecs.vae.spectral import SpectralVae
from backline.nn.tables import TableError

TOY = OobleckConfig(width=4, multiples=(1, 2, 3), strides=(2, 3, 4), latent_channels=5)
TOY_CODEC = HCodecConfig(
    width=16, feed_forward=32, encoder_blocks=1, decoder_blocks=2, transformer_layers=0, latent=8, codebooks=2,
    codebook_size=16, features="mel", feature_width=20, semantic_width=8, head_limit=1e3, upsampling="learned",
    normalized=True,
)  # fmt: skip
TOY_SPECTRAL = SpectralConfig(TOY_CODEC, latent_channels=6)
TOYS = [
    TOY,
    replace(TOY, audio_channels=2, final_tanh=True),
    TOY_SPECTRAL,
    SpectralConfig(replace(TOY_CODEC, upsampling="repeat", normalized=False), latent_channels=6),
]


def toy(config: OobleckConfig | SpectralConfig) -> Oobleck | SpectralVae:
    torch.manual_seed(0)
    vae = make(config).eval().requires_grad_(False)
    if isinstance(vae, SpectralVae):
        vae.decoder.head.bias[: TOY_CODEC.window // 2 + 1] = -3.0
    return vae


def noise(*shape: int) -> Tensor:
    return 0.3 * torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def parameters(module: nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


def test_the_default_is_mge_ldms_autoencoder() -> None:
    with torch.device("meta"):
        vae = Oobleck(OobleckConfig())
    assert (vae.hop, vae.sample_rate / vae.hop, vae.latent_channels) == (2048, 7.8125, 64)
    assert round(parameters(vae) / 1e6, 1) == 156.1  # as the published one has, its weight norm folded


def test_the_default_hears_and_says_as_far_as_computed_from_the_published_one() -> None:
    with torch.device("meta"):
        vae = Oobleck(OobleckConfig())
    assert [round(reach / vae.hop + 0.5, 1) for reach in vae.reach] == [7.8, 7.8]  # from its middle on: MODELS.md F(d)
    assert vae.decode_reach == (10, 10)  # 9.8 from a latent's middle to the last sample that it changes


@pytest.mark.parametrize("strides", [(2, 4, 4, 4, 8), (2, 4, 4, 5, 6)])
def test_stereo_models_at_other_rates_are_the_same_network(strides: tuple[int, ...]) -> None:
    config = OobleckConfig(48_000, 2, 4, strides=strides, latent_channels=8)
    vae = toy(config)
    audio = noise(1, 3 * prod(strides))
    latents = vae.encode(audio)
    assert latents.shape == (1, 8, 3)
    assert vae.decode(latents).shape == audio.shape


@pytest.mark.parametrize("config", TOYS)
def test_sound_becomes_latents_and_latents_sound(config: OobleckConfig | SpectralConfig) -> None:
    vae: Vae = toy(config)
    audio = noise(2, 4 * vae.hop)
    mean, variance = vae.posterior(audio)
    assert mean.shape == variance.shape == (2, vae.latent_channels, 4)
    assert torch.equal(vae.encode(audio), mean)
    sound = vae.decode(mean)
    assert (sound.shape, sound.dtype) == (audio.shape, torch.float32)
    assert sound.abs().max() > 0
    for row in range(2):
        assert torch.allclose(vae.encode(audio[row : row + 1]), mean[row : row + 1], atol=1e-5)


@pytest.mark.parametrize("config", TOYS)
def test_a_latent_hears_its_reach_and_no_more(config: OobleckConfig | SpectralConfig) -> None:
    vae = toy(config)
    back, ahead = vae.reach
    frame = -(-back // vae.hop) + 1
    audio = noise(1, (frame + 2 + -(-ahead // vae.hop)) * vae.hop)
    begin, end = frame * vae.hop - back, (frame + 1) * vae.hop + ahead
    assert begin > 0
    assert end < audio.shape[1]
    before = vae.encode(audio)[0, :, frame]
    audio.requires_grad_(True)
    vae.encode(audio)[0, :, frame].square().sum().backward()
    assert audio.grad is not None
    touched = audio.grad[0].nonzero()[:, 0]
    edge = 2 if isinstance(config, OobleckConfig) else 2 + TOY_CODEC.window // 100  # a Hann window ends in zeros
    assert begin <= int(touched[0]) < begin + edge
    assert end - edge < int(touched[-1]) + 1 <= end
    other = noise(1, audio.shape[1]).flip(1)
    other[:, begin:end] = audio[:, begin:end].detach()
    assert torch.allclose(vae.encode(other)[0, :, frame], before, atol=1e-5)


@pytest.mark.parametrize("config", TOYS)
def test_sound_is_made_of_the_latents_within_reach_and_no_others(config: OobleckConfig | SpectralConfig) -> None:
    vae = toy(config)
    back, ahead = vae.decode_reach
    frame = back + 1
    latents = noise(1, vae.latent_channels, frame + ahead + 2).requires_grad_(True)
    vae.decode(latents)[0, frame * vae.hop : (frame + 1) * vae.hop].square().sum().backward()
    assert latents.grad is not None
    touched = latents.grad[0].abs().sum(0).nonzero()[:, 0].tolist()
    assert touched == list(range(frame - back, frame + ahead + 1))


@pytest.mark.parametrize("config", TOYS)
def test_a_packed_vae_is_loaded_as_it_was(config: OobleckConfig | SpectralConfig) -> None:
    vae = toy(config)
    table, tensors = packed(vae, torch.float32)
    again = load(table, tensors | {"other.weight": torch.zeros(1)})
    audio = noise(1, 2 * vae.hop)
    assert again.config == vae.config
    assert torch.equal(again.decode(again.encode(audio)), vae.decode(vae.encode(audio)))


def test_oobleck_deviations_are_those_of_the_published_bottleneck() -> None:
    vae = toy(TOY)
    audio = noise(1, 2 * vae.hop)
    _, scale = vae.encoder(audio[:, None]).chunk(2, dim=1)
    wanted = torch.log1p(scale.exp()) + 1e-4  # softplus
    assert torch.allclose((vae.posterior(audio)[1] / 2).exp(), wanted, rtol=1e-4)


def test_everything_that_does_not_fit_is_named() -> None:
    table, tensors = packed(toy(TOY))
    del tensors["vae.decoder.layers.0.bias"]
    tensors["vae.encoder.layers.0.weight"] = torch.zeros(4, 1, 5)
    with pytest.raises(ValueError, match=r"vae\.decoder\.layers\.0\.bias \[12\] is missing.*is \[4, 1, 5\], must be"):
        load(table, tensors)
    with pytest.raises(TableError, match=r"\[vae\] kind is 'wavelet': use one of oobleck, spectral"):
        load(table | {"kind": "wavelet"}, tensors)
    with pytest.raises(TableError, match="multiples are 2 and strides 3"):
        load(table | {"multiples": (1, 2)}, tensors)
    with pytest.raises(TableError, match="whose reach is finite"):
        load({"kind": "spectral", "codec": {"features": "hubert"}}, tensors)


def test_sound_that_is_no_whole_number_of_frames_is_refused() -> None:
    for config in (TOY, TOY_SPECTRAL):
        vae = toy(config)
        with pytest.raises(ValueError, match=rf"a multiple of {vae.hop} samples; pad its end"):
            vae.encode(noise(1, vae.hop + 1))


def test_a_stereo_model_hears_and_says_two_channels() -> None:
    vae = toy(replace(TOY, audio_channels=2))
    left, right = noise(2, 1, 4 * vae.hop).unbind()
    both = torch.stack([left, right], dim=1)
    assert not torch.allclose(vae.encode(both), vae.encode(left), atol=1e-3)
    assert torch.equal(vae.encode(torch.stack([left, left], dim=1)), vae.encode(left))
    latents = vae.encode(both)
    sound = vae.sound(latents)
    assert sound.shape == both.shape
    assert torch.allclose(sound.mean(dim=1), vae.decode(latents), atol=1e-6)
    with pytest.raises(ValueError, match=r"\[row, 1, sample\]"):
        toy(TOY_SPECTRAL).encode(torch.zeros(1, 2, 4 * 1280))
