"""A codec as a model of its own: in place, however it is chunked, and what the codec gives for the whole signal."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from backline.codecs.base import Codec
from backline.codecs.convnext import ConvNeXtCodec, ConvNeXtCodecConfig
from backline.codecs.encodec import EncodecStream
from backline.models import families
from backline.models.errors import PackError
from backline.models.stream import Audio, ChunkInput, SessionConfig
from backline.models.through_codec import CodecStream, load
from tests.support.encodec_checkpoint import write_official_layout

SMALL = ConvNeXtCodecConfig(latent=16, encoder_width=16, encoder_blocks=1, decoder_width=16, decoder_blocks=1)
FRAME = Fraction(1, 75)


@pytest.fixture(scope="module", params=["convnext", "encodec"])
def codec(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Codec:
    if request.param == "encodec":
        return EncodecStream.from_checkpoint(write_official_layout(tmp_path_factory.mktemp("codec") / "encodec.th"))
    torch.manual_seed(0)
    return ConvNeXtCodec(SMALL).eval().requires_grad_(False)


def noise(samples: int) -> Audio:
    return (0.2 * np.random.default_rng(1).standard_normal((1, samples))).astype(np.float32)


def play(codec: Codec, audio: Audio, chunk_frames: int, visibility: float | None = None) -> tuple[Audio, Audio]:
    """All chunks whose input lies within `audio`, and their codec frames; checks that each follows the last."""
    stream = CodecStream(codec, "cpu", 0)
    chunk = chunk_frames * FRAME
    row = stream.open(SessionConfig(24_000, 1, chunk, float(chunk) if visibility is None else visibility, seed=0))
    given, position, blocks, frames = 0, 0, [], []
    while (required := max(given, stream.required_input(row))) <= audio.shape[1]:
        (output,) = stream.step([ChunkInput(row, audio[:, given:required], None, {})])
        given = required
        assert output.position == position
        assert output.first_frame * codec.hop == position
        assert output.frames is not None
        assert output.frames.shape == (chunk_frames, codec.codebooks)
        position += output.audio[0].shape[1]
        blocks.append(output.audio[0])
        frames.append(output.frames)
    return np.concatenate(blocks, 1), np.concatenate(frames)


@pytest.mark.parametrize("chunk_frames", [1, 3, 6, 60])
def test_any_chunk_gives_what_the_whole_signal_gives(codec: Codec, chunk_frames: int) -> None:
    audio = noise(24_000 * 2)
    found, frames = play(codec, audio, chunk_frames)
    whole = torch.from_numpy(audio)[None]
    codes = codec.encode(whole)
    expected = codec.decode(codes)[0].numpy()[:, : found.shape[1]]
    settled = found.shape[1] - codec.decode_latency  # a cut signal's end is decoded without what follows
    assert settled > 24_000 // 2
    assert np.abs(found[:, :settled] - expected[:, :settled]).max() < 1e-5
    assert np.array_equal(frames, codes[0].T.numpy()[: len(frames)])


def test_input_beyond_the_visibility_is_silent(codec: Codec) -> None:
    audio = noise(24_000)
    heard, _ = play(codec, audio, 6, visibility=-2.0 * codec.decode_latency / 24_000 - 1)
    silent, _ = play(codec, np.zeros_like(audio), 6)
    length = min(heard.shape[1], silent.shape[1])
    assert np.array_equal(heard[:, : length // 4], silent[:, : length // 4])


def test_a_pack_of_the_default_codec_plays() -> None:
    torch.manual_seed(0)
    tensors = {f"codec.{name}": tensor for name, tensor in ConvNeXtCodec(SMALL).state_dict().items()}
    config = {"name": "small", "family": "codec", "codec": {"kind": "convnext", **vars(SMALL)}}
    stream = load(config, tensors, "cpu")
    assert stream.spec == families.describe(config)
    assert stream.resident_bytes() > 0
    assert stream.warm_up(SessionConfig(48_000, 1, 6 * FRAME, float(6 * FRAME), seed=0)) > 0


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(PackError, match="kind is 'vocoder': use one of convnext, encodec"):
        load({"name": "x", "codec": {"kind": "vocoder"}}, {}, "cpu")
    with pytest.raises(PackError, match=r"encoder.model.0.conv.conv.bias \[32\] is missing"):
        load({"name": "x", "codec": {"kind": "encodec"}}, {}, "cpu")


def test_chunks_are_whole_frames(codec: Codec) -> None:
    with pytest.raises(ValueError, match=r"1/100 s is no whole number of frames of 1/75 s"):
        CodecStream(codec, "cpu", 0).open(SessionConfig(24_000, 1, Fraction(1, 100), 0.01, seed=0))


def test_more_sessions_than_rows_are_refused(codec: Codec) -> None:
    stream = CodecStream(codec, "cpu", 0)
    config = SessionConfig(24_000, 1, 6 * FRAME, 0.08, seed=0)
    rows = [stream.open(config) for _ in range(stream.capacity)]
    with pytest.raises(RuntimeError, match="all 16 rows"):
        stream.open(config)
    stream.close(rows[3])
    assert stream.open(config) == rows[3]
