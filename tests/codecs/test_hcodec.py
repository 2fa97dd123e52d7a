"""HCodec is the published network, sounds as it does, loads whole or as a decoder, and names what does not fit."""

from dataclasses import asdict

import pytest
import torch
from torch import Tensor

from backline.codecs.hcodec.load import hcodec
from backline.codecs.hcodec.network import HCodec, HCodecConfig
from backline.codecs.hcodec.semantics import HubertFeatures
from backline.codecs.hubert import hubert_names
from backline.packs.importers.hcodec import read_hcodec
from tests.support.hcodec_checkpoint import FEATURES, HUBERT, LATENT, hubert_checkpoint, noise, write_published_layout

CODES = 6
SAMPLES = CODES * 3840
SMALL = HCodecConfig(
    width=32,
    feed_forward=48,
    encoder_blocks=1,
    decoder_blocks=1,
    transformer_layers=0,
    latent=8,
    codebooks=2,
    codebook_size=16,
    features="mel",
    feature_width=12,
    semantic_width=8,
    normalized=True,
)

# What the published code made of the same checkpoint and the same input, at a few places.
ACOUSTIC = [
    [[7, 1, 1, 1, 7, 7], [15, 15, 4, 17, 15, 29], [6, 27, 19, 17, 11, 21]],
    [[1, 1, 1, 1, 8, 4], [28, 15, 15, 15, 19, 0], [14, 11, 11, 11, 16, 12]],
]
SEMANTIC = [
    [[18, 10, 26, 6, 4, 26], [1, 31, 24, 0, 10, 7], [16, 22, 5, 9, 10, 30]],
    [[26, 25, 20, 22, 20, 5], [6, 27, 24, 5, 15, 5], [3, 13, 22, 11, 4, 18]],
]
AUDIO_AT = [0, 1, 479, 480, 960, 5000, 11519, 20000, 23039]
AUDIO = [
    [-0.244551, -0.039323, -0.13254, -0.051197, -0.306025, -0.072016, -0.07963, -0.067496, -0.055155],
    [-0.539219, -0.013026, -0.053245, 0.140997, -0.080659, 0.077962, -0.076877, -0.284031, -0.096663],
]
AUDIO_RMS = [0.135052472, 0.140639186]
HEARD = [3.9279, 8.030295, 3.669843, 2.568373, 2.816573, -14.737115]  # feature 0 and 6, of every eighth hop
HEARD_RMS = 7.173129559
HUBERT_STATES = [
    [0.6503, -0.86379, -0.93891, 0.71289],
    [0.88965, -0.75608, -0.79162, 0.5081],
]  # feature 0 and 32, of every fifth hop
HUBERT_RMS = 0.836840212


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> HCodec:
    component = read_hcodec(write_published_layout(tmp_path_factory.mktemp("hcodec") / "small.pt"))
    return hcodec(component.table, component.tensors).requires_grad_(False)


def published_input() -> tuple[Tensor, Tensor]:
    return noise(1000, 0.2, 2, 1, SAMPLES), noise(1001, 1.0, 2, FEATURES, 4 * CODES)


def small() -> HCodec:
    torch.manual_seed(0)
    return HCodec(SMALL).eval().requires_grad_(False)


def packed(codec: HCodec) -> dict[str, Tensor]:
    return {f"codec.{name}": value for name, value in codec.state_dict().items()}


def test_codes_are_those_of_the_published_network(published: HCodec) -> None:
    codes = published.encode(*published_input())
    assert codes[:, 0].tolist() == ACOUSTIC
    assert codes[:, 1].tolist() == SEMANTIC


def test_audio_is_that_of_the_published_network(published: HCodec) -> None:
    audio = published.decode(torch.tensor([ACOUSTIC, SEMANTIC]).transpose(0, 1))
    assert audio.shape == (2, 1, SAMPLES)
    assert torch.allclose(audio[:, 0, AUDIO_AT], torch.tensor(AUDIO), atol=1e-5)
    assert torch.allclose(audio[:, 0].square().mean(1).sqrt(), torch.tensor(AUDIO_RMS), atol=1e-6)


def test_what_codes_say_of_the_features_is_that_of_the_published_network(published: HCodec) -> None:
    heard = published.feature_decoder(noise(1002, 1.0, 1, LATENT, CODES))
    assert heard.shape == (1, FEATURES, 4 * CODES)
    assert torch.allclose(heard[0, [0, 6], ::8].flatten(), torch.tensor(HEARD), atol=1e-4)
    assert float(heard.square().mean().sqrt()) == pytest.approx(HEARD_RMS, abs=1e-4)


def test_hubert_features_are_those_of_the_published_tokenizer() -> None:
    tensors = hubert_names(hubert_checkpoint(), HUBERT)
    features = HubertFeatures(tensors, HUBERT.dimension, 48_000, 960)(noise(1003, 0.2, 2, 1, 4 * 3840))
    assert features.shape == (2, HUBERT.dimension, 16)
    assert torch.allclose(features[0, [0, 32], ::5], torch.tensor(HUBERT_STATES), atol=1e-4)
    assert float(features.square().mean().sqrt()) == pytest.approx(HUBERT_RMS, abs=1e-5)


def test_the_published_sizes_have_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        codec = HCodec(HCodecConfig())
    parts = {"acoustic": 450.6, "decoder": 615.6, "semantic": 88.5, "feature_decoder": 88.5}  # in millions
    for name, millions in parts.items():
        count = sum(value.numel() for value in codec.get_submodule(name).parameters())
        assert round(count / 1e6, 1) == millions, name
    assert sum(value.numel() for value in codec.quantizers.buffers()) == 2 * 16 * 1024 * 512
    assert codec.frame_rate * 2 * 16 * 10 == 4000  # bit/s


def test_codes_and_audio_of_any_whole_number_of_frames_fit() -> None:
    codec = small()
    for count in (1, 2, 7):
        codes = codec.encode(noise(0, 0.2, 1, 1, count * 3840))
        assert codes.shape == (1, 2, 2, count)
        assert codec.decode(codes).shape == (1, 1, count * 3840)


def test_a_pack_gives_the_codec_back() -> None:
    codec = small()
    tensors = packed(codec) | {"network.norm": torch.ones(1)}
    loaded = hcodec({"kind": "hcodec", **asdict(SMALL)}, tensors)
    audio = noise(1, 0.2, 1, 1, SAMPLES)
    assert torch.equal(loaded.encode(audio), codec.encode(audio))
    assert torch.equal(loaded.decode(loaded.encode(audio)), codec.decode(codec.encode(audio)))


def test_halves_are_read_as_floats() -> None:
    halves = {name: value.half() for name, value in packed(small()).items()}
    loaded = hcodec(asdict(SMALL), halves)
    assert all(value.dtype == torch.float32 for value in loaded.state_dict().values())


def test_without_encoders_it_decodes_and_says_that_it_cannot_encode() -> None:
    codec = small()
    needed = {name: value for name, value in packed(codec).items() if name.startswith(("codec.decoder", "codec.quant"))}
    decoder = hcodec(asdict(SMALL), needed)
    codes = torch.randint(0, 16, (1, 2, 2, 5), generator=torch.Generator().manual_seed(0))
    assert torch.equal(decoder.decode(codes), codec.decode(codes))
    with pytest.raises(ValueError, match="without its encoders"):
        decoder.encode(noise(1, 0.2, 1, 1, SAMPLES))


def test_without_hubert_features_have_to_be_given(published: HCodec) -> None:
    with pytest.raises(ValueError, match="came without it"):
        published.encode(published_input()[0])


def test_every_tensor_that_does_not_fit_is_named_at_once() -> None:
    tensors = packed(small())
    tensors["codec.quantizers.acoustic.codebooks"] = torch.zeros(2, 16, 7)
    tensors["codec.extra"] = torch.zeros(1)
    del tensors["codec.acoustic.out.bias"]
    with pytest.raises(ValueError) as caught:
        hcodec(asdict(SMALL), tensors)
    message = str(caught.value)
    assert "codec.acoustic.out.bias [8] is missing" in message
    assert "codec.extra is not part of this network" in message
    assert "codec.quantizers.acoustic.codebooks is [2, 16, 7], must be [2, 16, 8]" in message


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(ValueError, match="depth"):
        hcodec({"depth": 3}, {})
