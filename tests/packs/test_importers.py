"""Official checkpoints become packs; what does not fit is reported all at once, and no pickled code runs."""

import argparse
import pickle
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from backline.codecs.encodec import EncodecStream
from backline.codecs.hubert import HubertConfig, HubertEncoder, hubert_layout
from backline.models.errors import PackError
from backline.packs.importers.checkpoint import read_checkpoint
from backline.packs.importers.encodec import import_encodec, read_encodec
from backline.packs.importers.hubert import read_hubert
from backline.packs.pack import load_stream, read_pack, read_tensors
from tests.support.encodec_checkpoint import write_official_layout

TINY = HubertConfig(
    layers=2, dimension=32, heads=4, feed_forward=64, conv_channels=16, position_kernel=16, position_groups=4
)


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_official_layout(tmp_path_factory.mktemp("official") / "encodec_24khz.th")


def test_an_official_encodec_becomes_a_pack_that_plays(official: Path, tmp_path: Path) -> None:
    imported = import_encodec(official, tmp_path / "encodec-24khz")
    pack = read_pack(tmp_path / "encodec-24khz")
    assert pack == imported.pack
    assert pack.family == "codec"
    assert "6 kbit/s" in pack.description
    assert load_stream(pack).spec == pack.spec()
    kept = {name.removeprefix("codec."): tensor for name, tensor in read_tensors(pack).items()}
    codes = torch.randint(0, 1024, (1, 8, 10), generator=torch.Generator().manual_seed(0))
    assert torch.equal(EncodecStream(kept).decode(codes), EncodecStream.from_checkpoint(official).decode(codes))


def test_codebooks_beyond_those_wanted_are_left_out(official: Path) -> None:
    component = read_encodec(official, codebooks=4)
    assert component.table["codebooks"] == 4
    assert sum(name.endswith("embed") for name in component.tensors) == 4


def test_a_file_other_than_the_official_one_is_imported_with_a_warning(official: Path) -> None:
    [warning] = read_encodec(official).warnings
    assert re.search(r"encodec_24khz.th is not the official EnCodec 24 kHz checkpoint .*d7cc33bc", warning)


def test_every_mismatch_is_reported_at_once(official: Path, tmp_path: Path) -> None:
    tensors = torch.load(official, weights_only=True)
    del tensors["decoder.model.1.lstm.weight_hh_l1"]
    tensors["encoder.model.0.conv.conv.weight_v"] = torch.zeros(32, 2, 7)
    tensors["encoder.model.99.conv.conv.bias"] = torch.zeros(3)
    torch.save(tensors, tmp_path / "damaged.th")
    with pytest.raises(PackError) as caught:
        import_encodec(tmp_path / "damaged.th", tmp_path / "pack")
    assert set(caught.value.problems) >= {
        "decoder.model.1.lstm.weight_hh_l1 [2048, 512] is missing",
        "encoder.model.0.conv.conv.weight_v is [32, 2, 7], must be [32, 1, 7]",
        "encoder.model.99.conv.conv.bias is not part of EnCodec 24 kHz",
    }
    assert not (tmp_path / "pack").exists()


class Malicious:
    """A pickle of this runs code when it is read."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('ran')",)


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    torch.save({"encoder": Malicious()}, tmp_path / "evil.th")
    (tmp_path / "plain.th").write_bytes(pickle.dumps({"encoder": Malicious()}, protocol=2))
    for name in ("evil.th", "plain.th"):
        with pytest.raises(PackError, match="objects other than tensors, which may run code"):
            read_checkpoint(tmp_path / name)


@pytest.mark.parametrize(
    "hollow",
    [torch.zeros(1).expand(1 << 40), torch.zeros(3, device="meta"), torch.zeros(3).to_sparse()],
    ids=["of one number", "of none", "sparse"],
)
def test_tensors_that_a_file_only_says_it_has_are_refused(tmp_path: Path, hollow: torch.Tensor) -> None:
    """A file of a kilobyte would fill memory and disk."""
    torch.save({"whole": torch.zeros(2, 2)[:, 1], "w": hollow}, tmp_path / "hollow.th")
    with pytest.raises(PackError, match="holds less of w than"):
        read_checkpoint(tmp_path / "hollow.th")


def test_settings_beside_the_tensors_are_harmless(tmp_path: Path) -> None:
    content = {"model_state": {"a": torch.ones(2)}, "global_step": 7, "args": argparse.Namespace(width=512, name="x")}
    torch.save(content, tmp_path / "trained.pt")
    assert torch.equal(read_checkpoint(tmp_path / "trained.pt")["a"], torch.ones(2))


@pytest.mark.parametrize("zipped", [True, False])
def test_other_objects_are_refused_by_their_names(tmp_path: Path, zipped: bool) -> None:
    content = {"model_state": {"a": torch.ones(2)}, "config": Fraction(1, 2), "evil": Malicious()}
    torch.save(content, tmp_path / "trained.pt", _use_new_zipfile_serialization=zipped)
    named = r"\w+\.exec, fractions.Fraction" if zipped else "fractions.Fraction"
    with pytest.raises(PackError, match=rf"not read \(.*{named}\): .* save its tensors alone"):
        read_checkpoint(tmp_path / "trained.pt")


def test_files_that_are_no_checkpoint_are_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="there is no such file"):
        read_checkpoint(tmp_path / "absent.th")
    (tmp_path / "noise.th").write_bytes(b"\x00\x01\x02\x03" * 100)
    with pytest.raises(PackError):
        read_checkpoint(tmp_path / "noise.th")
    (tmp_path / "noise.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(PackError, match="is no torch or safetensors file"):
        read_checkpoint(tmp_path / "noise.safetensors")
    torch.save({"step": 3}, tmp_path / "empty.th")
    with pytest.raises(PackError, match="holds no tensors by name"):
        read_checkpoint(tmp_path / "empty.th")


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state", "model"])
def test_what_trainers_wrap_around_the_tensors_is_taken_off(tmp_path: Path, wrapper: str) -> None:
    torch.save({wrapper: {"a.weight": torch.ones(2)}, "global_step": 7}, tmp_path / "wrapped.pt")
    assert list(read_checkpoint(tmp_path / "wrapped.pt")) == ["a.weight"]


def hubert_file(folder: Path) -> Path:
    torch.manual_seed(0)
    tensors = {name: 0.1 * torch.randn(shape) for name, shape in hubert_layout(TINY).items()}
    tensors["encoder.transformer.layers.2.final_layer_norm.bias"] = torch.zeros(32)  # above the layer in use
    torch.save(tensors, folder / "hubert.pth")
    return folder / "hubert.pth"


@pytest.mark.parametrize("kind", ["npy", "safetensors"])
def test_hubert_and_its_centroids_become_a_front_end(tmp_path: Path, kind: str) -> None:
    centroids = torch.randn(20, 32, generator=torch.Generator().manual_seed(1))
    file = tmp_path / f"centroids.{kind}"
    if kind == "npy":
        np.save(file, centroids.numpy())
    else:
        save_file({"centroids": centroids}, file)
    component = read_hubert(hubert_file(tmp_path), file, TINY)
    assert component.table["kind"] == "hubert"
    assert component.table["vocabulary"] == 20
    assert not any("transformer.layers.2." in name for name in component.tensors)
    tensors = {name.removeprefix("semantics.hubert."): tensor for name, tensor in component.tensors.items()}
    encoder = HubertEncoder(tensors, tensors["centroids"], TINY)
    assert encoder.encode(torch.randn(1, 1, 3200)).shape == (1, 10)


def test_centroids_of_another_kind_are_refused(tmp_path: Path) -> None:
    file = hubert_file(tmp_path)
    np.save(tmp_path / "wide.npy", np.zeros((20, 33), np.float32))
    with pytest.raises(PackError, match=r"\[20, 33\], must be floats \[token, 32\]"):
        read_hubert(file, tmp_path / "wide.npy", TINY)
    np.save(tmp_path / "objects.npy", np.array([Malicious()], dtype=object))
    with pytest.raises(PackError, match="cannot be read"):
        read_hubert(file, tmp_path / "objects.npy", TINY)
    with pytest.raises(PackError, match=r"'.bin' centroids are not read: save them as .npy or .safetensors"):
        read_hubert(file, tmp_path / "km.bin", TINY)


def test_another_network_is_refused_with_all_that_differs(tmp_path: Path) -> None:
    np.save(tmp_path / "c.npy", np.zeros((20, 32), np.float32))
    with pytest.raises(PackError, match=r"is \[32\], must be \[64\]") as caught:
        read_hubert(hubert_file(tmp_path), tmp_path / "c.npy", HubertConfig(**{**TINY.to_table(), "dimension": 64}))
    assert len(caught.value.problems) > 10
