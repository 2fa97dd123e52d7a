"""The published HCodec 2.0 becomes a pack that plays; what is none, older versions above all, is refused clearly."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from backline.codecs.hcodec.load import hcodec
from backline.models import families
from backline.models.errors import PackError
from backline.models.stream import ChunkInput, SessionConfig
from backline.models.through_codec import load_codec
from backline.packs.importers.hcodec import import_hcodec, read_hcodec
from backline.packs.pack import load_stream, read_pack, read_tensors
from tests.support.hcodec_checkpoint import (
    CODEBOOKS,
    ENTRIES,
    HUBERT,
    hubert_checkpoint,
    noise,
    published_checkpoint,
    write_hubert_base,
    write_published_layout,
)

FRAME = Fraction(2, 25)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_published_layout(tmp_path_factory.mktemp("published") / "large_12.5hz_weights.pt")


@pytest.fixture(scope="module")
def hearing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose semantic path hears as many features as HUBERT gives."""
    tensors = published_checkpoint()
    tensors["semantic_encoder.conv.conv.weight"] = noise(1, 0.1, 20, HUBERT.dimension, 3)
    tensors["semantic_decoder.conv2.conv.weight"] = noise(2, 0.1, HUBERT.dimension, 20, 3)
    file = tmp_path_factory.mktemp("hearing") / "weights.pt"
    torch.save(tensors, file)
    return file


@pytest.fixture(scope="module")
def hubert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hubert_base(tmp_path_factory.mktemp("hubert") / "pytorch_model.bin")


def test_the_published_codec_becomes_a_pack_that_plays(hearing: Path, hubert: Path, tmp_path: Path) -> None:
    imported = import_hcodec(hearing, tmp_path / "hcodec", hubert)
    pack = read_pack(tmp_path / "hcodec")
    assert pack == imported.pack
    assert "48 kHz" in pack.description
    stream = load_stream(pack)
    assert stream.spec == pack.spec() == families.describe(pack.config)
    row = stream.open(SessionConfig(48_000, 1, 6 * FRAME, float(6 * FRAME), seed=0))
    audio = noise(0, 0.2, 1, stream.required_input(row)).numpy()
    (output,) = stream.step([ChunkInput(row, audio, None, {})])
    assert output.audio[0].shape == (1, 6 * 3840)
    assert np.abs(output.audio[0]).max() > 0.01
    assert output.frames is not None
    assert output.frames.shape == (6, 2 * CODEBOOKS)


def test_sizes_are_those_of_the_tensors(published: Path) -> None:
    table = read_hcodec(published).table
    expected = {"kind": "hcodec", "width": 128, "encoder_blocks": 2, "decoder_blocks": 3, "transformer_layers": 2}
    expected |= {
        "codebooks": CODEBOOKS,
        "codebook_size": ENTRIES,
        "hop": 960,
        "frames_per_code": 4,
        "features": "hubert",
    }
    assert expected.items() <= table.items()


def test_statistics_of_training_are_left_out(published: Path) -> None:
    component = read_hcodec(published)
    assert len(component.tensors) < len(published_checkpoint())
    assert component.tensors["codec.quantizers.semantic.codebooks"].shape == (CODEBOOKS, ENTRIES, 16)
    assert not any("embed_avg" in name or "window" in name for name in component.tensors)


def test_a_decoder_alone_decodes_the_same(published: Path) -> None:
    whole, decoder = read_hcodec(published), read_hcodec(published, decoder_only=True)
    codes = torch.randint(0, ENTRIES, (1, 2, CODEBOOKS, 5), generator=torch.Generator().manual_seed(0))
    found = hcodec(decoder.table, decoder.tensors).requires_grad_(False).decode(codes)
    assert torch.equal(found, hcodec(whole.table, whole.tensors).requires_grad_(False).decode(codes))
    assert {name.split(".")[1] for name in decoder.tensors} == {"decoder", "quantizers"}
    with pytest.raises(ValueError, match="only decodes"):
        load_codec(decoder.table, decoder.tensors, "cpu")


def test_every_mismatch_is_reported_at_once_by_the_names_in_the_file(published: Path, tmp_path: Path) -> None:
    tensors = published_checkpoint()
    del tensors["decoder.prior_net.3.layers.0.self_attn.rnn.weight_hh_l0"]
    del tensors["quantizer.layers.1._codebook.embed"]
    tensors["encoder.out.conv.weight"] = torch.zeros(16, 128, 7)
    tensors["decoder.prior_net.8.weight"] = torch.zeros(3)
    tensors["decoder.head.istft.window"] = torch.ones(1920)
    torch.save(tensors, tmp_path / "damaged.pt")
    with pytest.raises(PackError) as caught:
        import_hcodec(tmp_path / "damaged.pt", tmp_path / "pack", tmp_path / "never-read")
    assert set(caught.value.problems) == {
        "decoder.prior_net.3.layers.0.self_attn.rnn.weight_hh_l0 [512, 128] is missing",
        "quantizer.layers.1._codebook.embed [1, 32, 16] is missing",
        "encoder.out.conv.weight is [16, 128, 7], must be [16, 128, 9]",
        "decoder.prior_net.8.weight is not part of HCodec 2.0",
        "decoder.head.istft.window is no Hann window of 1920 samples",
        "give large_12.5hz_weights.pt of QuarkAudio/H-Codec-2.0",
    }
    assert not (tmp_path / "pack").exists()


@pytest.mark.parametrize(
    ("version", "names"),
    [
        ("1.5", ["encoder.model.0.conv.conv.weight_v", "acoustic_aggregator.transformer.layers.0.norm1.weight"]),
        ("1.5", ["generator.bottleneck_transformer.transformer.layers.0.linear1.weight"]),
        ("1.0", ["encoder.model.0.conv.conv.weight_v", "quantizer.layers.0._codebook.embed"]),
    ],
)
def test_older_versions_are_refused_by_name(tmp_path: Path, version: str, names: list[str]) -> None:
    file = tmp_path / "hcode_1.5_adaptive_4+4.pt"
    torch.save({name: torch.zeros(2) for name in names}, file)
    with pytest.raises(PackError, match=rf"HCodec {version} .*give large_12.5hz_weights.pt of QuarkAudio/H-Codec-2.0"):
        read_hcodec(file)


def test_another_hubert_is_refused_with_all_that_differs(hearing: Path, published: Path, tmp_path: Path) -> None:
    tensors = hubert_checkpoint()
    del tensors["encoder.layers.1.attention.k_proj.bias"]
    tensors["encoder.layer_norm.bias"] = torch.zeros(3)
    torch.save(tensors, tmp_path / "damaged.bin")
    with pytest.raises(PackError) as caught:
        read_hcodec(hearing, tmp_path / "damaged.bin")
    message = str(caught.value)
    assert "encoder.transformer.layers.1.attention.k_proj.bias [128] is missing" in message
    assert "encoder.transformer.layer_norm.bias is [3], must be [128]" in message
    assert "give the weights of bosonai/hubert_base" in message
    with pytest.raises(PackError, match="its states are 128 wide, 24 are to be heard"):
        read_hcodec(published, write_hubert_base(tmp_path / "narrow.bin"))


def test_a_pack_holds_what_was_imported(hearing: Path, hubert: Path, tmp_path: Path) -> None:
    pack = import_hcodec(hearing, tmp_path / "hcodec", hubert).pack
    component = read_hcodec(hearing, hubert)
    stored = read_tensors(pack)
    assert stored.keys() == component.tensors.keys()
    assert all(torch.equal(stored[name], tensor) for name, tensor in component.tensors.items())
