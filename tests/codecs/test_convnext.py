"""The default codec streams exactly, costs what it says, and fits the pack."""

from dataclasses import asdict

import pytest
import torch
from torch import Tensor

from backline.codecs.base import Codec
from backline.codecs.convnext import ConvNeXtCodec, ConvNeXtCodecConfig, convnext_codec
from tests.support.contract import Decoding, Encoding, verify_streaming_contract

SMALL = ConvNeXtCodecConfig(
    hop=8, window=32, codebooks=3, codebook_size=16, latent=8, encoder_width=12, decoder_width=12, encoder_blocks=2
)


def small() -> ConvNeXtCodec:
    torch.manual_seed(0)
    return ConvNeXtCodec(SMALL).eval()


def noise(rows: int, steps: int) -> Tensor:
    return 0.1 * torch.randn(rows, 1, steps)


def test_encoder_holds_the_streaming_contract() -> None:
    verify_streaming_contract(small().encoder, noise)


def test_decoder_holds_the_streaming_contract() -> None:
    verify_streaming_contract(small().decoder, lambda rows, steps: torch.randn(rows, SMALL.latent, steps))


def test_codec_holds_the_streaming_contract() -> None:
    codec: Codec = small()

    def codes(rows: int, steps: int) -> Tensor:
        return torch.randint(SMALL.codebook_size, (rows, SMALL.codebooks, steps))

    verify_streaming_contract(Encoding(codec), noise)
    verify_streaming_contract(Decoding(codec), codes)


def test_full_size_streams_exactly_and_fits_the_pack() -> None:
    torch.manual_seed(0)
    codec = ConvNeXtCodec(ConvNeXtCodecConfig()).eval()
    assert sum(value.numel() for value in codec.state_dict().values()) < 6.5e6
    assert (codec.frame_rate, codec.encode_latency, codec.decode_latency) == (75, 0, 960)
    with torch.no_grad():
        audio = noise(1, 24 * codec.hop)
        codes = codec.encode(audio)
        assert codes.shape == (1, 8, 24)
        offline = codec.decode(codes)
        state = codec.init_decode_state(1)
        pieces = []
        for piece in codes.split([1, 2, 4, 8, 9], dim=-1):
            out, state = codec.decode_step(piece, state)
            pieces.append(out)
        streamed = torch.cat(pieces, dim=-1)[..., codec.decode_latency :]
    assert torch.allclose(streamed, offline[..., : streamed.shape[-1]], atol=1e-5)


def test_the_state_dict_holds_only_what_a_pack_needs() -> None:
    assert all(value.is_floating_point() for value in small().state_dict().values())


def test_a_pack_gives_the_codec_back() -> None:
    codec = small()
    tensors = {f"codec.{name}": value for name, value in codec.state_dict().items()} | {"coarse.norm": torch.ones(1)}
    loaded = convnext_codec({"kind": "convnext", **asdict(SMALL)}, tensors)
    audio = noise(1, 10 * SMALL.hop)
    assert torch.equal(loaded.decode(loaded.encode(audio)), codec.decode(codec.encode(audio)))


def test_every_tensor_that_does_not_fit_is_named_at_once() -> None:
    tensors = {f"codec.{name}": value for name, value in small().state_dict().items()}
    tensors["codec.quantizer.codebooks"] = torch.zeros(3, 16, 7)
    tensors["codec.extra"] = torch.zeros(1)
    missing = next(name for name in tensors if name.startswith("codec.decoder"))
    del tensors[missing]
    with pytest.raises(ValueError) as caught:
        convnext_codec(asdict(SMALL), tensors)
    message = str(caught.value)
    assert f"{missing} [" in message
    assert "codec.extra is not part" in message
    assert "codec.quantizer.codebooks is [3, 16, 7], must be [3, 16, 8]" in message


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(ValueError, match="depth"):
        convnext_codec({"depth": 3}, {})
