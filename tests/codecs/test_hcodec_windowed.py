"""HCodec as a stream of windows: what the whole signal gives, late as declared, where the network hears no further."""

import pytest
import torch
from torch import Tensor

from backline.codecs.hcodec.network import HCodec, HCodecConfig
from backline.codecs.hcodec.windowed import GUARD, LONGEST, WindowedHCodec
from tests.support.hcodec_checkpoint import noise

HOP = 3840
EDGE = 3  # codes that convolutions of this size hear across
LOCAL = HCodecConfig(
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


@pytest.fixture(scope="module")
def codec() -> WindowedHCodec:
    torch.manual_seed(0)
    return WindowedHCodec(HCodec(LOCAL).eval().requires_grad_(False))


def encoded(codec: WindowedHCodec, audio: Tensor, blocks: list[int]) -> Tensor:
    state, found = codec.init_encode_state(len(audio)), []
    for block in audio.split([HOP * count for count in blocks], dim=-1):
        codes, state = codec.encode_step(block, state)
        found.append(codes)
    return torch.cat(found, dim=-1)


def decoded(codec: WindowedHCodec, codes: Tensor, blocks: list[int]) -> Tensor:
    state, found = codec.init_decode_state(len(codes)), []
    for block in codes.split(blocks, dim=-1):
        audio, state = codec.decode_step(block, state)
        found.append(audio)
    return torch.cat(found, dim=-1)


@pytest.mark.parametrize("blocks", [[1] * 8 + [6] * 2, [20], [LONGEST + 5]])
def test_windows_give_the_codes_and_the_sound_of_the_whole_signal(codec: WindowedHCodec, blocks: list[int]) -> None:
    count = sum(blocks)
    audio = noise(0, 0.2, 2, 1, count * HOP)
    whole = codec.encode(audio)
    late = codec.encode_latency // HOP
    assert late == GUARD
    codes = encoded(codec, audio, blocks)
    assert codes.shape == (2, codec.codebooks, count)
    assert torch.equal(codes[..., late + EDGE :], whole[..., EDGE : count - late])

    sound = decoded(codec, whole, blocks)[..., codec.decode_latency :]
    expected = codec.decode(whole)[..., : sound.shape[-1]]
    assert (sound - expected)[..., EDGE * HOP :].abs().max() < 1e-5


def test_rows_that_are_idle_keep_their_state(codec: WindowedHCodec) -> None:
    audio = noise(1, 0.2, 2, 1, 4 * HOP)
    mask = torch.tensor([True, False])
    heard = codec.init_encode_state(2)
    codes, moved = codec.encode_step(audio, heard, mask)
    assert torch.equal(moved.audio[1], heard.audio[1])
    assert not torch.equal(moved.audio[0], heard.audio[0])
    said = codec.init_decode_state(2)
    _, spoken = codec.decode_step(codes, said, mask)
    assert torch.equal(spoken.codes[1], said.codes[1])
    assert torch.equal(spoken.tail[1], said.tail[1])
    assert not torch.equal(spoken.tail[0], said.tail[0])


def test_the_first_codebooks_are_the_first_of_either_path(codec: WindowedHCodec) -> None:
    audio = noise(2, 0.2, 1, 1, 5 * HOP)
    codes, by_path = codec.encode(audio), codec.network.encode(audio)
    assert torch.equal(codes[:, 0::2], by_path[:, 0])
    assert torch.equal(codes[:, 1::2], by_path[:, 1])
    assert torch.equal(codec.decode(codes), codec.network.decode(by_path))
    assert torch.equal(codec.decode(codes[:, :2]), codec.network.decode(by_path[:, :, :1]))
    assert codec.decode(codes[:, :1]).shape == audio.shape  # the acoustic path alone
