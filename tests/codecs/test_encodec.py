"""EnCodec 24 kHz: what the `encodec` package gives for the whole signal, our stream gives block by block."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from backline.codecs.encodec import (
    CODEBOOKS_IN_CHECKPOINT,
    HELD_FRAMES,
    HOP,
    START_FRAMES,
    EncodecStream,
    checkpoint_layout,
    layout_mismatches,
)
from backline.codecs.torchaudio_import import import_torchaudio
from tests.support.contract import Decoding, Encoding, verify_streaming_contract
from tests.support.encodec_checkpoint import write_official_layout

CHUNKS = [1, 2, 4, 8, 25]
FRAMES = 200  # a multiple of every chunk


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_official_layout(tmp_path_factory.mktemp("encodec") / "encodec_24khz.th")


@pytest.fixture(scope="module")
def codec(checkpoint: Path) -> EncodecStream:
    return EncodecStream.from_checkpoint(checkpoint)


@pytest.fixture(scope="module")
def package(checkpoint: Path) -> Any:
    """The package's own model with the same weights, at 6 kbit/s."""
    import_torchaudio()
    from encodec import EncodecModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = EncodecModel.encodec_model_24khz(pretrained=False)
    model.load_state_dict(torch.load(checkpoint, weights_only=True))
    model.set_target_bandwidth(6.0)
    return model.eval()


def sound(rows: int, samples: int, seed: int = 0) -> Tensor:
    return 0.3 * torch.randn(rows, 1, samples, generator=torch.Generator().manual_seed(seed))


def largest_difference(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max())


@torch.no_grad()
@pytest.mark.parametrize("samples", [HOP * 50, HOP * 7, HOP * 3, HOP * 10 + 1, HOP * 10 - 1, 5])
def test_offline_is_the_package(codec: EncodecStream, package: Any, samples: int) -> None:
    audio = sound(2, samples)
    assert largest_difference(codec.encoder.whole(audio), package.encoder(audio)) < 1e-5
    [(codes, _)] = package.encode(audio)
    assert torch.equal(codec.encode(audio), codes)
    assert largest_difference(codec.decode(codes), package.decode([(codes, None)])) < 1e-5


def test_the_first_codebooks_alone_decode_as_a_codec_that_has_no_others(checkpoint: Path, codec: EncodecStream) -> None:
    codes = codec.encode(sound(1, HOP * 10))
    torch.testing.assert_close(
        codec.decode(codes[:, :2]), EncodecStream.from_checkpoint(checkpoint, 2).decode(codes[:, :2])
    )


@torch.no_grad()
@pytest.mark.parametrize("chunk", CHUNKS)
def test_encoding_in_chunks_is_the_package(codec: EncodecStream, package: Any, chunk: int) -> None:
    audio = sound(1, FRAMES * HOP)
    embeddings, codes = [], []
    state, code_state = codec.init_encode_state(1), codec.init_encode_state(1)
    for at in range(0, FRAMES * HOP, chunk * HOP):
        block = audio[..., at : at + chunk * HOP]
        embedding, state = codec.encoder.step(block, state, None)
        code, code_state = codec.encode_step(block, code_state)
        embeddings.append(embedding)
        codes.append(code)
    late = codec.encode_latency // HOP
    expected = package.encoder(audio)[..., : FRAMES - late]
    assert largest_difference(torch.cat(embeddings, -1)[..., late:], expected) < 1e-5
    [(expected_codes, _)] = package.encode(audio)
    assert torch.equal(torch.cat(codes, -1)[..., late:], expected_codes[..., : FRAMES - late])


@torch.no_grad()
@pytest.mark.parametrize("chunk", CHUNKS)
def test_decoding_in_chunks_is_the_package(codec: EncodecStream, package: Any, chunk: int) -> None:
    codes = torch.randint(0, 1024, (1, 8, FRAMES), generator=torch.Generator().manual_seed(1))
    audio, state = [], codec.init_decode_state(1)
    for at in range(0, FRAMES, chunk):
        part, state = codec.decode_step(codes[..., at : at + chunk], state)
        assert part.shape == (1, 1, chunk * HOP)
        audio.append(part)
    expected = package.decode([(codes, None)])
    late = codec.decode_latency
    assert float(expected.abs().max()) > 0.01
    assert largest_difference(torch.cat(audio, -1)[..., late:], expected[..., : expected.shape[-1] - late]) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("chunk", [START_FRAMES, 8, 25])
def test_without_holding_back_long_first_blocks_come_out_at_once(checkpoint: Path, package: Any, chunk: int) -> None:
    codec = EncodecStream.from_checkpoint(checkpoint, hold_frames=0)
    assert codec.decode_latency == codec.encode_latency == 0
    codes = torch.randint(0, 1024, (1, 8, 50), generator=torch.Generator().manual_seed(1))
    first, state = codec.decode_step(codes[..., :chunk], codec.init_decode_state(1))
    rest, _ = codec.decode_step(codes[..., chunk:], state)
    assert largest_difference(torch.cat([first, rest], -1), package.decode([(codes, None)])) < 1e-5
    audio = sound(1, 50 * HOP)
    early, state = codec.encode_step(audio[..., : chunk * HOP], codec.init_encode_state(1))
    late, _ = codec.encode_step(audio[..., chunk * HOP :], state)
    assert torch.equal(torch.cat([early, late], -1), package.encode(audio)[0][0])


def test_without_holding_back_a_short_first_block_is_refused(checkpoint: Path) -> None:
    codec = EncodecStream.from_checkpoint(checkpoint, hold_frames=0)
    with pytest.raises(ValueError, match="began with 6 frames: with hold_frames=0 give at least 7"):
        codec.decode_step(torch.zeros(1, 8, 6, dtype=torch.int64), codec.init_decode_state(1))


def test_the_first_frames_depend_on_what_follows_them(codec: EncodecStream) -> None:
    """The trap that holding back is for: fewer frames would start differently."""
    codes = torch.randint(0, 1024, (1, 8, 20), generator=torch.Generator().manual_seed(2))
    whole = codec.decode(codes)
    enough = codec.decode(codes[..., :START_FRAMES])
    short = codec.decode(codes[..., : START_FRAMES - 1])
    assert largest_difference(enough, whole[..., : enough.shape[-1]]) < 1e-5
    assert largest_difference(short, whole[..., : short.shape[-1]]) > 1e-5


def test_the_encoder_keeps_the_contract(codec: EncodecStream) -> None:
    verify_streaming_contract(Encoding(codec), lambda rows, steps: 0.3 * torch.randn(rows, 1, steps), blocks=16)


def test_the_decoder_keeps_the_contract(codec: EncodecStream) -> None:
    verify_streaming_contract(Decoding(codec), lambda rows, steps: torch.randint(0, 1024, (rows, 8, steps)), blocks=16)


def test_rows_may_start_at_different_times(codec: EncodecStream) -> None:
    codes = torch.randint(0, 1024, (2, 8, 30), generator=torch.Generator().manual_seed(3))
    state = codec.init_decode_state(2)
    _, state = codec.decode_step(codes[..., :10], state, torch.tensor([True, False]))
    both, _ = codec.decode_step(codes[..., 10:], state)
    late = HELD_FRAMES * HOP
    assert largest_difference(both[0, :, late:], codec.decode(codes[:1])[0, :, 10 * HOP : -late]) < 1e-5
    assert largest_difference(both[1, :, late:], codec.decode(codes[1:, :, 10:])[0, :, :-late]) < 1e-5


def test_the_layout_is_the_packages(checkpoint: Path) -> None:
    official = torch.load(checkpoint, weights_only=True)
    unused = {"inited", "cluster_size", "embed_avg"}  # the quantiser's training statistics
    assert set(checkpoint_layout()) == {name for name in official if name.rsplit(".", 1)[1] not in unused}
    assert layout_mismatches(official, CODEBOOKS_IN_CHECKPOINT) == []


def test_every_mismatch_is_reported_at_once(checkpoint: Path) -> None:
    tensors = torch.load(checkpoint, weights_only=True)
    del tensors["decoder.model.1.lstm.weight_hh_l1"]
    tensors["encoder.model.0.conv.conv.weight_v"] = torch.zeros(32, 2, 7)
    with pytest.raises(ValueError, match=r"weight_v is \[32, 2, 7\], must be \[32, 1, 7\]; decoder.*is missing"):
        EncodecStream(tensors)


@pytest.mark.parametrize("codebooks", [0, 33])
def test_impossible_numbers_of_codebooks_are_refused(codebooks: int) -> None:
    with pytest.raises(ValueError, match="EnCodec 24 kHz has 1 to 32"):
        EncodecStream({}, codebooks)
